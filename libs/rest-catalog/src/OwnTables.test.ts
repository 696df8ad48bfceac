/** What other engines may do to the lake's own tables, as they ask for it. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { telemetryClean, telemetryRaw } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import { commitIdKey, positionKey, positionTag } from "@voltlake/iceberg/Snapshot"
import { currentSchema, currentSnapshot, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Tables from "@voltlake/iceberg/Tables"
import type { TableUpdate } from "@voltlake/iceberg/TableUpdate"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Type from "@voltlake/iceberg/Type"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import * as Client from "./test/Client.ts"
import * as Engine from "./test/Engine.ts"

const parts = Tables.layer.pipe(Layer.provideMerge(Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer)))

const path = "/v1/namespaces/bronze/tables/telemetry_raw"
const position = `{"telemetry_raw-0":"30"}`

const load = Effect.map(
  Effect.flatMap(Tables.Tables, (tables) => tables.load(LakeTables.identifier(telemetryRaw))),
  ({ metadata }) => metadata
)

/** Bronze after three commits of ours: files a, b and c of ten rows each. */
const bronze = Effect.gen(function*() {
  yield* LakeTables.ensure(telemetryRaw)
  yield* LakeTables.ensure(telemetryClean)
  for (const name of ["a", "b", "c"]) {
    const metadata = yield* load
    const change = {
      table: LakeTables.identifier(telemetryRaw),
      actions: [Action.append([Engine.file(metadata, name, 10n)])],
      summary: () => Either.right({ [positionKey]: position })
    }
    yield* Transaction.commit({ commitId: `ours-${name}`, changes: [change] })
  }
  return { ...(yield* Client.make()), metadata: yield* load }
})

const pathOf = (metadata: TableMetadata, name: string) => Engine.file(metadata, name, 1n).filePath
const deletes = (metadata: TableMetadata, rows: bigint): DataFile => Engine.file(metadata, "deletes", rows, "position-deletes")

const log = "Send events into the log instead"

type Make = (metadata: TableMetadata) => Engine.Work
const works: ReadonlyArray<readonly [what: string, make: Make, refusal: string | undefined]> = [
  ["an append", (metadata) => ({ operation: "append", added: [Engine.file(metadata, "x", 1n)] }), log],
  ["an append of nothing", () => ({ operation: "append" }), log],
  ["a snapshot that does not say what it is", (metadata) => ({ operation: "", added: [Engine.file(metadata, "x", 1n)] }), "no operation"],
  ["an overwrite that adds rows", (metadata) => ({ operation: "overwrite", added: [Engine.file(metadata, "x", 11n)], removed: [pathOf(metadata, "a")] }), log],
  ["an overwrite by as many rows", (metadata) => ({ operation: "overwrite", added: [Engine.file(metadata, "x", 10n)], removed: [pathOf(metadata, "a")] }), log],
  ["an update by delete files", (metadata) => ({ operation: "overwrite", added: [Engine.file(metadata, "x", 1n), deletes(metadata, 1n)] }), log],
  ["a delete that adds rows", (metadata) => ({ operation: "delete", added: [Engine.file(metadata, "x", 1n)] }), log],
  ["a replace that adds rows", (metadata) => ({ operation: "replace", added: [Engine.file(metadata, "x", 21n)], removed: [pathOf(metadata, "a"), pathOf(metadata, "b")] }), log],
  [
    "a replace that loses rows, whatever its summary says",
    (metadata) => ({
      operation: "replace",
      added: [Engine.file(metadata, "x", 19n)],
      removed: [pathOf(metadata, "a"), pathOf(metadata, "b")],
      summary: { "added-records": "20", "deleted-records": "20" }
    }),
    "would leave 29 of 30"
  ],
  ["a replace of the same rows", (metadata) => ({ operation: "replace", added: [Engine.file(metadata, "x", 20n)], removed: [pathOf(metadata, "a"), pathOf(metadata, "b")] }), undefined],
  ["a delete of a file", (metadata) => ({ operation: "delete", removed: [pathOf(metadata, "a")] }), undefined],
  ["a delete by delete files", (metadata) => ({ operation: "delete", added: [deletes(metadata, 2n)] }), undefined],
  ["an older engine's delete by delete files", (metadata) => ({ operation: "overwrite", added: [deletes(metadata, 2n)] }), undefined],
  ["a delete that writes the rest anew", (metadata) => ({ operation: "overwrite", added: [Engine.file(metadata, "x", 7n)], removed: [pathOf(metadata, "a")] }), undefined]
]

