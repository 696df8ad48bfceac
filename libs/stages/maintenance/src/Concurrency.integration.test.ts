/**
 * Eight writers in two processes, compaction, expiry, deletion of files and readers, all at once over one table in PostgreSQL and local files.
 * `CONCURRENCY_COMMITS` says how many commits each writer makes (40 where not given).
 */
import { expect, layer } from "@effect/vitest"
import { Config, Duration, Effect, Fiber, Layer, Ref, Schedule } from "effect"
import { join } from "node:path"
import * as Action from "@voltlake/iceberg/Action"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { currentSchema, currentSnapshot, lineage } from "@voltlake/iceberg/TableMetadata"
import * as Tables from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Type from "@voltlake/iceberg/Type"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as Cleaner from "./Cleaner.ts"
import * as Compaction from "./Compaction.ts"

const writers = 8
const rowsPerCommit = 20
const table = TableIdentifier.make("test", "contended")

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)),
  Layer.provide(TestPostgres.layer)
)

const parts = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  Layer.mergeAll(
    LocalObjectStore.layer(join(folder, "warehouse")),
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 1 })
  )))

const lake = Tables.layer.pipe(Layer.provideMerge(Layer.mergeAll(catalog, parts)))

/** Counts the attempts of each commit. */
const counted = (attempts: Map<string, number>) =>
  Effect.map(Catalog, (catalog) =>
    Catalog.of({
      ...catalog,
      swap: (swap) => {
        attempts.set(swap.commitId, (attempts.get(swap.commitId) ?? 0) + 1)
        return catalog.swap(swap)
      }
    }))

const load = Effect.flatMap(Tables.Tables, (tables) => tables.load(table))

const writer = Effect.fnUntraced(function*(id: number, commits: number) {
  const connection = yield* (yield* QueryEngine).connect
  for (let n = 0; n < commits; n++) {
    const { metadata } = yield* load
    const commitId = yield* Transaction.newCommitId
    const file = yield* DataFileWriter.write({
      connection,
      query: `SELECT ${id}::INTEGER AS writer, (${n * rowsPerCommit} + range)::BIGINT AS n FROM range(${rowsPerCommit})`,
      metadata,
      specId: 0,
      partition: [],
      sortOrderId: 0,
      commitId,
      index: 0
    })
    yield* Transaction.commit({ commitId, changes: [{ table, actions: [Action.append([file!])] }] })
  }
}, Effect.scoped)

/** Every snapshot that is read is whole, however long its files have been merged away. */
const reader = Effect.fnUntraced(function*(reads: Ref.Ref<number>) {
  const connection = yield* (yield* QueryEngine).connect
  while (true) {
    const { metadata } = yield* load
    const { files } = yield* Scan.plan(metadata)
    const [row] = yield* Effect.scoped(Effect.flatMap(ReadSql.relation(currentSchema(metadata), metadata, files), (relation) =>
      connection.rows(`SELECT count(*) AS rows, count(DISTINCT (writer, n)) AS different FROM ${relation}`)))
    const total = BigInt(currentSnapshot(metadata)?.summary["total-records"] ?? 0)
    expect(row).toEqual({ rows: total, different: total })
    yield* Ref.update(reads, (count) => count + 1)
    // Those who commit share the processor with it.
    yield* Effect.sleep("20 millis")
  }
}, Effect.scoped)

const maintenance = Effect.fnUntraced(function*(merges: Ref.Ref<number>) {
  const connection = yield* (yield* QueryEngine).connect
  // Longer than any read here takes.
  const cleaner = yield* Cleaner.make({ gracePeriod: Duration.seconds(10) })
  while (true) {
    const done = yield* Compaction.compactTable(connection, table, { filesMin: 4 })
    yield* Ref.update(merges, (count) => count + done.length)
    const { metadata } = yield* load
    const old = metadata.snapshots.slice(0, -10).map((snapshot) => snapshot.snapshotId)
    const held = new Set(Object.values(metadata.refs).map((reference) => reference.snapshotId))
    yield* Transaction.commit({
      commitId: yield* Transaction.newCommitId,
      changes: [{ table, actions: [Action.expire(old.filter((id) => !held.has(id)))] }]
    })
    yield* cleaner.step
  }
}, Effect.scoped)

layer(lake, { excludeTestServices: true, timeout: 600_000 })("a table that all work on at once", (it) => {
  it.effect("has every row once, in one line of history, and nobody fails", () =>
    Effect.gen(function*() {
      const commits = yield* Config.integer("CONCURRENCY_COMMITS").pipe(Config.withDefault(40))
      yield* (yield* Tables.Tables).createIfAbsent(table, {
        schema: Type.schema([Type.required(1, "writer", Type.int), Type.required(2, "n", Type.long)]),
        specs: [{ specId: 0, fields: [] }],
        sortOrder: { orderId: 0, fields: [] },
        properties: {}
      })
      const [reads, merges] = [yield* Ref.make(0), yield* Ref.make(0)]
      const attempts = new Map<string, number>()
      const watched = Effect.provideServiceEffect(Catalog, counted(attempts))
      const others = yield* Effect.fork(
        Effect.all([reader(reads), reader(reads), maintenance(merges)], { concurrency: "unbounded", discard: true }).pipe(watched)
      )
      // One's own commits follow each other: what two processes do meets in the catalog only.
      const process = (ids: ReadonlyArray<number>) =>
        Effect.forEach(ids, (id) => writer(id, commits), { concurrency: "unbounded", discard: true }).pipe(Effect.provide(Layer.fresh(Tables.layer)))
      const writing = Effect.all([process([0, 1, 2, 3]), process([4, 5, 6, 7])], { concurrency: "unbounded", discard: true })
      const merged = Effect.repeat(Ref.get(merges), { until: (count) => count > 0, schedule: Schedule.spaced("50 millis") })
      // The first of the others that fails ends it.
      yield* Effect.raceFirst(Effect.zipRight(watched(writing), merged), Fiber.join(others))
      yield* Fiber.interrupt(others)
      const tried = Array.from(attempts.values())
      const worst = Math.max(...tried)
      yield* Effect.log("commits").pipe(
        Effect.annotateLogs({ commits: tried.length, attempts: tried.reduce((sum, count) => sum + count), worst, merges: yield* Ref.get(merges) })
      )
      // Three losses until it gets in line; then those who were at it already are in its way, once each.
      expect(worst).toBeLessThanOrEqual(8)
      const { metadata } = yield* load
      const { files } = yield* Scan.plan(metadata)
      const connection = yield* (yield* QueryEngine).connect
      const rows = yield* connection.rows(`SELECT writer, count(*) AS rows, count(DISTINCT n) AS different FROM ${
        yield* ReadSql.relation(currentSchema(metadata), metadata, files)} GROUP BY writer ORDER BY writer`)
      const each = BigInt(commits * rowsPerCommit)
      expect(rows).toEqual(Array.from({ length: writers }, (_, id) => ({ writer: id, rows: each, different: each })))
      const line = Array.from(lineage(metadata))
      const sequence = line.map((snapshot) => snapshot.sequenceNumber)
      expect(sequence).toEqual(sequence.map((_, at) => sequence[0]! - BigInt(at)))
      expect(yield* Ref.get(reads)).toBeGreaterThan(0)
    }).pipe(Effect.scoped), 600_000)
})
