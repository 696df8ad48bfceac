import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Logger, LogLevel, Option, Redacted } from "effect"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import type { S3Settings } from "@voltlake/object-store/S3Settings"
import { clientProperties, settingsConfig } from "./CatalogSettings.ts"
import { bodyBytesMax } from "./Exchange.ts"
import * as Client from "./test/Client.ts"

const parts = Tables.layer.pipe(Layer.provideMerge(Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer)))

const [reader, page, writer] = ["token-of-a-reader", "token-of-the-page", "token-of-a-writer"]
const settings = Client.withTokens([reader, page].map((token) => Redacted.make(token)), Option.some(Redacted.make(writer)))

const bearing = (token: string) => ({ authorization: `Bearer ${token}` })
const namespace = { namespace: ["n"] }

describe("who may use the catalog", () => {
  it.live("nobody without a token, where there are any", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make(settings)
      for (const headers of [{}, bearing("token-of-a-readeR"), { authorization: `Basic ${reader}` }, { cookie: `voltlake-session=${page}` }, bearing("")]) {
        for (const [method, path] of [["GET", "/v1/config"], ["GET", "/v1/namespaces"], ["POST", "/v1/namespaces"]] as const) {
          const answer = yield* ask(method, path, method === "POST" ? namespace : undefined, headers)
          expect([answer.status, answer.json.error.type]).toEqual([401, "NotAuthorizedException"])
          expect(answer.headers.get("www-authenticate")).toBe("Bearer")
          for (const token of [reader, page, writer]) expect(answer.text).not.toContain(token)
        }
      }
    }).pipe(Effect.provide(parts)))

  it.live("nobody reads his way to a change: what only ends like a report of a scan is none", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make(settings)
      yield* ask("POST", "/v1/namespaces", namespace, bearing(writer))
      const asReader = (path: string) => Effect.map(ask("POST", path, {}, bearing(reader)), ({ json, status }) => [status, json.error.message])
      expect(yield* asReader("/v1/namespaces/n/tables/metrics")).toEqual([403, expect.stringContaining("may read only")])
      for (const path of ["/v1/transactions/commit;/metrics", "/v1/namespaces/n/tables/t;/metrics", "/v1/tables/rename;/metrics"]) {
        expect(yield* asReader(path), path).toEqual([400, expect.stringContaining("%3B")])
      }
    }).pipe(Effect.provide(parts)))

  it.live("readers, among them who may use the page, read and report, and change nothing", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make(settings)
      yield* ask("POST", "/v1/namespaces", namespace, bearing(writer))
      for (const token of [reader, page]) {
        const as = (method: string, path: string, body?: object) => ask(method, path, body as never, bearing(token))
        expect((yield* as("GET", "/v1/namespaces/n")).status).toBe(200)
        expect((yield* as("HEAD", "/v1/namespaces/n")).status).toBe(204)
        expect((yield* as("POST", "/v1/namespaces/n/tables/t/metrics", { "report-type": "scan-report" })).status).toBe(204)
        for (const [method, path] of [
          ["POST", "/v1/namespaces"],
          ["DELETE", "/v1/namespaces/n"],
          ["POST", "/v1/namespaces/n/tables"],
          ["POST", "/v1/namespaces/n/tables/t"],
          ["POST", "/v1/tables/rename"],
          ["POST", "/v1/transactions/commit"]
        ] as const) {
          const answer = yield* as(method, path, {})
          expect([path, answer.status, answer.json.error.type]).toEqual([path, 403, "ForbiddenException"])
          expect(answer.json.error.message).toContain("CATALOG_WRITE_TOKEN")
        }
      }
      expect((yield* ask("DELETE", "/v1/namespaces/n", undefined, bearing(writer))).status).toBe(204)
    }).pipe(Effect.provide(parts)))

  it.live("nobody writes where only readers have a token", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make(Client.withTokens([Redacted.make(reader)], Option.none()))
      expect((yield* ask("POST", "/v1/namespaces", namespace, bearing(reader))).status).toBe(403)
      expect((yield* ask("POST", "/v1/namespaces", namespace)).status).toBe(401)
    }).pipe(Effect.provide(parts)))

  it.live("everybody on this machine where there is none, but no page of another host", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make()
      const from = (origin: string) => ask("POST", "/v1/namespaces", namespace, { origin, host: "127.0.0.1:4000" })
      expect((yield* from("http://evil.example")).status).toBe(403)
      expect((yield* from("null")).status).toBe(403)
      expect((yield* from("http://127.0.0.1:4000")).status).toBe(200)
    }).pipe(Effect.provide(parts)))

  it.live("asks for a token by name where a client wants one by OAuth", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make(settings)
      const { json, status } = yield* ask("POST", "/v1/oauth/tokens", "grant_type=client_credentials")
      expect([status, json.error]).toEqual([400, "unsupported_grant_type"])
      expect(json.error_description).toContain("the property token")
    }).pipe(Effect.provide(parts)))
})