describe("a snapshot of another engine on bronze", () => {
  for (const [what, make, refusal] of works) {
    it.live(`${what} is ${refusal === undefined ? "taken, with the position" : "refused, with what to do instead"}`, () =>
      Effect.gen(function*() {
        const { metadata, post } = yield* bronze
        const work = make(metadata)
        const snapshot = yield* Engine.snapshot(metadata, { ...work, summary: { ...work.summary, "voltlake.position": "{}", engine: "x" } })
        const { json, status } = yield* post(path, Engine.onMain(metadata, snapshot))
        const after = yield* load
        if (refusal !== undefined) {
          expect([status, json.error.type]).toEqual([403, "ForbiddenException"])
          expect(json.error.message).toContain("bronze.telemetry_raw is one of Voltlake's own tables")
          expect(json.error.message).toContain(refusal)
          expect(after).toEqual(metadata)
          return
        }
        expect(status).toBe(200)
        expect(currentSnapshot(after)!.snapshotId).toBe(snapshot.snapshotId)
        expect(currentSnapshot(after)!.summary).toMatchObject({ [positionKey]: position, engine: "x", operation: work.operation })
        expect(currentSnapshot(after)!.summary[commitIdKey]).not.toMatch(/^ours/)
        expect(after.refs[positionTag]!.snapshotId).toBe(snapshot.snapshotId)
        // Whoever removes rows is named until that is acknowledged.
        const named = work.operation === "replace" ? [] : [snapshot.snapshotId]
        expect(ForeignRemoval.unacknowledged(after).map(({ snapshotId }) => snapshotId)).toEqual(named)
      }).pipe(Effect.provide(parts)))
  }

  it.live("is taken on a computed table of gold where it rewrites the same rows, and refused where it changes any", () =>
    Effect.gen(function*() {
      const { post } = yield* bronze
      const tables = yield* Tables.Tables
      const computed = { namespace: "gold", name: "minutes" }
      const { metadata: shape } = yield* tables.load(LakeTables.identifier(telemetryRaw))
      const definition = { schema: currentSchema(shape), specs: shape.partitionSpecs, sortOrder: shape.sortOrders[1]!, properties: {} }
      const { metadata: empty } = yield* tables.createIfAbsent(computed, definition)
      const summary = () => Either.right({ "voltlake.gold-source": "{}" })
      yield* Transaction.commit({ commitId: "g", changes: [{ table: computed, actions: [Action.append([Engine.file(empty, "a", 10n)])], summary }] })
      const { metadata } = yield* tables.load(computed)
      const ask = (work: Engine.Work) =>
        Effect.flatMap(Engine.snapshot(metadata, work), (snapshot) => post("/v1/namespaces/gold/tables/minutes", Engine.onMain(metadata, snapshot)))
      for (const work of [{ operation: "append", added: [Engine.file(metadata, "x", 1n)] }, { operation: "delete", removed: [pathOf(metadata, "a")] }]) {
        const { json, status } = yield* ask(work)
        expect([status, json.error.message]).toEqual([403, expect.stringContaining("its rows are computed from silver")])
      }
      expect((yield* ask({ operation: "replace", added: [Engine.file(metadata, "x", 10n)], removed: [pathOf(metadata, "a")] })).status).toBe(200)
    }).pipe(Effect.provide(parts)))

  it.live("lets a rewrite leave out rows that delete files had deleted, and no more", () =>
    Effect.gen(function*() {
      const { metadata, post } = yield* bronze
      yield* post(path, Engine.onMain(metadata, yield* Engine.snapshot(metadata, { operation: "delete", added: [deletes(metadata, 2n)] })))
      const now = yield* load
      const rewrite = (rows: bigint) =>
        Effect.flatMap(Engine.snapshot(now, { operation: "replace", added: [Engine.file(now, "x", rows)], removed: [pathOf(now, "a")] }), (snapshot) =>
          post(path, Engine.onMain(now, snapshot)))
      expect((yield* rewrite(7n)).status).toBe(403)
      expect((yield* rewrite(8n)).status).toBe(200)
    }).pipe(Effect.provide(parts)))

  it.live("is refused where its files lie outside the store, or it follows from no snapshot of the table", () =>
    Effect.gen(function*() {
      const { metadata, post } = yield* bronze
      const far = { ...Engine.file(metadata, "x", 10n), filePath: "s3://elsewhere/x.parquet" }
      const foreign = yield* Engine.snapshot(metadata, { operation: "replace", added: [far], removed: [pathOf(metadata, "a")] })
      expect((yield* post(path, Engine.onMain(metadata, foreign))).status).toBe(400)
      const removed = ["a", "b", "c"].map((name) => pathOf(metadata, name))
      const rootless = { ...(yield* Engine.snapshot(metadata, { operation: "delete", removed })), parentSnapshotId: undefined }
      const { json } = yield* post(path, Engine.onMain(metadata, rootless))
      expect(json.error.message).toContain("does not follow from one of its snapshots")
    }).pipe(Effect.provide(parts)))

  it.live("is taken on a branch, to which main may move forward, and not back again", () =>
    Effect.gen(function*() {
      const { metadata, post } = yield* bronze
      const snapshot = yield* Engine.snapshot(metadata, { operation: "delete", removed: [pathOf(metadata, "a")] })
      const to = (name: string, snapshotId: bigint): TableUpdate => ({
        action: "set-snapshot-ref",
        name,
        reference: { snapshotId, type: "branch", extra: {} }
      })
      expect((yield* post(path, Engine.request([], [{ action: "add-snapshot", snapshot }, to("audit", snapshot.snapshotId)]))).status).toBe(200)
      expect((yield* load).refs[positionTag]).toEqual(metadata.refs[positionTag])
      expect((yield* post(path, Engine.request([], [to("main", snapshot.snapshotId)]))).status).toBe(200)
      expect((yield* load).refs[positionTag]!.snapshotId).toBe(snapshot.snapshotId)
      const back = yield* post(path, Engine.request([], [to("main", metadata.currentSnapshotId!)]))
      expect([back.status, back.json.error.message]).toEqual([403, expect.stringContaining("voltlake tables rollback")])
    }).pipe(Effect.provide(parts)))
})

