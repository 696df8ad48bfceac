import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { telemetryRaw } from "@voltlake/domain/Tables"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as Scan from "@voltlake/iceberg/Scan"
import { timestamptz } from "@voltlake/iceberg/Type"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as DayFiles from "./DayFiles.ts"
import * as LakeTables from "./LakeTables.ts"

const dayMicros = 86_400_000_000n
const timeId = telemetryRaw.columns.find((column) => column.name === telemetryRaw.dayOf)!.id

/** Rows of (day since 1970, how many): the first at midnight, the last a microsecond before the next. Unordered, with a column too many. */
const rowsOf = (days: ReadonlyArray<readonly [number, number]>) => {
  const all = days.map(([day, count]) => `
    SELECT 't' AS topic, ${Math.abs(day) % 3}::INTEGER AS "partition", (${day} + 1000000)::BIGINT * 1000 + range AS "offset",
      make_timestamp(${BigInt(day) * dayMicros} + CASE WHEN range = 0 THEN 0 ELSE ${dayMicros} - range END)::TIMESTAMPTZ AS "timestamp",
      NULL::BLOB AS "key", 'v'::BLOB AS "value", []::STRUCT("key" VARCHAR, "value" BLOB)[] AS headers, now() AS ingested_at, 1 AS surplus
    FROM range(${count})`)
  return `(SELECT * FROM (${all.join(" UNION ALL ")}) ORDER BY hash("offset"))`
}

const write = (days: ReadonlyArray<readonly [number, number]>, daysMax: number) =>
  Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const store = yield* ObjectStore
    const { metadata } = yield* LakeTables.ensure(telemetryRaw)
    const target = { contract: telemetryRaw, metadata, commitId: yield* StageLake.newCommitId, daysMax }
    const files = yield* DayFiles.write(connection, rowsOf(days), target)
    const read = (file: DataFile) =>
      Effect.gen(function*() {
        const path = yield* store.localFile(store.keyOf(file.filePath)!)
        const rows = yield* connection.rows(`SELECT "offset", "partition", ("timestamp"::TIMESTAMP::DATE - DATE '1970-01-01') AS day FROM '${path}'`)
        return {
          file,
          bounds: [Scan.lowerBound(file, { id: timeId, type: timestamptz }), Scan.upperBound(file, { id: timeId, type: timestamptz })],
          rows: rows.map((row) => ({ offset: row["offset"] as bigint, partition: Number(row["partition"]), day: Number(row["day"]) }))
        }
      })
    return yield* Effect.forEach(files, read)
  }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable))

type Written = Effect.Effect.Success<ReturnType<typeof write>>

const daysOf = (written: Written) => written.map(({ rows }) => [...new Set(rows.map((row) => row.day))].sort((a, b) => a - b))

const expectEveryRowOnce = (written: Written, days: ReadonlyArray<readonly [number, number]>) => {
  const expected = days.flatMap(([day, count]) => Array.from({ length: count }, (_, at) => BigInt(day + 1_000_000) * 1000n + BigInt(at)))
  const found = written.flatMap(({ rows }) => rows.map((row) => row.offset))
  expect(found.toSorted(ascending)).toEqual(expected.toSorted(ascending))
}

const ascending = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)

describe("DayFiles", () => {
  // Years 1, 1969, 1970, 2025 and 9999.
  const far = [[-719_162, 1], [-1, 3], [0, 2], [20_148, 4], [2_932_896, 1]] as const

  it.live("writes one file a day, named and partitioned by it, of any year", () =>
    Effect.gen(function*() {
      const written = yield* write(far, 16)
      expectEveryRowOnce(written, far)
      expect(daysOf(written).flat().toSorted((a, b) => a - b)).toEqual(far.map(([day]) => day))
      for (const { file, rows } of written) {
        expect(file).toMatchObject({ specId: LakeTables.daySpecId, partition: [rows[0]!.day], recordCount: BigInt(rows.length) })
      }
    }))

  it.live("orders the rows of a file as the contract says", () =>
    Effect.gen(function*() {
      for (const { rows } of yield* write([[1, 50], [2, 50], [3, 50], [4, 50]], 2)) {
        const order = (row: (typeof rows)[number]) => BigInt(row.partition) * 10n ** 12n + row.offset
        expect(rows.map(order)).toEqual(rows.map(order).toSorted(ascending))
      }
    }))

  it.live("gives the days with most rows files of their own and lets all others share one", () =>
    Effect.gen(function*() {
      const days = [[10, 1], [11, 9], [12, 2], [13, 8], [14, 3]] as const
      const written = yield* write(days, 3)
      expectEveryRowOnce(written, days)
      expect(daysOf(written)).toEqual([[11], [13], [10, 12, 14]])
      expect(written.map(({ file }) => [file.specId, file.partition])).toEqual([
        [LakeTables.daySpecId, [11]],
        [LakeTables.daySpecId, [13]],
        [LakeTables.unpartitionedSpecId, []]
      ])
      // By its bounds a reader still skips the shared file: from the first day's first row to the last day's.
      const shared = written[2]!
      expect(shared.bounds).toEqual([10n * dayMicros, 15n * dayMicros - 1n])
    }))

  for (const daysMax of [1, 2, 5, 6]) {
    it.live(`writes every row once into at most ${daysMax} files`, () =>
      Effect.gen(function*() {
        const days = Array.from({ length: 6 }, (_, at) => [100 + at * 7, 1 + at] as const)
        const written = yield* write(days, daysMax)
        expect(written).toHaveLength(daysMax)
        expectEveryRowOnce(written, days)
      }))
  }

  it.live("writes nothing for no rows", () =>
    Effect.gen(function*() {
      expect(yield* write([[1, 0]], 16)).toEqual([])
    }))
})
