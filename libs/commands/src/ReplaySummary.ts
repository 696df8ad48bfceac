/** What became of a replay's records: counted in the tables themselves, over the offsets that the records got. */
import { Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import { type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"

export interface ReplaySummary {
  readonly events: number
  readonly bronze: number
  readonly silver: number
  readonly rejected: number
  /** Rejects by the rule that they broke. */
  readonly rules: Readonly<Record<string, number>>
  readonly duplicates: number
  /** Rows of gold_vehicle_minute_metrics that the events belong to. */
  readonly vehicleMinutes: number
  /** From the first send until the last event was in gold. */
  readonly seconds: number
  readonly eventsPerSecond: number
}

/** One range for each partition, from its first to its last offset: for choosing files. */
const hull = (ranges: ReadonlyArray<Position.OffsetRange>): ReadonlyArray<Position.OffsetRange> => {
  const out = new Map<string, Position.OffsetRange>()
  for (const range of ranges) {
    const known = out.get(Position.key(range))
    out.set(Position.key(range), {
      ...range,
      start: known !== undefined && known.start < range.start ? known.start : range.start,
      end: known !== undefined && known.end > range.end ? known.end : range.end
    })
  }
  return [...out.values()]
}

const rangesTable = "replay_range"

const loadRanges = Effect.fnUntraced(function*(connection: Connection, ranges: ReadonlyArray<Position.OffsetRange>) {
  yield* connection.run(`CREATE TEMP TABLE ${rangesTable} (topic VARCHAR, "partition" INTEGER, range_start BIGINT, range_end BIGINT)`)
  yield* connection.append(rangesTable, ranges.length, [
    { type: "varchar", at: (row) => ranges[row]!.topic },
    { type: "integer", at: (row) => ranges[row]!.partition },
    { type: "bigint", at: (row) => ranges[row]!.start },
    { type: "bigint", at: (row) => ranges[row]!.end }
  ])
})

/** Rows of the table whose offset lies in one of the replay's ranges, however many there are. */
const rowsOf = Effect.fnUntraced(function*(contract: TableContract, ranges: ReadonlyArray<Position.OffsetRange>) {
  const { metadata } = yield* LakeTables.load(contract)
  const wide = hull(ranges)
  const from = Position.make(wide.map((range) => [range, range.start] as const))
  const rows = yield* SnapshotSource.range(contract, metadata, from, wide)
  // Nobody else's records lie between, as when a replay is alone.
  if (wide.length === ranges.length) return rows
  return `(SELECT r.* FROM ${rows} r ASOF JOIN ${rangesTable} g
    ON r.topic = g.topic AND r."partition" = g."partition" AND r."offset" >= g.range_start WHERE r."offset" < g.range_end)`
})

const number = Effect.fnUntraced(function*(connection: Connection, query: string) {
  const [row] = yield* connection.rows(query)
  return Number(row?.["n"] ?? 0)
})

export const count = Effect.fn("ReplaySummary.count")(function*(
  events: number,
  ranges: ReadonlyArray<Position.OffsetRange>,
  seconds: number
) {
  const connection = yield* (yield* QueryEngine).connect
  yield* loadRanges(connection, ranges)
  const clean = yield* rowsOf(telemetryClean, ranges)
  const bronze = yield* number(connection, `SELECT count(*) AS n FROM ${yield* rowsOf(telemetryRaw, ranges)}`)
  const silver = yield* number(connection, `SELECT count(*) AS n FROM ${clean}`)
  const vehicleMinutes = yield* number(
    connection,
    `SELECT count(*) AS n FROM (SELECT DISTINCT vehicle_id, date_trunc('minute', make_timestamp(epoch_us(event_ts))) FROM ${clean})`
  )
  const rules = yield* connection.rows(
    `SELECT rule, count(*) AS n FROM ${yield* rowsOf(telemetryRejected, ranges)} GROUP BY rule ORDER BY n DESC, rule`
  )
  const rejected = rules.reduce((sum, row) => sum + Number(row["n"]), 0)
  const summary: ReplaySummary = {
    events,
    bronze,
    silver,
    rejected,
    rules: Object.fromEntries(rules.map((row) => [String(row["rule"]), Number(row["n"])])),
    duplicates: bronze - silver - rejected,
    vehicleMinutes,
    seconds: Number(seconds.toFixed(3)),
    eventsPerSecond: seconds > 0 ? Math.round(events / seconds) : 0
  }
  return summary
}, Effect.scoped)
