/** Tables over HTTP (OpenAPI: `/v1/{prefix}/namespaces/{namespace}/tables…`, `/v1/{prefix}/tables/rename`, `/v1/{prefix}/transactions/commit`). */
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { Node } from "@voltlake/iceberg/Json"
import { encode as encodeJson } from "@voltlake/iceberg/Json"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as TableMetadataJson from "@voltlake/iceberg/TableMetadataJson"
import { Tables } from "@voltlake/iceberg/Tables"
import type { TableUpdate } from "@voltlake/iceberg/TableUpdate"
import { decodeRequirement, decodeUpdate } from "@voltlake/iceberg/TableUpdateJson"
import type { ClientProperties } from "./CatalogSettings.ts"
import * as Exchange from "./Exchange.ts"
import { badRequest } from "./Fault.ts"
import * as Names from "./Names.ts"
import * as NewTable from "./NewTable.ts"
import * as TableCommit from "./TableCommit.ts"
import * as TableCreation from "./TableCreation.ts"
import * as TableRemoval from "./TableRemoval.ts"

interface Loaded {
  readonly metadata: TableMetadata
  /** None of a table that is only staged. */
  readonly metadataLocation: string | undefined
}

/** What the metadata's own text says stays as it is, 64-bit integers included. */
const tableText = ({ metadata, metadataLocation }: Loaded, more = "") => {
  const location = metadataLocation === undefined ? "" : `"metadata-location":${encodeJson(metadataLocation)},`
  return `{${location}"metadata":${TableMetadataJson.encode(metadata)}${more}}`
}

export const propertiesFor = (client: ClientProperties) =>
  Effect.map(Exchange.Admitted, ({ bearsToken }) => (bearsToken ? { ...client.open, ...client.secret } : client.open))

const loaded = (table: Loaded, client: ClientProperties) =>
  Effect.map(propertiesFor(client), (properties) => Exchange.text(tableText(table, `,"config":${encodeJson(properties)}`)))

const list = Effect.gen(function*() {
  const catalog = yield* Catalog
  const namespace = yield* Exchange.namespace
  yield* catalog.namespaceProperties(namespace)
  const all = (yield* catalog.list).filter((table) => table.namespace === namespace)
  const { items, next } = yield* Names.page(all, ({ name }) => name, yield* Exchange.pageAsked)
  return Exchange.json({ identifiers: items.map(Names.identifierJson), "next-page-token": next ?? null })
})

/** There are none; for clients that ask all the same. */
const listViews = Effect.gen(function*() {
  yield* (yield* Catalog).namespaceProperties(yield* Exchange.namespace)
  return Exchange.json({ identifiers: [], "next-page-token": null })
})

const create = (client: ClientProperties) =>
  Effect.gen(function*() {
    const namespace = yield* Exchange.namespace
    const asked = yield* Exchange.body(NewTable.decode)
    return yield* loaded(yield* TableCreation.create(namespace, asked), client)
  })

const readRegistration = (root: Node) => ({
  name: root.at("name").string(),
  metadataLocation: root.at("metadata-location").string(),
  overwrite: root.at("overwrite").optional((node) => node.boolean()) ?? false
})

const register = (client: ClientProperties) =>
  Effect.gen(function*() {
    const namespace = yield* Exchange.namespace
    const { metadataLocation, name, overwrite } = yield* Exchange.body(readRegistration)
    if (overwrite) return yield* badRequest("a table that is there is not registered over: drop it first")
    return yield* loaded(yield* TableCreation.register(namespace, name, metadataLocation), client)
  })

/** Snapshots that a branch or a tag names. */
const onlyNamed = (metadata: TableMetadata): TableMetadata => {
  const named = new Set(Object.values(metadata.refs).map(({ snapshotId }) => snapshotId))
  return { ...metadata, snapshots: metadata.snapshots.filter(({ snapshotId }) => named.has(snapshotId)) }
}

/** A metadata file never changes, so its name stands for what it holds. */
const etagOf = (metadataLocation: string, mode: string) => `"${createHash("sha256").update(`${mode} ${metadataLocation}`).digest("hex")}"`

const load = (client: ClientProperties) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const mode = (yield* Exchange.query("snapshots")) ?? "all"
    if (mode !== "all" && mode !== "refs") return yield* badRequest(`snapshots is all or refs, not ${mode}`)
    const { metadata, metadataLocation } = yield* (yield* Tables).load(yield* Exchange.table)
    const etag = etagOf(metadataLocation, mode)
    if (request.headers["if-none-match"] === etag) return HttpServerResponse.empty({ status: 304, headers: { etag } })
    const shown = mode === "all" ? metadata : onlyNamed(metadata)
    return HttpServerResponse.setHeader(yield* loaded({ metadata: shown, metadataLocation }, client), "etag", etag)
  })