describe("what clients are told of S3", () => {
  const s3: S3Settings = {
    endpoint: Option.some("http://s3.example:9000"),
    region: "eu-1",
    credentials: Option.some({ accessKeyId: "the-key", secretAccessKey: Redacted.make("the-secret"), sessionToken: Option.none() }),
    pathStyle: true,
    connectTimeout: Duration.seconds(1),
    requestTimeout: Duration.seconds(1),
    retryBudget: Duration.zero,
    partBytes: 1,
    cacheBytesMax: 0
  }
  const open = { "s3.endpoint": "http://s3.example:9000", "s3.region": "eu-1", "client.region": "eu-1", "s3.path-style-access": "true" }
  const secret = { "s3.access-key-id": "the-key", "s3.secret-access-key": "the-secret" }
  const token = Option.some(Redacted.make(writer))

  const told = (passCredentials: boolean, write: typeof token | Option.Option<never>) =>
    Effect.gen(function*() {
      const catalog = { readToken: Option.none(), writeToken: write, passCredentials, s3Endpoint: Option.none() }
      const client = clientProperties(Option.some(s3), catalog)
      const { ask } = yield* Client.make({ tokens: { read: [], write }, client })
      const headers = Option.isSome(write) ? bearing(writer) : {}
      yield* ask("POST", "/v1/namespaces", namespace, headers)
      const table = { name: "t", schema: { type: "struct", fields: [] } }
      const made = yield* ask("POST", "/v1/namespaces/n/tables", table, headers)
      const loaded = yield* ask("GET", "/v1/namespaces/n/tables/t", undefined, headers)
      return [(yield* ask("GET", "/v1/config", undefined, headers)).json.defaults, made.json.config, loaded.json.config]
    }).pipe(Effect.provide(parts))

  it.live("how it is reached, always; with what secret, where that is set, to those who bear a token", () =>
    Effect.gen(function*() {
      expect(yield* told(false, token)).toEqual([open, open, open])
      expect(yield* told(true, token)).toEqual([{ ...open, ...secret }, { ...open, ...secret }, { ...open, ...secret }])
      expect(yield* told(true, Option.none())).toEqual([open, open, open])
    }))

  const settings = { readToken: Option.none(), writeToken: token, passCredentials: true, s3Endpoint: Option.some("http://elsewhere:1") }

  it("nothing where tables lie in files, and by a name of its own where a setting says so", () => {
    expect(clientProperties(Option.none(), settings)).toEqual({ open: {}, secret: {} })
    expect(clientProperties(Option.some(s3), settings).open).toEqual({ ...open, "s3.endpoint": "http://elsewhere:1" })
  })

  it.live("by settings, of which a blank one counts as not set, and a short token as wrong", () =>
    Effect.gen(function*() {
      const read = (entries: Readonly<Record<string, string>>) =>
        Effect.withConfigProvider(settingsConfig, ConfigProvider.fromMap(new Map(Object.entries(entries))))
      const unset = { readToken: Option.none(), writeToken: Option.none(), passCredentials: false, s3Endpoint: Option.none() }
      expect(yield* read({})).toEqual(unset)
      expect(yield* read({ CATALOG_READ_TOKEN: "", CATALOG_WRITE_TOKEN: "", CATALOG_S3_ENDPOINT: "" })).toEqual(unset)
      expect(String(yield* Effect.flip(read({ CATALOG_WRITE_TOKEN: "fifteen-letters" })))).toContain("at least 16 characters")
      expect(String(yield* Effect.flip(read({ CATALOG_S3_ENDPOINT: "s3" })))).toContain("must be a URL")
      expect(Option.getOrThrow((yield* read({ CATALOG_READ_TOKEN: reader })).readToken)).toEqual(Redacted.make(reader))
    }))
})

