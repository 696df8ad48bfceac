/**
 * Gold's values, reduced to a digest a day on both sides: what PostgreSQL holds, and what a recomputation over silver gives. Equal digests mean equal
 * values but for changes that cancel out. What crosses JavaScript are some numbers a day, whatever the tables' size.
 *
 * Doubles are compared by the sum of floor(value × 1000), which both engines compute alike.
 */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { Connection, SqlValue } from "@voltlake/query-engine/QueryEngine"

/** By day (microseconds since 1970) or signal, the digest's numbers as text. */
export type Digest = ReadonlyMap<string, string>

const summableMax = "1e15"
const comparableMax = "1e12"

const thousandths = (column: string, type: string) => `coalesce(sum(floor(least(${column}, ${comparableMax}) * 1000)::${type}), 0)`

const pgMinutes = (table: string, isKept: string, events: string, maxSpeed: string, minBattery: string) => `
  SELECT (extract(epoch FROM date_trunc('day', minute_ts)) * 1000000)::bigint::text AS key, concat_ws(' ', count(*), sum(${events}), sum(speed_count),
    trunc(coalesce(sum(speed_sum), 0) * 1000000),
    ${maxSpeed === "" ? "0" : thousandths(maxSpeed, "numeric")}, ${thousandths(minBattery, "numeric")}) AS digest
  FROM ${table} WHERE ${isKept} GROUP BY 1`

const engineMinutes = (rows: string, key: string, maxSpeed: boolean) => `
  WITH minutes AS (
    SELECT ${key} date_trunc('minute', make_timestamp(epoch_us(event_ts))) AS minute_ts, count(*) AS events, count(*) FILTER (speed_mph < ${summableMax}) AS speeds,
      sum(try_cast(speed_mph AS DECIMAL(38, 6))) FILTER (speed_mph < ${summableMax}) AS speed_sum, max(speed_mph) AS max_speed,
      min(battery_percent) AS min_battery
    FROM ${rows} GROUP BY ALL
  )
  SELECT epoch_us(date_trunc('day', minute_ts))::VARCHAR AS key, concat_ws(' ', count(*), sum(events), sum(speeds),
    replace(coalesce(sum(speed_sum), 0)::DECIMAL(38, 6)::VARCHAR, '.', ''),
    ${maxSpeed ? thousandths("max_speed", "HUGEINT") : "0"}, ${thousandths("min_battery", "HUGEINT")}) AS digest
  FROM minutes GROUP BY 1`

/** Each number without its leading zeros, which the engines write differently. */
const digestOf = (rows: ReadonlyArray<Readonly<Record<string, SqlValue>>>): Digest =>
  new Map(rows.map((row) => [
    String(row["key"]),
    String(row["digest"]).split(" ").map((number) => BigInt(number).toString()).join(" ")
  ]))

const pgLatest = `
  SELECT signal AS key, concat_ws(' ', count(*), sum((extract(epoch FROM event_ts) * 1000000)::bigint), sum(partition), sum("offset"),
    ${thousandths("value", "numeric")}) AS digest
  FROM vehicle_signal_latest GROUP BY 1`

const engineLatest = (rows: string) =>
  signals.map(({ name }) => `
    SELECT '${name}' AS key, concat_ws(' ', count(*), sum(epoch_us(newest.event_ts)), sum(newest."partition"), sum(newest."offset"), ${thousandths("value", "HUGEINT")}) AS digest
    FROM (
      SELECT max({event_ts: event_ts, topic: topic, "partition": "partition", "offset": "offset"}) AS newest,
        arg_max(${name}, {event_ts: event_ts, topic: topic, "partition": "partition", "offset": "offset"}) AS value
      FROM ${rows} WHERE ${name} IS NOT NULL GROUP BY vehicle_id
    ) HAVING count(*) > 0`).join(" UNION ALL ")

export interface GoldDigests {
  readonly vehicleMinutes: Digest
  readonly fleetMinutes: Digest
  readonly latest: Digest
}

/** What gold holds, of minutes those that a condition holds of; in the caller's transaction. */
export const held = Effect.fn("GoldDigest.held")(function*(sql: SqlClient.SqlClient, isKept: string) {
  const read = (query: string) => Effect.map(sql.unsafe<Record<string, SqlValue>>(query), digestOf)
  const digests: GoldDigests = {
    vehicleMinutes: yield* read(pgMinutes("gold_vehicle_minute_metrics", isKept, "event_count", "max_speed_mph", "min_battery_percent")),
    fleetMinutes: yield* read(pgMinutes("gold_fleet_minute_metrics", isKept, "total_events", "", "min_battery_percent_fleet")),
    latest: yield* read(pgLatest)
  }
  return digests
})

/** What silver's rows in `relation` give; minutes of those that a condition holds of. */
export const recomputed = Effect.fn("GoldDigest.recomputed")(function*(connection: Connection, relation: string, isKept = "true") {
  const kept = `(SELECT * FROM ${relation} WHERE ${isKept})`
  const read = (query: string) => Effect.map(connection.rows(query), digestOf)
  const digests: GoldDigests = {
    vehicleMinutes: yield* read(engineMinutes(kept, "vehicle_id,", true)),
    fleetMinutes: yield* read(engineMinutes(kept, "", false)),
    latest: yield* read(engineLatest(relation))
  }
  return digests
})

/** Keys whose digests differ, or that only one side has. */
export const differing = (a: Digest, b: Digest): bigint => {
  const keys = new Set([...a.keys(), ...b.keys()])
  return BigInt([...keys].filter((key) => a.get(key) !== b.get(key)).length)
}
