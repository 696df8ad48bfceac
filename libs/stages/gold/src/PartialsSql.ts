/**
 * The SQL on both sides of gold's merge: DuckDB reduces new silver rows to partial aggregates, a JSON array for each kind; PostgreSQL merges them.
 * What crosses JavaScript is one text per kind, never a row.
 */
import { signals } from "@voltlake/domain/TelemetryEvent"

// Below this a speed is summed as decimal(38,6): 10^15 rows of it fit. Greater ones are no speeds, yet no rule forbids them: they are left out of sum and
// average, and are the greatest speed all the same. The cast is tried, since it is made before the filter is asked.
const summableMax = "1e15"

/** Rows sent in one statement. */
const rowsPerText = 20_000

const texts = (columns: ReadonlyArray<string>, relation: string) =>
  `SELECT json_group_array(json_object(${columns.map((name) => `'${name}', "${name}"`).join(", ")}))::VARCHAR AS texts
   FROM (SELECT *, (row_number() OVER () - 1) // ${rowsPerText} AS slice FROM (${relation})) GROUP BY slice`

/** From silver rows in `relation`: what each vehicle's minute has of them. Minutes are microseconds since 1970. */
export const minutes = (relation: string): string =>
  `SELECT vehicle_id, epoch_us(date_trunc('minute', make_timestamp(epoch_us(event_ts)))) AS minute_us, count(*) AS event_count,
    coalesce(sum(try_cast(speed_mph AS DECIMAL(38, 6))) FILTER (speed_mph < ${summableMax}), 0) AS speed_sum,
    count(*) FILTER (speed_mph < ${summableMax}) AS speed_count, max(speed_mph) AS max_speed, min(battery_percent) AS min_battery
  FROM ${relation} GROUP BY vehicle_id, minute_us`

// The sum goes as text: numbers in JSON are doubles to the engine once it puts them into an array.
const sentSum = "* REPLACE (speed_sum::VARCHAR AS speed_sum)"

/** From {@link minutes} in `relation`: one text per slice of (vehicle, minute) partials. */
export const vehicleMinutes = (relation: string): string =>
  texts(
    ["vehicle_id", "minute_us", "event_count", "speed_sum", "speed_count", "max_speed", "min_battery"],
    `SELECT ${sentSum} FROM ${relation}`
  )

/** From {@link minutes} in `relation`: the same of the whole fleet. */
export const fleetMinutes = (relation: string): string =>
  texts(
    ["minute_us", "event_count", "speed_sum", "speed_count", "min_battery"],
    `SELECT ${sentSum} FROM (
      SELECT minute_us, sum(event_count)::BIGINT AS event_count, sum(speed_sum) AS speed_sum,
        sum(speed_count)::BIGINT AS speed_count, min(min_battery) AS min_battery
      FROM ${relation} GROUP BY minute_us)`
  )

const latestOf = (signal: string) =>
  `SELECT vehicle_id, '${signal}' AS signal, unnest(arg_max(
      {value: ${signal}, event_us: epoch_us(event_ts), topic: topic, "partition": "partition", "offset": "offset"},
      {topic: topic, "partition": "partition", "offset": "offset"}))
    FROM candidate WHERE event_ts = newest_${signal} AND ${signal} IS NOT NULL GROUP BY vehicle_id`

/** The latest value of each signal of each vehicle. Times alone are compared first, which leaves few rows to compare by the whole key. */
export const latest = (relation: string): string =>
  texts(
    ["vehicle_id", "signal", "value", "event_us", "topic", "partition", "offset"],
    `WITH newest AS (
      SELECT vehicle_id, ${signals.map(({ name }) => `max(event_ts) FILTER (${name} IS NOT NULL) AS newest_${name}`).join(", ")}
      FROM ${relation} GROUP BY vehicle_id
    ), candidate AS MATERIALIZED (
      SELECT * FROM ${relation} JOIN newest USING (vehicle_id) WHERE ${signals.map(({ name }) => `event_ts = newest_${name}`).join(" OR ")}
    ) ${signals.map(({ name }) => latestOf(name)).join(" UNION ALL ")}`
  )

const toTimestamp = (column: string) => `timestamp 'epoch' + ${column} * interval '1 microsecond'`

export const mergeVehicleMinutes = `
INSERT INTO gold_vehicle_minute_metrics AS g
  (vehicle_id, minute_ts, max_speed_mph, min_battery_percent, event_count, speed_sum, speed_count)
SELECT p.vehicle_id, ${toTimestamp("p.minute_us")}, p.max_speed, p.min_battery, p.event_count, p.speed_sum, p.speed_count
FROM json_to_recordset($1::json) AS p(vehicle_id text, minute_us bigint, event_count bigint, speed_sum numeric,
  speed_count bigint, max_speed double precision, min_battery double precision)
ON CONFLICT (vehicle_id, minute_ts) DO UPDATE SET
  max_speed_mph = greatest(g.max_speed_mph, excluded.max_speed_mph),
  min_battery_percent = least(g.min_battery_percent, excluded.min_battery_percent),
  event_count = g.event_count + excluded.event_count,
  speed_sum = g.speed_sum + excluded.speed_sum,
  speed_count = g.speed_count + excluded.speed_count`

export const mergeFleetMinutes = `
INSERT INTO gold_fleet_minute_metrics AS g (minute_ts, min_battery_percent_fleet, total_events, speed_sum, speed_count)
SELECT ${toTimestamp("p.minute_us")}, p.min_battery, p.event_count, p.speed_sum, p.speed_count
FROM json_to_recordset($1::json) AS p(minute_us bigint, event_count bigint, speed_sum numeric, speed_count bigint,
  min_battery double precision)
ON CONFLICT (minute_ts) DO UPDATE SET
  min_battery_percent_fleet = least(g.min_battery_percent_fleet, excluded.min_battery_percent_fleet),
  total_events = g.total_events + excluded.total_events,
  speed_sum = g.speed_sum + excluded.speed_sum,
  speed_count = g.speed_count + excluded.speed_count`

export const mergeLatest = `
INSERT INTO vehicle_signal_latest AS g (vehicle_id, signal, value, event_ts, topic, partition, "offset")
SELECT p.vehicle_id, p.signal, p.value, timestamptz 'epoch' + p.event_us * interval '1 microsecond', p.topic, p.partition, p."offset"
FROM json_to_recordset($1::json) AS p(vehicle_id text, signal text, value double precision, event_us bigint, topic text, partition integer,
  "offset" bigint)
ON CONFLICT (vehicle_id, signal) DO UPDATE SET
  value = excluded.value, event_ts = excluded.event_ts, topic = excluded.topic, partition = excluded.partition, "offset" = excluded."offset"
WHERE (excluded.event_ts, excluded.topic, excluded.partition, excluded."offset") > (g.event_ts, g.topic, g.partition, g."offset")`
