/**
 * The console's HTTP server: the API of `@voltlake/api`, its OpenAPI document, the page, and the REST catalog for other engines.
 *
 * Who may use it, `Access` says.
 */
import { FileSystem, HttpApiBuilder, HttpApp, HttpServer, HttpServerResponse, Path } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Duration, Effect, Layer, type Option, type Redacted, Schedule, Schema, Stream } from "effect"
import { createServer } from "node:http"
import { chartMinutesDefault, Dashboard, LakeApi } from "@voltlake/api/LakeApi"
import { LakeUnavailable } from "@voltlake/api/LakeUnavailable"
import { goldChannel } from "@voltlake/gold/Gold"
import * as Notifications from "@voltlake/postgres/Notifications"
import * as RestCatalog from "@voltlake/rest-catalog/RestCatalog"
import * as Access from "./Access.ts"
import * as DashboardQuery from "./DashboardQuery.ts"
import * as Operations from "./Operations.ts"

export interface ConsoleSettings {
  /** Address to listen at, such as 127.0.0.1. */
  readonly host: string
  /** 0 takes any free one. */
  readonly port: number
  /** Needed to get in, where there is one. */
  readonly token: Option.Option<Redacted.Redacted>
  readonly catalog: RestCatalog.RestCatalogSettings
  readonly topic: string
  readonly dags: Operations.Dags
  /** Folder of the built page. */
  readonly pageFolder: string
}

export class PortUnavailable extends Schema.TaggedError<PortUnavailable>()("PortUnavailable", {
  host: Schema.String,
  port: Schema.Number,
  reason: Schema.String
}) {
  override get message() {
    return `cannot listen on ${this.host}:${this.port}: ${this.reason}. Choose another port with --port (0 takes any free one).`
  }
}

const securityHeaders = {
  "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer"
}

/** What `app` answers has been sent by the time it is here: headers are set before. */
const secured = (app: HttpApp.Default): HttpApp.Default =>
  HttpApp.withPreResponseHandler(app, (_, response) => Effect.succeed(HttpServerResponse.setHeaders(response, securityHeaders)))

const unavailable = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) => new LakeUnavailable({ reason: error.message }))

/** At most one message a second, and one every five where gold stands still, so that lag and health stay true. */
const liveEvery = Duration.seconds(1)
const heartbeatEvery = Duration.seconds(5)

const encodeDashboard = Schema.encode(Schema.parseJson(Dashboard))

/** One stream for all viewers: it runs while there are any. */
const liveMessages = (topic: string) =>
  Stream.merge(Notifications.listen(goldChannel), Stream.fromSchedule(Schedule.spaced(heartbeatEvery))).pipe(
    Stream.map(() => undefined),
    Stream.buffer({ capacity: 1, strategy: "sliding" }),
    Stream.mapEffect(() => Effect.zipLeft(DashboardQuery.dashboard(topic, chartMinutesDefault), Effect.sleep(liveEvery))),
    Stream.mapEffect(encodeDashboard),
    Stream.map((text) => `data: ${text}\n\n`),
    Stream.tapError((error) => Effect.logWarning("live messages failed, trying again").pipe(Effect.annotateLogs({ reason: error.message }))),
    Stream.retry(Schedule.spaced(liveEvery))
  )

const handlers = (settings: ConsoleSettings) =>
  HttpApiBuilder.group(LakeApi, "lake", (group) =>
    Effect.gen(function*() {
      const context = yield* Effect.context<LiveContext>()
      const messages = yield* liveMessages(settings.topic).pipe(
        Stream.provideContext(context),
        Stream.share({ capacity: 4, strategy: "sliding", replay: 1 })
      )
      const status = unavailable(DashboardQuery.status(settings.topic))
      return group
        .handle("status", () => status)
        .handle("dashboard", ({ urlParams }) =>
          unavailable(DashboardQuery.dashboard(settings.topic, urlParams.minutes)))
        .handleRaw("live", () =>
          Effect.succeed(HttpServerResponse.stream(Stream.encodeText(messages), {
            contentType: "text/event-stream",
            headers: { "cache-control": "no-store" }
          })))
        .handle("health", () => Effect.succeed({ status: "ok" as const }))
        .handle("ready", () =>
          Effect.flatMap(status, ({ stages }) => {
            const stopped = stages.find((stage) => stage.state === "stopped")
            return stopped === undefined
              ? Effect.succeed({ status: "ready" as const })
              : Effect.fail(new LakeUnavailable({ reason: stopped.reason }))
          }))
    }))

type LiveContext = Stream.Stream.Context<ReturnType<typeof liveMessages>>

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8"
}

/** Serves the page's files by their names, read once: there are three. */
const page = (folder: string) =>
  HttpApiBuilder.Router.use((router) =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      for (const name of ["index.html", "app.js", "app.css"]) {
        const body = yield* fs.readFile(path.join(folder, name))
        const contentType = contentTypes[path.extname(name)]!
        yield* router.get(name === "index.html" ? "/" : `/${name}`, HttpServerResponse.uint8Array(body, { contentType }))
      }
    }))

const catalog = (settings: RestCatalog.RestCatalogSettings) =>
  HttpApiBuilder.Router.use((router) =>
    Effect.flatMap(RestCatalog.make(settings), (app) => router.mountApp(RestCatalog.mountPath, app)))

const portFault = ({ host, port }: ConsoleSettings, cause: unknown): PortUnavailable => {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: "another process uses it",
    EACCES: "this account may not use it",
    EADDRNOTAVAIL: "this machine has no such address, see VOLTLAKE_HOST"
  }
  return new PortUnavailable({ host, port, reason: reasons[code ?? ""] ?? String(cause) })
}

/** Serves until the scope closes; answers the page's address. */
export const serve = Effect.fn("ConsoleServer.serve")(function*(settings: ConsoleSettings) {
  const { host, port, token } = settings
  yield* Access.check(host, token)
  const server = NodeHttpServer.layer(createServer, { host, port })
  const api = HttpApiBuilder.api(LakeApi).pipe(Layer.provide(handlers(settings)), Layer.provide(Operations.handlers(settings.dags)))
  const app = HttpApiBuilder.serve((httpApp) => secured(Access.guard(host, token)(httpApp))).pipe(
    Layer.provide(HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" })),
    Layer.provide(page(settings.pageFolder)),
    Layer.provide(catalog(settings.catalog)),
    Layer.provide(api),
    Layer.provideMerge(server)
  )
  const context = yield* Layer.build(app).pipe(
    Effect.catchTag("ServeError", (error) => Effect.fail(portFault(settings, error.cause)))
  )
  const address = Context.get(context, HttpServer.HttpServer).address
  return address._tag === "TcpAddress" ? `http://${host}:${address.port}` : address.path
})