const exists = Effect.gen(function*() {
  yield* (yield* Catalog).metadataLocation(yield* Exchange.table)
  return Exchange.nothing
})

const drop = Effect.gen(function*() {
  const purge = (yield* Exchange.query("purgeRequested"))?.toLowerCase() === "true"
  yield* TableRemoval.drop(yield* Exchange.table, purge)
  return Exchange.nothing
})

const rename = Effect.gen(function*() {
  const { from, to } = yield* Exchange.body((root) => ({
    from: Names.identifierOfBody(root.at("source")),
    to: { namespace: Names.namespaceOfBody(root.at("destination").at("namespace")), name: root.at("destination").at("name").string() }
  }))
  yield* TableRemoval.rename(yield* from, { namespace: yield* to.namespace, name: to.name })
  return Exchange.nothing
})

/** `last-column-id` is deprecated: what clients send is the new schema's own, and the table knows better. */
const readUpdate = (node: Node): TableUpdate => {
  const update = decodeUpdate(node)
  return update.action === "add-schema" ? { ...update, lastColumnId: undefined } : update
}

const readCommit = (root: Node) => ({
  requirements: root.at("requirements").list(decodeRequirement),
  updates: root.at("updates").items().map(readUpdate)
})

const isCreation = ({ requirements }: Pick<TableCommit.TableCommit, "requirements">) =>
  requirements.some((requirement) => requirement.type === "assert-create")

const commit = Effect.gen(function*() {
  const asked = { table: yield* Exchange.table, ...yield* Exchange.body(readCommit) }
  if (isCreation(asked)) return Exchange.text(tableText(yield* TableCreation.commit(asked)))
  const [committed] = yield* TableCommit.commit([asked])
  return Exchange.text(tableText(committed!))
})

const commitMany = Effect.gen(function*() {
  const asked = yield* Exchange.body((root) =>
    root.at("table-changes").items().map((node) => ({ identifier: Names.identifierOfBody(node.at("identifier")), ...readCommit(node) })))
  const commits = yield* Effect.forEach(asked, ({ identifier, ...change }) => Effect.map(identifier, (table) => ({ table, ...change })))
  if (commits.length === 0) return yield* badRequest("a transaction changes a table")
  if (new Set(commits.map(({ table }) => render(table))).size < commits.length) return yield* badRequest("a transaction names each table once")
  if (commits.some(isCreation)) return yield* badRequest("a transaction over several tables makes none: create tables by themselves")
  yield* TableCommit.commit(commits)
  return Exchange.nothing
})

const report = Effect.gen(function*() {
  const table = yield* Exchange.table
  const { metrics, type } = yield* Exchange.body((root) => ({ type: root.at("report-type").string(), metrics: encodeJson(root.value ?? null) }))
  yield* Effect.logDebug("report of another engine").pipe(Effect.annotateLogs({ table: render(table), type, metrics }))
  return Exchange.nothing
})

export const routes = (client: ClientProperties) =>
  HttpRouter.empty.pipe(
    HttpRouter.get("/v1/namespaces/:namespace/tables", list),
    HttpRouter.post("/v1/namespaces/:namespace/tables", create(client)),
    HttpRouter.post("/v1/namespaces/:namespace/register", register(client)),
    HttpRouter.get("/v1/namespaces/:namespace/tables/:table", load(client)),
    HttpRouter.head("/v1/namespaces/:namespace/tables/:table", exists),
    HttpRouter.post("/v1/namespaces/:namespace/tables/:table", commit),
    HttpRouter.del("/v1/namespaces/:namespace/tables/:table", drop),
    HttpRouter.post("/v1/namespaces/:namespace/tables/:table/metrics", report),
    HttpRouter.post("/v1/tables/rename", rename),
    HttpRouter.post("/v1/transactions/commit", commitMany),
    HttpRouter.get("/v1/namespaces/:namespace/views", listViews)
  )

export const endpoints = [
  "GET /v1/{prefix}/namespaces/{namespace}/tables",
  "POST /v1/{prefix}/namespaces/{namespace}/tables",
  "POST /v1/{prefix}/namespaces/{namespace}/register",
  "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
  "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
  "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
  "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
  "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
  "POST /v1/{prefix}/tables/rename",
  "POST /v1/{prefix}/transactions/commit"
]
