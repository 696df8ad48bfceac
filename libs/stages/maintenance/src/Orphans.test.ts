import { describe, expect, it } from "@effect/vitest"
import { Chunk, Duration, Effect, Stream } from "effect"
import { randomUUID } from "node:crypto"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { telemetryRaw } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as StageLake from "@voltlake/testing/StageLake"
import * as Cleaner from "./Cleaner.ts"
import * as Orphans from "./Orphans.ts"

const { bronze, drain, event, inProcess, query, send } = StageLake

const table = LakeTables.identifier(telemetryRaw)
const load = Effect.flatMap(Tables, (tables) => tables.load(table))

const keys = Effect.flatMap(ObjectStore, (store) =>
  Effect.map(Stream.runCollect(store.list("bronze/")), (found) => Chunk.toReadonlyArray(found).map(({ key }) => key).sort()))

/** Two commits, and what a process left that died before a third. */
const withOrphans = Effect.gen(function*() {
  for (const id of ["a", "b"]) {
    yield* send(0, [event({ id })])
    yield* inProcess(drain(bronze()))
  }
  const before = yield* keys
  const commitId = randomUUID()
  const staged = randomUUID()
  const names = [`data/${commitId}-0.parquet`, `metadata/${commitId}-x-m0.avro`, "data/foreign.parquet", `staged/${staged}/data/day=1/00000-0-1.parquet`]
  const orphans = names.map((name) => `bronze/telemetry_raw/${name}`)
  const store = yield* ObjectStore
  for (const key of orphans) yield* store.put(key, new Uint8Array([1, 2]))
  // Of the same dead commit: nothing but its number tells that nobody can swap it in any more.
  const next = "bronze/telemetry_raw/metadata/00003-next.metadata.json"
  yield* store.put(next, new Uint8Array([1]))
  return { before, commitIds: [commitId, staged], next, orphans }
})

describe("Orphans", () => {
  it.live("are what no snapshot names: they go after the grace period, and their commit can never become visible", () =>
    Effect.provide(
      Effect.gen(function*() {
        const { before, commitIds, next, orphans } = yield* withOrphans
        yield* inProcess(Effect.gen(function*() {
          const store = yield* ObjectStore
          expect((yield* Orphans.find(yield* load, Duration.hours(1))).locations).toEqual([])
          const { bytes, locations } = yield* Orphans.find(yield* load, Duration.zero)
          expect([...locations].sort()).toEqual(orphans.map((key) => store.location(key)).sort())
          expect(bytes).toBe(8)
          expect((yield* Orphans.remove(table, Duration.zero)).locations.length).toBe(4)
          for (const commitId of commitIds) {
            const late = yield* Effect.flip(Transaction.commit({ commitId, changes: [{ table, actions: [Action.append([])] }] }))
            expect(late._tag).toBe("CommitRetired")
          }
          yield* (yield* Cleaner.make({ gracePeriod: Duration.hours(1) })).step
          expect(yield* keys).toEqual([...before, ...orphans, next].sort())
          yield* (yield* Cleaner.make({ gracePeriod: Duration.zero })).step
          expect(yield* keys).toEqual([...before, next].sort())
        }))
        expect((yield* query((relations) => `SELECT count(*) AS n FROM ${relations.bronze}`))[0]!["n"]).toBe(2n)
        // Once the table has gone past its number, the metadata file goes too.
        yield* send(0, [event({ id: "c" })])
        yield* inProcess(drain(bronze()))
        yield* inProcess(Effect.gen(function*() {
          const store = yield* ObjectStore
          expect((yield* Orphans.find(yield* load, Duration.zero)).locations).toEqual([store.location(next)])
        }))
      }),
      StageLake.durable
    ))
})
