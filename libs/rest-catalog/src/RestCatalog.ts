/**
 * Iceberg's REST catalog (Apache Iceberg: `rest-catalog-open-api.yaml`) over the lake's own catalog, so that other engines open its tables without
 * knowing Voltlake. Tables of the lake are guarded by `OwnTables`; those of other namespaces belong to whoever makes them.
 *
 * Not offered: views, scans planned by the server, tokens by OAuth, credentials for single tables.
 */
import { type HttpApp, HttpRouter, HttpServerRequest } from "@effect/platform"
import { Effect } from "effect"
import type { Catalog } from "@voltlake/iceberg/Catalog"
import type { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { Tables } from "@voltlake/iceberg/Tables"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as CatalogAccess from "./CatalogAccess.ts"
import type { ClientProperties } from "./CatalogSettings.ts"
import * as Exchange from "./Exchange.ts"
import { Fault, faultOf } from "./Fault.ts"
import * as NamespaceRoutes from "./NamespaceRoutes.ts"
import * as TableRoutes from "./TableRoutes.ts"

/** Where the console has it: clients are given `http://host:port/catalog`. */
export const mountPath = "/catalog"

export interface RestCatalogSettings {
  readonly tokens: CatalogAccess.Tokens
  readonly client: ClientProperties
}

const tokenPath = "/v1/oauth/tokens"

const endpoints = [...NamespaceRoutes.endpoints, ...TableRoutes.endpoints]

/** One warehouse, whatever the client calls it. */
const config = (client: ClientProperties) =>
  Effect.map(TableRoutes.propertiesFor(client), (defaults) => Exchange.json({ defaults, overrides: {}, endpoints }))

/** In OAuth's own form of errors. */
const noTokens = Exchange.json({
  error: "unsupported_grant_type",
  error_description: "this catalog gives no tokens: set the property token of the client to CATALOG_READ_TOKEN or CATALOG_WRITE_TOKEN instead of credential"
}, 400)

const router = (client: ClientProperties) =>
  HttpRouter.concatAll(
    HttpRouter.empty.pipe(HttpRouter.get("/v1/config", config(client))),
    NamespaceRoutes.routes,
    TableRoutes.routes(client)
  )

const parameterLengthMax = 1000

const routed = (client: ClientProperties) =>
  HttpRouter.toHttpApp(router(client)).pipe(
    HttpRouter.withRouterConfig({ caseSensitive: true, ignoreDuplicateSlashes: false, maxParamLength: parameterLengthMax })
  )

const notOffered = (method: string, path: string) =>
  new Fault({ status: 404, type: "NotFoundException", reason: `${method} ${path} is not offered by this catalog, see endpoints in /v1/config` })

const admitted = ({ tokens }: RestCatalogSettings, request: HttpServerRequest.HttpServerRequest, path: string) =>
  CatalogAccess.admit({
    method: request.method,
    path,
    authorization: request.headers["authorization"],
    origin: request.headers["origin"],
    host: request.headers["host"]
  }, tokens)

/** What clients did wrong is theirs to see. */
const note = ({ reason, status, type }: Fault) =>
  status < 500 ? Effect.void : Effect.logWarning("catalog request failed").pipe(Effect.annotateLogs({ type, reason }))

type Parts = Catalog | Tables | TableFiles | ObjectStore

/** The catalog as an app whose paths begin with `/v1`. */
export const make = Effect.fn("RestCatalog.make")(function*(settings: RestCatalogSettings) {
  const parts = yield* Effect.context<Parts>()
  const routes = yield* routed(settings.client)
  const app: HttpApp.Default = Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const path = request.url.split("?")[0] ?? "/"
    if (request.method === "POST" && path === tokenPath) return noTokens
    const admission = yield* admitted(settings, request, path)
    return yield* routes.pipe(
      Effect.provideService(Exchange.Admitted, admission),
      Effect.catchTag("RouteNotFound", () => notOffered(request.method, path))
    )
  }).pipe(
    Effect.mapError(faultOf),
    Effect.catchAll((fault) => Effect.as(note(fault), Exchange.fault(fault))),
    Effect.catchAllDefect((defect) =>
      Effect.as(
        Effect.logError("catalog request failed", defect),
        Exchange.fault(new Fault({ status: 500, type: "CommitStateUnknownException", reason: "the catalog failed; its log says why" }))
      )
    ),
    Effect.provide(parts)
  )
  return app
})