type Fields = ReadonlyArray<Type.NestedField>

const schemaWith = (metadata: TableMetadata, change: (fields: Fields) => Fields): ReadonlyArray<TableUpdate> => [
  { action: "add-schema", schema: { ...currentSchema(metadata), fields: change(currentSchema(metadata).fields) }, lastColumnId: undefined },
  { action: "set-current-schema", schemaId: -1 }
]
const tag = (metadata: TableMetadata, name: string): TableUpdate => ({
  action: "set-snapshot-ref",
  name,
  reference: { snapshotId: metadata.snapshots[0]!.snapshotId, type: "tag", extra: {} }
})

const updates: ReadonlyArray<readonly [what: string, of: (metadata: TableMetadata) => ReadonlyArray<TableUpdate>, refusal: string | undefined]> = [
  ["properties", () => [{ action: "set-properties", updates: { a: "b" } }, { action: "remove-properties", removals: ["comment"] }], undefined],
  ["a tag", (metadata) => [tag(metadata, "audit")], undefined],
  ["an optional column", (metadata) => schemaWith(metadata, (fields) => [Type.optional(100, "note", Type.string), ...fields]), undefined],
  ["an expiry", (metadata) => [{ action: "remove-snapshots", snapshotIds: [metadata.snapshots[0]!.snapshotId] }], undefined],
  ["a required column", (metadata) => schemaWith(metadata, (fields) => [...fields, Type.required(100, "note", Type.string)]), "must be optional"],
  ["a column fewer", (metadata) => schemaWith(metadata, (fields) => fields.slice(0, -1)), "its column ingested_at"],
  ["another name", (metadata) => schemaWith(metadata, (fields) => fields.map((field) => (field.id === 3 ? { ...field, name: "o" } : field))), "its column offset"],
  ["another type", (metadata) => schemaWith(metadata, (fields) => fields.map((field) => (field.id === 2 ? { ...field, type: Type.long } : field))), "its column partition"],
  ["a column with an id that another had", (metadata) => schemaWith(metadata, (fields) => [...fields, Type.optional(9, "x", Type.string)]), "two columns have one id"],
  ["other partitions", () => [{ action: "add-spec", fields: [{ sourceId: 1, fieldId: undefined, name: "t", transform: { type: "identity" } }] }, { action: "set-default-spec", specId: -1 }], "partition specs"],
  ["a spec fewer", () => [{ action: "remove-partition-specs", specIds: [1] }], "partition specs"],
  ["another order", () => [{ action: "set-default-sort-order", sortOrderId: 0 }], "the order that it has"],
  ["another location", () => [{ action: "set-location", location: "memory://store/mine" }], "its location stays"],
  ["another uuid", () => [{ action: "assign-uuid", uuid: "9c12d441-03fe-4693-9a96-a0705ddf69c1" }], "the table's uuid is"],
  ["the tag of the position moved", (metadata) => [tag(metadata, positionTag)], "guards its position"],
  ["the tag of the position removed", () => [{ action: "remove-snapshot-ref", name: positionTag }], "guards its position"],
  ["main removed", () => [{ action: "remove-snapshot-ref", name: "main" }], "main is needed"],
  ["main moved back", (metadata) => [{ ...tag(metadata, "main"), reference: { snapshotId: metadata.snapshots[0]!.snapshotId, type: "branch", extra: {} } } as TableUpdate], "voltlake tables rollback"]
]

