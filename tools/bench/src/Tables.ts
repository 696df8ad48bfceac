/**
 * What a table's age and size cost, over local files and PostgreSQL: a small commit early and late, planning among many files, and compaction. The
 * tables are the lake's own, in a lake of their own.
 */
import { Effect } from "effect"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { telemetryClean, telemetryRaw, telemetryRejected, type TableContract } from "@voltlake/domain/Tables"
import { decodeSql } from "@voltlake/domain/DecodeSql"
import * as Action from "@voltlake/iceberg/Action"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as Expression from "@voltlake/iceberg/Expression"
import * as Scan from "@voltlake/iceberg/Scan"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as Compactor from "@voltlake/maintenance/Compactor"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { inLake, median, rounded, timed } from "./BenchLake.ts"

/** A minute of one commit a second. */
const commitsPerMinute = 60
const settings = { filesMin: 16 }
const dayMicros = 86_400_000_000n
const firstDay = 20_000

/** Bronze rows of events with random ids and noisy signals, `count` from offset `start` on. */
const rawRows = (start: number, count: number) => `(
  SELECT 'telemetry_raw' AS topic, (i % 4)::INTEGER AS "partition", (i // 4)::BIGINT AS "offset", make_timestamp(${BigInt(firstDay) * dayMicros} + i * 1000)::TIMESTAMPTZ AS "timestamp",
    encode('vehicle-' || lpad((i % 1000)::VARCHAR, 6, '0')) AS "key",
    encode('{"event_id":"' || gen_random_uuid() || '","vehicle_id":"vehicle-' || lpad((i % 1000)::VARCHAR, 6, '0') || '","event_time":"2024-10-04T00:00:' || lpad((i % 60)::VARCHAR, 2, '0') ||
      '.123Z","ingest_time":"2024-10-04T00:00:01.123Z","source":"bench","payload":{"battery_percent":' || round(random() * 100, 3) || ',"speed_mph":' || round(random() * 90, 4) ||
      ',"odometer_miles":' || round(random() * 90000, 4) || '}}') AS "value",
    []::STRUCT("key" VARCHAR, "value" BLOB)[] AS headers, make_timestamp(${BigInt(firstDay) * dayMicros})::TIMESTAMPTZ AS ingested_at
  FROM range(${start}, ${start + count}) AS t(i) ORDER BY "partition", "offset")`

const write = Effect.fnUntraced(function*(connection: Connection, contract: TableContract, rows: string) {
  const { identifier, metadata } = yield* LakeTables.ensure(contract)
  const commitId = yield* Transaction.newCommitId
  const files = yield* DayFiles.write(connection, rows, { contract, metadata, commitId, daysMax: 16, rows: contract === telemetryRaw ? "sorted" : "unsorted" })
  return { commitId, changes: [{ table: identifier, actions: [Action.append(files)] }] }
})

const load = (contract: TableContract) => Effect.flatMap(Tables, (tables) => tables.load(LakeTables.identifier(contract)))

const planNow = (contract: TableContract, filter = Expression.everything) =>
  Effect.flatMap(load(contract), ({ metadata }) => timed(Scan.plan(metadata, { filter })))

/** Commits one small file after the other, while the table is maintained as in a running lake. */
const commits = Effect.fnUntraced(function*(count: number) {
  const connection = yield* (yield* QueryEngine).connect
  yield* LakeTables.ensure(telemetryRaw)
  const compactor = yield* Compactor.make([LakeTables.identifier(telemetryRaw)], settings)
  const times: Array<number> = []
  let early = 0
  for (let at = 0; at < count; at++) {
    const request = yield* write(connection, telemetryRaw, rawRows(at * 40, 40))
    times.push((yield* timed(Transaction.commit(request))).millis)
    if (at === 100) early = (yield* planNow(telemetryRaw)).millis
    if (at % commitsPerMinute === commitsPerMinute - 1) yield* compactor.step
  }
  const plan = yield* planNow(telemetryRaw)
  const { metadata } = yield* load(telemetryRaw)
  return {
    commits: count,
    commitMillisAt100: rounded(median(times.slice(50, 150))),
    commitMillisAtEnd: rounded(median(times.slice(-100))),
    planMillisAt100: rounded(early),
    planMillisAtEnd: rounded(plan.millis),
    filesAtEnd: plan.value.files.length,
    snapshotsAtEnd: metadata.snapshots.length
  }
})

