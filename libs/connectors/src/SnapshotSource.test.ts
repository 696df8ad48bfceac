import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import fc from "fast-check"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as DayFiles from "./DayFiles.ts"
import * as LakeTables from "./LakeTables.ts"
import * as SnapshotSource from "./SnapshotSource.ts"

/** Of one partition in one commit: offsets that hold a row, offsets that hold none before them, and over how many days the rows spread. */
interface Part {
  readonly partition: number
  readonly skipped: number
  readonly rows: number
  readonly days: number
}

type Commit = ReadonlyArray<Part>

const topicOf = (partition: number) => (partition === 2 ? "it's-another" : "t")

interface Model {
  readonly position: Position.Position
  /** `partition/offset` of every row. */
  readonly rows: ReadonlyArray<readonly [number, bigint]>
}

const apply = (model: Model, commit: Commit) => {
  const ranges = commit.filter((part) => part.rows + part.skipped > 0).map((part) => {
    const tp = { topic: topicOf(part.partition), partition: part.partition }
    const start = Position.get(model.position, tp) ?? 0n
    const rows = BigInt(part.rows)
    const skipped = BigInt(part.skipped)
    return { ...tp, start, end: start + rows + skipped, rows, skipped, lost: 0n, rejected: 0n, duplicates: 0n }
  })
  const added = ranges.flatMap((range) =>
    Array.from({ length: Number(range.rows) }, (_, at) => [range.partition, range.start + range.skipped + BigInt(at)] as const))
  const next: Model = {
    position: Position.max(model.position, Position.make(ranges.map((range) => [range, range.end] as const))),
    rows: [...model.rows, ...added]
  }
  return { next, ranges, added }
}

const empty: Model = { position: Position.empty, rows: [] }

const commitRows = Effect.fnUntraced(function*(commit: Commit, before: Model) {
  const connection = yield* (yield* QueryEngine).connect
  const { added, next, ranges } = apply(before, commit)
  const table = yield* LakeTables.load(telemetryRaw)
  const commitId = yield* StageLake.newCommitId
  const days = (partition: number) => commit.find((part) => part.partition === partition)!.days
  const values = added.map(([partition, offset]) =>
    `('${topicOf(partition).replaceAll("'", "''")}', ${partition}, ${offset}, ${Number(offset) % days(partition)})`)
  const files = added.length === 0 ? [] : yield* DayFiles.write(
    connection,
    `(SELECT topic, "partition", "offset", TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days(day::INTEGER) AS "timestamp", NULL::BLOB AS "key",
      NULL::BLOB AS "value", []::STRUCT("key" VARCHAR, "value" BLOB)[] AS headers, now() AS ingested_at
      FROM (VALUES ${values.join(", ")}) AS v(topic, "partition", "offset", day))`,
    { contract: telemetryRaw, metadata: table.metadata, commitId, daysMax: 2 }
  )
  const progress = Either.getOrThrow(Progress.advance(table.progress, ranges))
  yield* Transaction.commit({
    commitId,
    changes: [{ table: table.identifier, actions: [Action.append(files)], summary: () => Either.right(LakeTables.progressSummary(progress)) }]
  })
  return next
}, Effect.scoped)

const keysIn = (relation: string) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const rows = yield* connection.rows(`SELECT topic, "partition" AS p, "offset" AS o FROM ${relation}`)
    return rows.map((row) => `${row["topic"]}/${row["p"]}/${row["o"]}`).sort()
  }))

const keysOf = (rows: Model["rows"]) => rows.map(([partition, offset]) => `${topicOf(partition)}/${partition}/${offset}`).sort()

const commitAll = Effect.fnUntraced(function*(commits: ReadonlyArray<Commit>) {
  yield* LakeTables.ensure(telemetryRaw)
  const models = [empty]
  for (const commit of commits) models.push(yield* commitRows(commit, models.at(-1)!))
  return models
})

const rangesBetween = (from: Position.Position, to: Position.Position): ReadonlyArray<Position.OffsetRange> =>
  Array.from(to, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? 0n, end })).filter((range) => range.end > range.start)

const inside = (rows: Model["rows"], ranges: ReadonlyArray<Position.OffsetRange>) =>
  rows.filter(([partition, offset]) => ranges.some((one) => one.partition === partition && offset >= one.start && offset < one.end))

const anyPart = fc.record({
  partition: fc.integer({ min: 0, max: 2 }),
  skipped: fc.integer({ min: 0, max: 3 }),
  rows: fc.integer({ min: 0, max: 9 }),
  days: fc.integer({ min: 1, max: 5 })
})
const anyCommit = fc.uniqueArray(anyPart, { selector: (part) => part.partition, minLength: 1, maxLength: 3 })

/** Where a reader is, as shares of the whole way of each partition. */
const anyShares = fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })), {
  minLength: 3,
  maxLength: 3
})

const share = (end: bigint, part: number) => BigInt(Math.round(Number(end) * part))