describe("an update of another engine to bronze", () => {
  for (const [what, of, refusal] of updates) {
    it.live(`${what} is ${refusal === undefined ? "taken" : "refused"}`, () =>
      Effect.gen(function*() {
        const { metadata, post } = yield* bronze
        const { json, status } = yield* post(path, Engine.request([], of(metadata)))
        const after = yield* load
        if (refusal === undefined) {
          expect(status).toBe(200)
          expect(after).not.toEqual(metadata)
          expect(after.currentSnapshotId).toBe(metadata.currentSnapshotId)
        } else {
          expect(status === 403 || status === 400).toBe(true)
          expect(json.error.message).toContain(refusal)
          expect(after).toEqual(metadata)
        }
      }).pipe(Effect.provide(parts)))
  }

  it.live("nothing drops, renames or makes one of our tables", () =>
    Effect.gen(function*() {
      const { ask, post } = yield* bronze
      yield* post("/v1/namespaces", { namespace: ["mine"] })
      const forbidden = [
        yield* ask("DELETE", path),
        yield* ask("DELETE", `${path}?purgeRequested=true`),
        yield* post("/v1/tables/rename", { source: { namespace: ["bronze"], name: "telemetry_raw" }, destination: { namespace: ["mine"], name: "x" } }),
        yield* post("/v1/namespaces/silver/tables", { name: "telemetry_rejected", schema: { type: "struct", fields: [] } })
      ]
      expect(forbidden.map(({ json, status }) => [status, json.error.type])).toEqual(forbidden.map(() => [403, "ForbiddenException"]))
      expect((yield* ask("HEAD", path)).status).toBe(204)
    }).pipe(Effect.provide(parts)))
})

describe("a table of somebody else", () => {
  const columns = { type: "struct", fields: [{ id: 1, name: "a", required: false, type: "long" }] }

  it.live("lies apart from ours", () =>
    Effect.gen(function*() {
      const { get, metadata, post } = yield* bronze
      yield* post("/v1/namespaces", { namespace: ["mine"] })
      const make = (location: string) => post("/v1/namespaces/mine/tables", { name: "x", location, schema: columns })
      for (const location of [metadata.location, `${metadata.location}/data/`, "memory://store/bronze", "memory://store/silver/telemetry_clean/x"]) {
        expect([location, (yield* make(location)).status]).toEqual([location, 403])
      }
      expect((yield* make("memory://store/bronze/other")).status).toBe(200)
      const moved = yield* post("/v1/namespaces/mine/tables/x", Engine.request([], [{ action: "set-location", location: metadata.location }]))
      expect(moved.status).toBe(403)
      const { json } = yield* get(path)
      const registered = yield* post("/v1/namespaces/mine/register", { name: "copy", "metadata-location": json["metadata-location"] })
      expect(registered.status).toBe(403)
    }).pipe(Effect.provide(parts)))

  it.live("gives up no file of ours that it has added to its own", () =>
    Effect.gen(function*() {
      const { ask, metadata, post } = yield* bronze
      yield* post("/v1/namespaces", { namespace: ["mine"] })
      const made = Either.getOrThrow(Client.metadataOf(yield* post("/v1/namespaces/mine/tables", { name: "x", schema: columns })))
      const ours = { ...Engine.file(metadata, "a", 10n), specId: 0, partition: [] }
      const snapshot = yield* Engine.snapshot(made, { operation: "append", added: [ours, Engine.file(made, "y", 1n)] })
      expect((yield* post("/v1/namespaces/mine/tables/x", Engine.onMain(made, snapshot))).status).toBe(200)
      expect((yield* ask("DELETE", "/v1/namespaces/mine/tables/x?purgeRequested=true")).status).toBe(204)
      const gone = yield* (yield* Catalog).expiredFiles(0)
      expect(gone).toContain(Engine.file(made, "y", 1n).filePath)
      expect(gone.filter((location) => location.startsWith(metadata.location))).toEqual([])
    }).pipe(Effect.provide(parts)))
})
