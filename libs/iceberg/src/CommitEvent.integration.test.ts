// What a commit leaves in the event log, in the catalog's own transaction: one event for each that became visible, none for one that did not.
import { expect, layer } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { SqlClient } from "@effect/sql/SqlClient"
import { Effect, Either, Fiber, Layer, Ref, Schedule, Stream } from "effect"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as Action from "./Action.ts"
import { Catalog, CatalogError, commitChannel } from "./Catalog.ts"
import type { DataFile } from "./DataFile.ts"
import * as PostgresCatalog from "./PostgresCatalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"
import * as Tables from "./Tables.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Transaction from "./Transaction.ts"

const parts = Layer.mergeAll(
  PostgresCatalog.layer.pipe(Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)), Layer.provideMerge(TestPostgres.layer)),
  Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse"))))
)

interface Event {
  readonly severity: string
  readonly subject: string
  readonly message: string
  readonly facts: { readonly commit: string; readonly by: string; readonly tables: ReadonlyArray<Readonly<Record<string, unknown>>> }
}

const eventsOf = (commitId: string) =>
  Effect.flatMap(SqlClient, (sql) =>
    sql<Event>`SELECT severity, subject, message, facts FROM ops.events WHERE kind = 'table_committed' AND facts ->> 'commit' = ${commitId}`)

const make = (name: string) => {
  const table = TableIdentifier.make("noted", name)
  return Effect.as(Effect.flatMap(Tables.Tables, (tables) => tables.createIfAbsent(table, Fixture.definition)), table)
}

const position = (offset: number) => () => Either.right({ "voltlake.position": JSON.stringify({ "t-0": String(offset), "t-1": "5" }) })

interface Append {
  readonly isForeign?: boolean
  readonly to?: number
}

type Identifiers = ReadonlyArray<TableIdentifier.TableIdentifier>

const append = (commitId: string, tables: Identifiers, files: ReadonlyArray<DataFile>, { isForeign = false, to = 0 }: Append = {}) =>
  Transaction.commit({ commitId, isForeign, changes: tables.map((table) => ({ table, actions: [Action.append(files)], summary: position(to) })) })

layer(Layer.provideMerge(Tables.layer, parts), { excludeTestServices: true })("The event of a commit", (it) => {
  it.effect("names tables, operation, snapshot, files, rows and offsets", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* make("a"), yield* make("b")]
      yield* append("one", [a, b], [Fixture.fakeFile("x", 40n), Fixture.fakeFile("y", 2n)], { to: 42 })
      const { tables } = yield* append("two", [a], [], { to: 50 })
      const [first] = yield* eventsOf("one")
      expect(first).toMatchObject({
        severity: "INFO",
        subject: "noted.a, noted.b",
        message: "noted.a: append, 42 rows in 2 files added; noted.b: append, 42 rows in 2 files added",
        facts: { by: "voltlake", tables: [{ table: "noted.a", operation: "append", addedFiles: 2, addedRows: 42, offsets: { "t-0": "0..42", "t-1": "0..5" } }, {}] }
      })
      expect((yield* eventsOf("two"))[0]?.facts.tables).toEqual([{
        table: "noted.a", operation: "append", snapshot: String(tables[0]?.snapshot?.snapshotId), addedFiles: 0, addedRows: 0, removedFiles: 0, removedRows: 0,
        droppedSnapshots: 0, offsets: { "t-0": "42..50" }
      }])
    }))

  it.effect("says of another engine's that it is, and warns where rows were removed", () =>
    Effect.gen(function*() {
      const table = yield* make("foreign")
      const file = Fixture.fakeFile("z", 7n)
      yield* append("added", [table], [file], { isForeign: true })
      yield* Transaction.commit({ commitId: "removed", isForeign: true, changes: [{ table, actions: [Action.deleteFiles([file])] }] })
      expect((yield* eventsOf("added"))[0]).toMatchObject({ severity: "INFO", facts: { by: "another engine" } })
      expect((yield* eventsOf("removed"))[0]).toMatchObject({
        severity: "WARNING",
        message: "by another engine: noted.foreign: delete, 7 rows in 1 files taken out"
      })
    }))

  it.effect("is there of snapshots that are dropped, though those commits have none of their own", () =>
    Effect.gen(function*() {
      const table = yield* make("expired")
      const { tables: [first] } = yield* append("old", [table], [Fixture.fakeFile("o")])
      yield* append("new", [table], [Fixture.fakeFile("n")])
      yield* Transaction.commit({ commitId: "expiry", changes: [{ table, actions: [Action.expire([first!.snapshot!.snapshotId])] }] })
      expect((yield* eventsOf("expiry"))[0]).toMatchObject({ message: "noted.expired: expire, 1 snapshots dropped" })
    }))

  it.effect("keeps none from hearing of the commit", () =>
    Effect.gen(function*() {
      const table = yield* make("heard")
      const heard = yield* (yield* PgClient.PgClient).listen(commitChannel).pipe(Stream.take(1), Stream.runCollect, Effect.fork)
      // Nothing says when the listener is there.
      const commits = Effect.flatMap(Transaction.newCommitId, (id) => append(id, [table], [])).pipe(Effect.repeat(Schedule.spaced("50 millis")))
      expect(Array.from(yield* Effect.raceFirst(Fiber.join(heard), Effect.zipRight(commits, Effect.never)))).toEqual(["noted.heard"])
    }))

  it.effect("is not there of a commit that was refused, or retired", () =>
    Effect.gen(function*() {
      const table = yield* make("refused")
      const refuse = () => Either.left("no" as const)
      expect(yield* Effect.flip(Transaction.commit({ commitId: "refused", changes: [{ table, actions: [Action.append([])], summary: refuse }] }))).toBe("no")
      yield* (yield* Catalog).retire(["retired"])
      expect(yield* Effect.flip(append("retired", [table], []))).toMatchObject({ _tag: "CommitRetired" })
      expect([...(yield* eventsOf("refused")), ...(yield* eventsOf("retired"))]).toEqual([])
    }))

  it.effect("is there once, where others were faster, and where the swap's answer was lost", () =>
    Effect.gen(function*() {
      const table = yield* make("lost")
      const catalog = yield* Catalog
      const calls = yield* Ref.make(0)
      const between = Catalog.of({
        ...catalog,
        swap: (swap) =>
          Effect.flatMap(Ref.getAndUpdate(calls, (n) => n + 1), (n) => {
            // At first the table is elsewhere, then it happens and nobody hears of it.
            if (n === 0) return catalog.swap({ ...swap, tables: swap.tables.map((one) => ({ ...one, expected: "elsewhere" })) })
            const lost = new CatalogError({ operation: "swap", outcome: "Unknown", retryable: true, reason: "a test's" })
            return Effect.zipRight(catalog.swap(swap), Effect.fail(lost))
          })
      })
      const { wasCommitted } = yield* Effect.provideService(append("lost", [table], [Fixture.fakeFile("l")]), Catalog, between)
      expect([wasCommitted, yield* Ref.get(calls)]).toEqual([false, 2])
      expect((yield* eventsOf("lost")).length).toBe(1)
    }))
})