/** Makes a table of `count` files, 1000 a day, that are named but not there, and plans for one of its days. */
const planning = Effect.fnUntraced(function*(count: number) {
  const connection = yield* (yield* QueryEngine).connect
  const [model] = (yield* write(connection, telemetryRejected, `(SELECT topic, "partition", "offset", "timestamp", "key", "value", 'rule' AS rule, 'cause' AS cause,
    ingested_at AS rejected_at, 1 AS attempt FROM ${rawRows(0, 100)})`)).changes[0]!.actions.flatMap((action) => (action.type === "files" ? action.added : []))
  const { identifier, metadata } = yield* load(telemetryRejected)
  for (let made = 0; made < count; made += 1000) {
    const files = Array.from({ length: Math.min(1000, count - made) }, (_, at): DataFile => ({
      ...model!,
      // Of other days than the model's.
      lowerBounds: new Map(),
      upperBounds: new Map(),
      filePath: `${metadata.location}/data/${made + at}.parquet`,
      partition: [firstDay + made / 1000]
    }))
    yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table: identifier, actions: [Action.append(files)] }] })
  }
  const day = BigInt(firstDay + Math.floor(count / 2000))
  const filter = Expression.and(Expression.test("rejected_at", ">=", day * dayMicros), Expression.test("rejected_at", "<", (day + 1n) * dayMicros))
  return { filter, count }
})

/** Rows a second and core of merging files as stages leave them. */
const compaction = Effect.fnUntraced(function*(contract: TableContract, files: number, rowsPerFile: number) {
  const connection = yield* (yield* QueryEngine).connect
  for (let at = 0; at < files; at++) {
    const raw = rawRows(at * rowsPerFile, rowsPerFile)
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE bench_rows AS ${contract === telemetryRaw ? `FROM ${raw}` : decodeSql(raw)}`)
    yield* Transaction.commit(yield* write(connection, contract, "bench_rows"))
  }
  const before = process.cpuUsage()
  const { millis, value } = yield* timed(Compaction.compactTable(connection, LakeTables.identifier(contract), settings))
  const { system, user } = process.cpuUsage(before)
  const rows = value.reduce((sum, merged) => sum + Number(merged.rows), 0)
  return { rows, rowsPerSecond: Math.round(rows / (millis / 1000)), rowsPerSecondAndCore: Math.round(rows / ((system + user) / 1e6)) }
})

export interface TablesOptions {
  readonly commits: number
  readonly files: number
}

export const run = async (options: TablesOptions) => {
  const aged = await inLake(commits(options.commits))
  const planned = await inLake(Effect.gen(function*() {
    const { count, filter } = yield* planning(options.files)
    const cold = yield* planNow(telemetryRejected, filter)
    const warm = yield* planNow(telemetryRejected, filter)
    return { planFiles: count, planDayFiles: cold.value.files.length, planDayMillis: rounded(cold.millis), planDayMillisWarm: rounded(warm.millis) }
  }))
  const bronze = await inLake(compaction(telemetryRaw, 40, 25_000))
  const silver = await inLake(compaction(telemetryClean, 40, 25_000))
  return {
    ...aged,
    ...planned,
    compactedRows: bronze.rows,
    bronzeRowsPerSecond: bronze.rowsPerSecond,
    bronzeRowsPerSecondAndCore: bronze.rowsPerSecondAndCore,
    silverRowsPerSecond: silver.rowsPerSecond,
    silverRowsPerSecondAndCore: silver.rowsPerSecondAndCore
  }
}
