/** The latest value of each signal of each vehicle: reduced from silver's new rows in the engine, merged in PostgreSQL. */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import type { ModelColumn } from "./ModelCheck.ts"
import * as RowsBetween from "./RowsBetween.ts"

const latestOf = (signal: string) =>
  `SELECT vehicle_id, '${signal}' AS signal, unnest(arg_max(
      {value: ${signal}, event_us: epoch_us(event_ts), topic: topic, "partition": "partition", "offset": "offset"},
      {topic: topic, "partition": "partition", "offset": "offset"}))
    FROM candidate WHERE event_ts = newest_${signal} AND ${signal} IS NOT NULL GROUP BY vehicle_id`

/** Times alone are compared first, which leaves few rows to compare by the whole key. */
const latest = (relation: string): string =>
  `WITH newest AS (
    SELECT vehicle_id, ${signals.map(({ name }) => `max(event_ts) FILTER (${name} IS NOT NULL) AS newest_${name}`).join(", ")}
    FROM ${relation} GROUP BY vehicle_id
  ), candidate AS MATERIALIZED (
    SELECT * FROM ${relation} JOIN newest USING (vehicle_id) WHERE ${signals.map(({ name }) => `event_ts = newest_${name}`).join(" OR ")}
  ) ${signals.map(({ name }) => latestOf(name)).join(" UNION ALL ")}`

const columns: ReadonlyArray<ModelColumn> = ([
  ["vehicle_id", "text"],
  ["signal", "text"],
  ["value", "double"],
  ["event_us", "bigint"],
  ["topic", "text"],
  ["partition", "integer"],
  ["offset", "bigint"]
] as const).map(([name, type]) => ({ name, type, doc: "" }))

/** The latest values that a relation of silver's rows has. */
export const reduce = (connection: Connection, relation: string) => RowsBetween.slices(connection, columns, `(${latest(relation)})`)

const mergeSql = `
INSERT INTO vehicle_signal_latest AS g (vehicle_id, signal, value, event_ts, topic, partition, "offset")
SELECT p.vehicle_id, p.signal, p.value, ${RowsBetween.pgInstant("p.event_us", "timestamptz")}, p.topic, p.partition, p."offset"
FROM (${RowsBetween.selectFrom(columns)}) AS p
ON CONFLICT (vehicle_id, signal) DO UPDATE SET
  value = excluded.value, event_ts = excluded.event_ts, topic = excluded.topic, partition = excluded.partition, "offset" = excluded."offset"
WHERE (excluded.event_ts, excluded.topic, excluded.partition, excluded."offset") > (g.event_ts, g.topic, g.partition, g."offset")`

/** In the caller's transaction. */
export const merge = (sql: SqlClient.SqlClient, slices: ReadonlyArray<RowsBetween.Slice>) =>
  Effect.forEach(slices, (slice) => sql.unsafe(mergeSql, slice), { discard: true })