describe("requests that are none", () => {
  it.live("are answered with what is wrong, in the protocol's form", () =>
    Effect.gen(function*() {
      const { ask } = yield* Client.make()
      yield* ask("POST", "/v1/namespaces", namespace)
      yield* ask("POST", "/v1/namespaces/n/tables", { name: "t", schema: { type: "struct", fields: [] } })
      const table = "/v1/namespaces/n/tables/t"
      const cases: ReadonlyArray<readonly [method: string, path: string, body: string | undefined, status: number, message: string]> = [
        ["POST", "/v1/namespaces", "{", 400, ""],
        ["POST", "/v1/namespaces", "{}", 400, "namespace: expected a list, found nothing"],
        ["POST", table, `{"updates":[{"action":"fly"}]}`, 400, "updates[0].action: unknown action fly"],
        ["POST", table, `{"requirements":[{"type":"assert-luck"}],"updates":[]}`, 400, "requirements[0].type: unknown requirement assert-luck"],
        ["POST", table, `{"updates":[{"action":"remove-snapshots","snapshot-ids":[1.5]}]}`, 400, "updates[0].snapshot-ids[0]: expected an integer"],
        ["POST", table, `{"updates":[{"action":"set-current-schema","schema-id":9}]}`, 400, "there is none with the id 9"],
        ["GET", "/v1/nothing", undefined, 404, "GET /v1/nothing is not offered"],
        ["PUT", table, "{}", 404, "is not offered"],
        ["POST", "/v1/namespaces/n/views", "{}", 404, "is not offered"],
        ["GET", "/V1/config", undefined, 404, "is not offered"],
        ["GET", "/v1/namespaces/%", undefined, 404, ""]
      ]
      for (const [method, path, body, status, message] of cases) {
        const answer = yield* ask(method, path, body)
        expect([method, path, body, answer.status, answer.json?.error?.code]).toEqual([method, path, body, status, status])
        expect(answer.json.error.message).toContain(message)
      }
      expect((yield* ask("GET", "/v1/namespaces/n/views")).json).toEqual({ identifiers: [], "next-page-token": null })
      const large = yield* ask("POST", "/v1/namespaces", "{}", { "content-length": String(bodyBytesMax + 1) })
      expect([large.status, large.json.error.code]).toEqual([413, 413])
    }).pipe(Effect.provide(parts)))

  it.live("a report is noted in the log, whole", () =>
    Effect.gen(function*() {
      const noted: Array<Readonly<Record<string, unknown>>> = []
      const logger = Logger.make(({ annotations }) => void noted.push(Object.fromEntries(annotations)))
      const { ask } = yield* Client.make().pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(LogLevel.Debug)
      )
      const report = { "report-type": "scan-report", "snapshot-id": 8_205_303_700_603_925_275n }
      expect((yield* ask("POST", "/v1/namespaces/n/tables/t/metrics", report)).status).toBe(204)
      expect(noted).toContainEqual(expect.objectContaining({ table: "n.t", type: "scan-report", metrics: expect.stringContaining("8205303700603925275") }))
    }).pipe(Effect.provide(parts)))
})
