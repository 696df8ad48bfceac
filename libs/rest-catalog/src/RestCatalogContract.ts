/** What the REST catalog does, whatever the catalog and the store below it. A test's namespace has a name of its own. */
import { expect, layer } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { Json } from "@voltlake/iceberg/Json"
import { currentSnapshot } from "@voltlake/iceberg/TableMetadata"
import * as Tables from "@voltlake/iceberg/Tables"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Client from "./test/Client.ts"
import * as Engine from "./test/Engine.ts"

export const newTable = (name: string, more: Readonly<Record<string, Json>> = {}): Json => ({
  name,
  schema: {
    type: "struct",
    fields: [
      { id: 0, name: "a", required: true, type: "long" },
      { id: 1, name: "b", required: false, type: { type: "list", "element-id": 2, element: "string", "element-required": false } }
    ]
  },
  ...more
})

/** A namespace with tables. */
export const prepared = (namespace: string, names: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const client = yield* Client.make()
    yield* client.post("/v1/namespaces", { namespace: [namespace] })
    for (const name of names) expect((yield* client.post(`/v1/namespaces/${namespace}/tables`, newTable(name))).status).toBe(200)
    const path = (name: string) => `/v1/namespaces/${namespace}/tables/${name}`
    const load = (name: string) => Effect.map(client.get(path(name)), (answer) => Either.getOrThrow(Client.metadataOf(answer)))
    return { ...client, path, load }
  })

const faultOf = ({ json, status }: Client.Answer) => [status, json.error.code, json.error.type]