describe("SnapshotSource", () => {
  it("answers exactly the rows of the ranges, whatever the commits, their files and the reader's position", () =>
    fc.assert(
      fc.asyncProperty(fc.array(anyCommit, { minLength: 1, maxLength: 6 }), fc.array(anyShares, { minLength: 2, maxLength: 2 }), fc.boolean(),
        (commits, readers, rewritten) =>
          Effect.gen(function*() {
            const models = yield* commitAll(commits)
            const last = models.at(-1)!
            if (rewritten) yield* OtherEngine.overwrite(telemetryRaw, { rows: (all) => `SELECT * FROM ${all}` })
            const { metadata } = yield* LakeTables.load(telemetryRaw)
            expect(yield* keysIn(yield* SnapshotSource.all(telemetryRaw, metadata))).toEqual(keysOf(last.rows))
            const positions = [
              ...models.map((model) => model.position),
              ...readers.map((shares): Position.Position =>
                new Map(Array.from(last.position, ([key, end], at) => [key, share(end, shares[at]![0])])))
            ]
            for (const from of positions) {
              const whole = rangesBetween(from, last.position)
              const cut = whole.map((range, at) => ({ ...range, end: range.start + share(range.end - range.start, readers[0]![at]![1]) }))
              for (const ranges of [whole, cut]) {
                const relation = yield* SnapshotSource.range(telemetryRaw, metadata, from, ranges)
                expect(yield* keysIn(relation)).toEqual(keysOf(inside(last.rows, ranges)))
              }
            }
          }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable), Effect.runPromise)),
      { numRuns: 12 }
    ))

  const counted = Effect.gen(function*() {
    const store = yield* ObjectStore
    const opened: Array<string> = []
    const counting = ObjectStore.of({ ...store, localFile: (key) => Effect.zipRight(Effect.sync(() => opened.push(key)), store.localFile(key)) })
    return { counting, opened }
  })

  it.live("opens no file that a reader at its position has read", () =>
    Effect.gen(function*() {
      const { counting, opened } = yield* counted
      const models = yield* commitAll(Array.from({ length: 8 }, () => [{ partition: 0, skipped: 0, rows: 4, days: 1 }]))
      const { metadata } = yield* LakeTables.load(telemetryRaw)
      const end = models.at(-1)!.position
      for (const [read, files] of [[0, 8], [3, 5], [7, 1], [8, 0]] as const) {
        opened.length = 0
        const from = models[read]!.position
        yield* SnapshotSource.range(telemetryRaw, metadata, from, rangesBetween(from, end)).pipe(Effect.provideService(ObjectStore, counting))
        expect(opened).toHaveLength(files)
      }
      // The log of another partition begins at low offsets, too: those of the old files, which bounds alone would not rule out.
      yield* commitRows([{ partition: 1, skipped: 0, rows: 4, days: 1 }], models.at(-1)!)
      opened.length = 0
      const another = [{ topic: "t", partition: 1, start: 0n, end: 4n }]
      const grown = (yield* LakeTables.load(telemetryRaw)).metadata
      yield* SnapshotSource.range(telemetryRaw, grown, end, another).pipe(Effect.provideService(ObjectStore, counting))
      expect(opened).toHaveLength(1)
      // In the middle of a commit: that commit's file and the later ones, and of those only what may hold the range.
      opened.length = 0
      const middle = Position.make([[{ topic: "t", partition: 0 }, 14n]])
      const ranges = [{ topic: "t", partition: 0, start: 14n, end: 18n }]
      const relation = yield* SnapshotSource.range(telemetryRaw, metadata, middle, ranges).pipe(Effect.provideService(ObjectStore, counting))
      expect(opened).toHaveLength(2)
      expect(yield* keysIn(relation)).toEqual(["t/0/14", "t/0/15", "t/0/16", "t/0/17"])
    }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable)))

  it.live("answers no rows, with every column, where there are none", () =>
    Effect.gen(function*() {
      const { metadata } = yield* LakeTables.ensure(telemetryRaw)
      const connection = yield* (yield* QueryEngine).connect
      const ranges = [{ topic: "t", partition: 0, start: 0n, end: 10n }]
      for (
        const relation of [
          yield* SnapshotSource.all(telemetryRaw, metadata),
          yield* SnapshotSource.range(telemetryRaw, metadata, Position.empty, ranges),
          yield* SnapshotSource.range(telemetryRaw, metadata, Position.empty, [])
        ]
      ) {
        const { columns, rows } = yield* connection.table(`SELECT * FROM ${relation}`)
        expect(rows).toEqual([])
        expect(columns).toEqual(telemetryRaw.columns.map((column) => column.name))
      }
    }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable)))
})

describe("inRanges", () => {
  const rows = `(VALUES ('a', 0, 5), ('a''; DROP TABLE x; --', 0, 5), ('a', 1, 5), ('a', 0, 6)) AS v(topic, "partition", "offset")`
  const range = (topic: string, partition: number, start: bigint, end: bigint) => ({ topic, partition, start, end })
  it.live.each<readonly [string, ReadonlyArray<Position.OffsetRange>, bigint]>([
    ["no ranges hold nothing", [], 0n],
    ["the end is outside, the start inside", [range("a", 0, 5n, 6n)], 1n],
    ["an empty range holds nothing", [range("a", 0, 5n, 5n)], 0n],
    ["several ranges hold the rows of each", [range("a", 0, 0n, 100n), range("a", 1, 0n, 100n)], 3n],
    ["a quote in a topic is a quote", [range("a'; DROP TABLE x; --", 0, 0n, 9n)], 1n],
    ["offsets go as far as longs do", [range("a", 0, 6n, 9_223_372_036_854_775_807n)], 1n]
  ])("%s", ([, ranges, expected]) =>
    Effect.gen(function*() {
      const connection = yield* (yield* QueryEngine).connect
      expect(yield* connection.rows(`SELECT count(*) AS rows FROM ${rows} WHERE ${SnapshotSource.inRanges(ranges)}`)).toEqual([{ rows: expected }])
    }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable)))
})
