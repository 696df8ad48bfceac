/** Partial aggregates of silver's rows: reduced in the engine, merged in PostgreSQL. */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type * as Position from "@voltlake/domain/Position"
import type * as Progress from "@voltlake/domain/Progress"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import * as PartialsSql from "./PartialsSql.ts"

const batchTable = "gold_batch"
const minutesTable = "gold_minutes"

const columns = ["vehicle_id", "event_ts", "topic", "\"partition\"", "\"offset\"", ...signals.map((signal) => signal.name)].join(", ")

/** A text for each statement of a merge. */
export interface Partials {
  readonly ranges: ReadonlyArray<Progress.RangeCounts>
  readonly vehicleMinutes: ReadonlyArray<string>
  readonly fleetMinutes: ReadonlyArray<string>
  readonly latest: ReadonlyArray<string>
}

/** How the offsets of these ranges count for gold, where a relation holds all of silver's rows in them. */
export const countRanges = Effect.fnUntraced(function*(connection: Connection, silverRows: string, ranges: ReadonlyArray<Position.OffsetRange>) {
  const counts = yield* connection.rows(`SELECT topic, "partition", count(*) AS rows FROM ${silverRows} GROUP BY ALL`)
  return ranges.map((range): Progress.RangeCounts => {
    const row = counts.find((one) => one["topic"] === range.topic && one["partition"] === range.partition)
    const rows = BigInt((row?.["rows"] ?? 0n) as bigint)
    return { ...range, rows, skipped: range.end - range.start - rows, lost: 0n, rejected: 0n, duplicates: 0n }
  })
})

const texts = (connection: Connection, query: string) =>
  Effect.map(connection.rows(query), (rows) => rows.map((row) => String(row["texts"])))

/** `silverRows` is read once. */
export const reduce = Effect.fnUntraced(function*(connection: Connection, silverRows: string, ranges: ReadonlyArray<Position.OffsetRange>) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${batchTable} AS SELECT ${columns} FROM ${silverRows}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${minutesTable} AS ${PartialsSql.minutes(batchTable)}`)
  const partials: Partials = {
    ranges: yield* countRanges(connection, batchTable, ranges),
    vehicleMinutes: yield* texts(connection, PartialsSql.vehicleMinutes(minutesTable)),
    fleetMinutes: yield* texts(connection, PartialsSql.fleetMinutes(minutesTable)),
    latest: yield* texts(connection, PartialsSql.latest(batchTable))
  }
  return partials
})

export const mergeVehicles = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, partials: Partials) {
  for (const text of partials.vehicleMinutes) yield* sql.unsafe(PartialsSql.mergeVehicleMinutes, [text])
  for (const text of partials.latest) yield* sql.unsafe(PartialsSql.mergeLatest, [text])
})

export const mergeAll = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, partials: Partials) {
  yield* mergeVehicles(sql, partials)
  for (const text of partials.fleetMinutes) yield* sql.unsafe(PartialsSql.mergeFleetMinutes, [text])
})