export const contract = <E>(name: string, parts: Layer.Layer<Catalog | ObjectStore, E>) =>
  layer(Tables.layer.pipe(Layer.provideMerge(parts)), { excludeTestServices: true })(`the REST catalog over ${name}`, (it) => {
    it.effect("says what it offers, whatever the client calls the warehouse", () =>
      Effect.gen(function*() {
        const { get } = yield* Client.make()
        const { json, status } = yield* get("/v1/config?warehouse=anything")
        expect(status).toBe(200)
        expect(json).toMatchObject({ defaults: {}, overrides: {} })
        expect(json.endpoints).toContain("POST /v1/{prefix}/transactions/commit")
        expect(json.endpoints.filter((endpoint: string) => endpoint.includes("views"))).toEqual([])
      }))

    it.effect("makes, lists, changes and drops namespaces", () =>
      Effect.gen(function*() {
        const { ask, get, post } = yield* Client.make()
        const made = yield* post("/v1/namespaces", { namespace: ["spaces"], properties: { owner: "a" } })
        expect(made.json).toEqual({ namespace: ["spaces"], properties: { owner: "a" } })
        expect(faultOf(yield* post("/v1/namespaces", { namespace: ["spaces"] }))).toEqual([409, 409, "AlreadyExistsException"])
        expect((yield* get("/v1/namespaces")).json.namespaces).toContainEqual(["spaces"])
        expect((yield* get("/v1/namespaces?parent=spaces")).json).toEqual({ namespaces: [], "next-page-token": null })
        expect(faultOf(yield* get("/v1/namespaces?parent=nowhere"))).toEqual([404, 404, "NoSuchNamespaceException"])
        const changed = yield* post("/v1/namespaces/spaces/properties", { removals: ["owner", "x"], updates: { note: "b" } })
        expect(changed.json).toEqual({ updated: ["note"], removed: ["owner"], missing: ["x"] })
        expect((yield* get("/v1/namespaces/spaces")).json).toEqual({ namespace: ["spaces"], properties: { note: "b" } })
        const both = yield* post("/v1/namespaces/spaces/properties", { removals: ["a"], updates: { a: "b" } })
        expect(faultOf(both)).toEqual([422, 422, "UnprocessableEntityException"])
        expect(faultOf(yield* post("/v1/namespaces/spaces/properties", { updates: { a: "x".repeat(1001) } }))).toEqual([400, 400, "BadRequestException"])
        expect((yield* ask("HEAD", "/v1/namespaces/spaces")).status).toBe(204)
        yield* post("/v1/namespaces/spaces/tables", newTable("t"))
        expect(faultOf(yield* ask("DELETE", "/v1/namespaces/spaces"))).toEqual([409, 409, "NamespaceNotEmptyException"])
        yield* ask("DELETE", "/v1/namespaces/spaces/tables/t")
        expect((yield* ask("DELETE", "/v1/namespaces/spaces")).status).toBe(204)
        expect((yield* ask("HEAD", "/v1/namespaces/spaces")).status).toBe(404)
        for (const answer of [yield* ask("DELETE", "/v1/namespaces/spaces"), yield* post("/v1/namespaces/spaces/properties", {})]) {
          expect(faultOf(answer)).toEqual([404, 404, "NoSuchNamespaceException"])
        }
      }))

    it.effect("has namespaces of one level, and says so", () =>
      Effect.gen(function*() {
        const { get, post } = yield* Client.make()
        const refused = yield* post("/v1/namespaces", { namespace: ["a", "b"] })
        expect(faultOf(refused)).toEqual([400, 400, "BadRequestException"])
        expect(refused.json.error.message).toBe("namespaces of this catalog have one level: a.b has 2")
        const absent = yield* get("/v1/namespaces/a%1Fb")
        expect(faultOf(absent)).toEqual([404, 404, "NoSuchNamespaceException"])
        expect(absent.json.error.message).toContain("have one level")
        expect(faultOf(yield* get("/v1/namespaces/a%1Fb/tables/t"))).toEqual([404, 404, "NoSuchTableException"])
        for (const name of ["a.b", "a/b", "", "..", "x".repeat(256), "a\u0001"]) {
          expect(faultOf(yield* post("/v1/namespaces", { namespace: [name] })), name).toEqual([400, 400, "BadRequestException"])
        }
      }))

    it.effect("answers page by page where a client asks so, and all at once otherwise", () =>
      Effect.gen(function*() {
        const names = ["a", "b", "c", "d", "e"]
        const { get } = yield* prepared("pages", names)
        const seen: Array<string> = []
        let token = ""
        for (let pages = 0; pages < 4; pages++) {
          const { json } = yield* get(`/v1/namespaces/pages/tables?pageSize=2&pageToken=${encodeURIComponent(token)}`)
          seen.push(...json.identifiers.map((table: { readonly name: string }) => table.name))
          if (json["next-page-token"] === null) break
          token = json["next-page-token"]
        }
        expect(seen).toEqual(names)
        expect((yield* get("/v1/namespaces/pages/tables")).json.identifiers).toHaveLength(5)
        expect((yield* get("/v1/namespaces/pages/tables?pageSize=x&pageToken=")).status).toBe(400)
        const one = yield* get("/v1/namespaces?pageSize=1&pageToken=")
        expect(one.json.namespaces).toHaveLength(1)
        expect(faultOf(yield* get("/v1/namespaces/nowhere/tables"))).toEqual([404, 404, "NoSuchNamespaceException"])
      }))

    it.effect("makes a table with ids of its own, and knows it by its name", () =>
      Effect.gen(function*() {
        const { ask, get, load, path, post } = yield* prepared("made", [])
        const asked = newTable("t", {
          properties: { "format-version": "2", note: "x" },
          "partition-spec": { fields: [{ "source-id": 0, "field-id": 7, name: "a_b", transform: "bucket[4]" }] },
          "write-order": { "order-id": 1, fields: [{ "source-id": 0, transform: "identity", direction: "desc", "null-order": "nulls-last" }] }
        })
        const made = yield* post("/v1/namespaces/made/tables", asked)
        expect(made.json["metadata-location"]).toMatch(/\/made\/t\/metadata\/00000-[0-9a-f-]+\.metadata\.json$/)
        const metadata = yield* load("t")
        expect(metadata).toEqual(Either.getOrThrow(Client.metadataOf(made)))
        expect(metadata.schemas[0]!.fields.map(({ id, type }) => [id, type.type === "list" ? type.elementId : 0])).toEqual([[1, 0], [2, 3]])
        expect(metadata.partitionSpecs[0]!.fields).toMatchObject([{ sourceId: 1, fieldId: 1000, name: "a_b" }])
        expect(metadata.sortOrders.find(({ orderId }) => orderId === metadata.defaultSortOrderId)!.fields).toMatchObject([{ sourceId: 1, direction: "desc" }])
        expect(metadata.properties).toEqual({ note: "x" })
        expect(faultOf(yield* post("/v1/namespaces/made/tables", asked))).toEqual([409, 409, "AlreadyExistsException"])
        expect((yield* ask("HEAD", path("t"))).status).toBe(204)
        expect((yield* ask("HEAD", path("other"))).status).toBe(404)
        expect(faultOf(yield* get(path("other")))).toEqual([404, 404, "NoSuchTableException"])
        expect(faultOf(yield* post("/v1/namespaces/nowhere/tables", newTable("t")))).toEqual([404, 404, "NoSuchNamespaceException"])
        for (const body of [
          newTable("a.b"),
          newTable("u", { properties: { "format-version": "3" } }),
          newTable("u", { location: "s3://elsewhere/u" }),
          { name: "u" },
          newTable("u", { "partition-spec": { fields: [{ "source-id": 9, name: "x", transform: "identity" }] } })
        ]) expect(faultOf(yield* post("/v1/namespaces/made/tables", body))).toEqual([400, 400, "BadRequestException"])
      }))

    it.effect("loads a table once for those who have it, and with the named snapshots alone for those who ask so", () =>
      Effect.gen(function*() {
        const { ask, get, load, path, post } = yield* prepared("loaded", ["t"])
        for (const name of ["x", "y"]) {
          const metadata = yield* load("t")
          const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, name, 1n)] })
          expect((yield* post(path("t"), Engine.onMain(metadata, snapshot))).status).toBe(200)
        }
        const all = yield* get(path("t"))
        expect(all.json.metadata.snapshots).toHaveLength(2)
        const again = yield* ask("GET", path("t"), undefined, { "if-none-match": all.headers.get("etag")! })
        expect([again.status, again.text]).toEqual([304, ""])
        const refs = yield* get(`${path("t")}?snapshots=refs`)
        expect(refs.json.metadata.snapshots).toHaveLength(1)
        expect(refs.headers.get("etag")).not.toBe(all.headers.get("etag"))
        expect((yield* get(`${path("t")}?snapshots=some`)).status).toBe(400)
      }))

    it.effect("keeps every digit of 64-bit ids, and applies a commit once however often it is sent", () =>
      Effect.gen(function*() {
        const { load, path, post } = yield* prepared("digits", ["t"])
        const metadata = yield* load("t")
        const snapshotId = 8_205_303_700_603_925_275n
        const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, "x", 3n)], snapshotId })
        const first = yield* post(path("t"), Engine.onMain(metadata, snapshot))
        expect(first.text).toContain(`"current-snapshot-id":${snapshotId},`)
        const second = yield* post(path("t"), Engine.onMain(metadata, snapshot))
        expect([second.status, second.text]).toEqual([200, first.text])
        expect((yield* load("t")).metadataLog).toHaveLength(1)
        const next = yield* Engine.snapshot(yield* load("t"), { operation: "append", added: [Engine.file(metadata, "y", 1n)] })
        expect(faultOf(yield* post(path("t"), Engine.onMain(metadata, next)))).toEqual([409, 409, "CommitFailedException"])
      }))

    it.effect("lets one of two commits win that require the same, and both that do not mind each other", () =>
      Effect.gen(function*() {
        const { load, path, post } = yield* prepared("raced", ["t"])
        for (let round = 0; round < 3; round++) {
          const metadata = yield* load("t")
          const rivals = yield* Effect.forEach(["l", "r"], (name) =>
            Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, `${name}${round}`, 1n)] }))
          const answers = yield* Effect.forEach(rivals, (snapshot) => post(path("t"), Engine.onMain(metadata, snapshot)), { concurrency: "unbounded" })
          expect(answers.map(({ status }) => status).sort()).toEqual([200, 409])
        }
        const keys = Array.from({ length: 6 }, (_, index) => `k${index}`)
        const answers = yield* Effect.forEach(keys, (key) =>
          post(path("t"), Engine.request([], [{ action: "set-properties", updates: { [key]: "1" } }])), { concurrency: "unbounded" })
        expect(answers.map(({ status }) => status)).toEqual(keys.map(() => 200))
        const { properties, snapshots } = yield* load("t")
        expect([Object.keys(properties).sort(), snapshots.length]).toEqual([keys, 3])
      }))

    it.effect("replaces a table's columns whatever last column id the client believes in", () =>
      Effect.gen(function*() {
        const { load, path, post } = yield* prepared("replaced", ["t"])
        const { lastColumnId, schemas } = yield* load("t")
        const schema = { ...schemas[0]!, fields: schemas[0]!.fields.slice(0, 1) }
        const replaced = Engine.request([], [{ action: "add-schema", schema, lastColumnId: 1 }, { action: "set-current-schema", schemaId: -1 }])
        expect((yield* post(path("t"), replaced)).status).toBe(200)
        expect(yield* load("t")).toMatchObject({ currentSchemaId: 1, lastColumnId })
      }))

    it.effect("lets the second of two commits to different branches be made anew, and not fail", () =>
      Effect.gen(function*() {
        const { load, path, post } = yield* prepared("branches", ["t"])
        const empty = yield* load("t")
        yield* post(path("t"), Engine.onMain(empty, yield* Engine.snapshot(empty, { operation: "append", added: [Engine.file(empty, "a", 1n)] })))
        const metadata = yield* load("t")
        const commits = yield* Effect.forEach(["left", "right"], (name) =>
          Effect.map(Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, name, 1n)] }), (snapshot) =>
            Engine.request([{ type: "assert-ref-snapshot-id", ref: name, snapshotId: undefined }], [
              { action: "add-snapshot", snapshot },
              { action: "set-snapshot-ref", name, reference: { snapshotId: snapshot.snapshotId, type: "branch", extra: {} } }
            ])))
        const [first, second] = yield* Effect.forEach(commits, (commit) => post(path("t"), commit))
        expect(first!.status).toBe(200)
        expect(faultOf(second!)).toEqual([409, 409, "CommitFailedException"])
      }))

    it.effect("commits to several tables, or to none", () =>
      Effect.gen(function*() {
        const { load, post } = yield* prepared("several", ["a", "b"])
        const changeOf = (table: string, uuid: string) => ({
          identifier: { namespace: ["several"], name: table },
          ...(Engine.request([{ type: "assert-table-uuid", uuid }], [{ action: "set-properties", updates: { p: "1" } }]) as object)
        })
        const [a, b] = [yield* load("a"), yield* load("b")]
        const wrong = yield* post("/v1/transactions/commit", { "table-changes": [changeOf("a", a.tableUuid), changeOf("b", a.tableUuid)] })
        expect(faultOf(wrong)).toEqual([409, 409, "CommitFailedException"])
        expect((yield* load("a")).properties).toEqual({})
        const right = yield* post("/v1/transactions/commit", { "table-changes": [changeOf("a", a.tableUuid), changeOf("b", b.tableUuid)] })
        expect([right.status, right.text]).toEqual([204, ""])
        expect([(yield* load("a")).properties, (yield* load("b")).properties]).toEqual([{ p: "1" }, { p: "1" }])
        for (const changes of [[], [changeOf("a", a.tableUuid), changeOf("a", a.tableUuid)]]) {
          expect((yield* post("/v1/transactions/commit", { "table-changes": changes })).status).toBe(400)
        }
        expect(faultOf(yield* post("/v1/transactions/commit", { "table-changes": [changeOf("absent", a.tableUuid)] })))
          .toEqual([404, 404, "NoSuchTableException"])
      }))

    it.effect("makes a staged table with the commit that asserts its creation, once", () =>
      Effect.gen(function*() {
        const { ask, load, path, post } = yield* prepared("staged", [])
        const staged = yield* post("/v1/namespaces/staged/tables", newTable("t", { "stage-create": true }))
        expect([staged.status, staged.json["metadata-location"]]).toEqual([200, undefined])
        expect((yield* ask("HEAD", path("t"))).status).toBe(404)
        const metadata = Either.getOrThrow(Client.metadataOf(staged))
        const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, "x", 1n)] })
        const body = (uuid: string) =>
          Engine.request([{ type: "assert-create" }], [
            { action: "assign-uuid", uuid },
            { action: "upgrade-format-version", formatVersion: 2 },
            { action: "add-schema", schema: metadata.schemas[0]!, lastColumnId: metadata.lastColumnId },
            { action: "set-current-schema", schemaId: -1 },
            { action: "set-location", location: metadata.location },
            { action: "add-snapshot", snapshot },
            { action: "set-snapshot-ref", name: "main", reference: { snapshotId: snapshot.snapshotId, type: "branch", extra: {} } }
          ])
        const first = yield* post(path("t"), body(metadata.tableUuid))
        expect(first.status).toBe(200)
        const made = yield* load("t")
        expect([made.tableUuid, currentSnapshot(made)?.snapshotId]).toEqual([metadata.tableUuid, snapshot.snapshotId])
        expect((yield* post(path("t"), body(metadata.tableUuid))).text).toBe(first.text)
        expect(faultOf(yield* post(path("t"), body("9c12d441-03fe-4693-9a96-a0705ddf69c1")))).toEqual([409, 409, "CommitFailedException"])
      }))

    it.effect("renames tables, and drops them with and without their files", () =>
      Effect.gen(function*() {
        const { ask, get, load, path, post } = yield* prepared("moved", ["a", "b", "c"])
        yield* post("/v1/namespaces", { namespace: ["moved2"] })
        const named = (namespace: string, name: string) => ({ namespace: [namespace], name })
        const rename = (from: Json, to: Json) => post("/v1/tables/rename", { source: from, destination: to })
        expect(faultOf(yield* rename(named("moved", "a"), named("moved", "b")))).toEqual([409, 409, "AlreadyExistsException"])
        expect(faultOf(yield* rename(named("moved", "x"), named("moved", "y")))).toEqual([404, 404, "NoSuchTableException"])
        expect(faultOf(yield* rename(named("moved", "a"), named("nowhere", "a")))).toEqual([404, 404, "NoSuchNamespaceException"])
        const deep = { namespace: ["lake", "moved"], name: "a" }
        expect(faultOf(yield* rename(named("moved", "a"), deep))).toEqual([404, 404, "NoSuchNamespaceException"])
        const before = yield* load("a")
        expect((yield* rename(named("moved", "a"), named("moved2", "z"))).status).toBe(204)
        expect(Either.getOrThrow(Client.metadataOf(yield* get("/v1/namespaces/moved2/tables/z")))).toEqual(before)
        const catalog = yield* Catalog
        const metadata = yield* load("b")
        const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, "x", 1n)] })
        yield* post(path("b"), Engine.onMain(metadata, snapshot))
        const { json } = yield* get(path("b"))
        expect((yield* ask("DELETE", path("c"))).status).toBe(204)
        expect((yield* catalog.expiredFiles(0)).filter((location) => location.includes("/moved/c/"))).toEqual([])
        expect((yield* ask("DELETE", `${path("b")}?purgeRequested=true`)).status).toBe(204)
        const gone = (yield* catalog.expiredFiles(0)).filter((location) => location.includes("/moved/b/"))
        expect(gone).toEqual(expect.arrayContaining([json["metadata-location"], snapshot.manifestList, Engine.file(metadata, "x", 1n).filePath]))
        expect(gone).toHaveLength(5)
        expect(faultOf(yield* ask("DELETE", path("b")))).toEqual([404, 404, "NoSuchTableException"])
      }))

    it.effect("makes a table of a metadata file that is there", () =>
      Effect.gen(function*() {
        const { ask, get, path, post } = yield* prepared("registered", ["t"])
        const { json } = yield* get(path("t"))
        const register = (more: Readonly<Record<string, Json>>) =>
          post("/v1/namespaces/registered/register", { name: "u", "metadata-location": json["metadata-location"], ...more })
        expect(faultOf(yield* register({ name: "t" }))).toEqual([409, 409, "AlreadyExistsException"])
        expect(faultOf(yield* register({ overwrite: true }))).toEqual([400, 400, "BadRequestException"])
        expect(faultOf(yield* register({ "metadata-location": `${json["metadata-location"]}x` }))).toEqual([400, 400, "BadRequestException"])
        yield* ask("DELETE", path("t"))
        const made = yield* register({ overwrite: false })
        expect([made.status, made.json["metadata-location"], made.json.metadata["table-uuid"]]).toEqual([
          200,
          json["metadata-location"],
          json.metadata["table-uuid"]
        ])
      }))
  })
