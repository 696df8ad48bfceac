/** Models that no lake has, for what engines do each in its way: numbers, texts and times at their edges, windows, sets and joins. */
import { Either } from "effect"
import * as GoldModel from "@voltlake/domain/GoldModel"

const model = (name: string, key: string, tests: ReadonlyArray<string>, sql: string) =>
  Either.getOrThrow(GoldModel.parse(name, [
    ...[`name: ${name}`, "description: d", `key: ${key}`, "time: minute_ts", "grain: minute", "refresh: batch"].map((line) => `-- ${line}`),
    ...tests.map((test) => `-- test: ${test}`),
    sql
  ].join("\n")))

const minute = "date_trunc('minute', event_ts)"

/** Of a row of silver each, so that nothing hides in a sum. The types are of what they answer. */
const expressions: ReadonlyArray<string> = [
  "CAST(speed_mph AS DECIMAL(38, 6))",
  "CAST((speed_mph - 50) / 7 AS DECIMAL(38, 6))",
  "CAST((speed_mph - 50) / 8 AS DECIMAL(20, 6))",
  "CAST(speed_mph * 123456789012.345 AS DECIMAL(38, 6))",
  "CAST(-1e15 * speed_mph AS DECIMAL(38, 6))",
  "CAST(CAST(speed_mph / 3 AS DECIMAL(30, 2)) AS DECIMAL(38, 6))",
  "CAST(CAST(battery_percent AS DECIMAL(12, 6)) - CAST(odometer_miles AS DECIMAL(20, 3)) AS DECIMAL(38, 6))",
  "CAST(CAST(battery_percent AS DECIMAL(9, 2)) * CAST(battery_percent AS DECIMAL(9, 3)) AS DECIMAL(38, 6))",
  "CAST(CAST(odometer_miles AS DECIMAL(12, 1)) AS BIGINT)",
  "CAST(CAST(0.5 - battery_percent AS DECIMAL(12, 1)) AS INTEGER)",
  "CAST((odometer_miles - 50) / 4 AS INTEGER)",
  "CAST(odometer_miles * 4 - 2.5 AS BIGINT)",
  "floor((odometer_miles - 50) / 3)",
  "ceil((50 - odometer_miles) / 3)",
  "floor(speed_mph * -1e20)",
  "ceil(-odometer_miles / 100000)",
  "event_us % 7",
  "-event_us % 7",
  "mod(event_us, 1000)",
  "(odometer_miles - 50) % 7",
  "event_us / 7",
  "odometer_miles / nullif(battery_percent, 0)",
  "event_us - 9223372036854775807",
  "\"offset\" * 3 + \"partition\"",
  "least(battery_percent, odometer_miles, 40)",
  "greatest(battery_percent, NULL, 0.5)",
  "least(source, 'm')",
  "greatest(event_id, vehicle_id)",
  "nullif(battery_percent, 50)",
  "coalesce(battery_percent, -1)",
  "concat(source, '-', CASE WHEN battery_percent > 50 THEN vehicle_id END, 'a\\b''c\\n')",
  "length(vehicle_id)",
  "length(event_id)",
  "substring(event_id, 2, 3)",
  "substring(vehicle_id, 3)",
  "CAST(sign(odometer_miles - 60) AS INTEGER)",
  "abs(odometer_miles - 60)",
  "CASE battery_percent WHEN 50 THEN 'fifty' ELSE source END",
  "CASE WHEN vehicle_id < 'night-3' THEN 1 WHEN vehicle_id > 'z' THEN 2 END",
  "date_trunc('second', event_ts)",
  "date_trunc('week', event_ts)",
  "date_trunc('quarter', ingest_ts)",
  "CAST(CAST(event_ts AS DATE) AS TIMESTAMP)",
  "greatest(event_ts, TIMESTAMP '2025-03-04 23:00:00.5')",
  "event_ts",
  "CAST(event_ts AS DATE) >= DATE '2025-03-05'",
  "CAST(battery_percent > 50 AS INTEGER)",
  "battery_percent > 50 AND NOT speed_mph <= 20.0 OR source IS NULL",
  "battery_percent IS DISTINCT FROM 50",
  "battery_percent NOT BETWEEN 20 AND 60",
  "odometer_miles IN (1, 2.5, 1000)",
  "source NOT IN ('test', 'x')",
  "CAST(event_us AS STRING)",
  "CAST(CAST(battery_percent AS DECIMAL(18, 3)) AS STRING)",
  "CAST(battery_percent > 50 AS STRING)",
  "CAST(CAST(CAST(speed_mph / 3 AS DECIMAL(38, 6)) AS STRING) AS DOUBLE)",
  "CAST(CAST(event_us AS STRING) AS DECIMAL(38, 6))",
  "CAST(event_us AS DOUBLE) * 1.1",
  "battery_percent * 0.1 + odometer_miles"
]

/** Each of {@link expressions}, of each row. */
export const each = model(
  "each_expression",
  "minute_ts, topic, partition, offset",
  ["e0 >= 0 OR e0 IS NULL", "concat(e30, 'a\\b') <> '' AND length(e27) >= 0"],
  `SELECT ${minute} AS minute_ts, topic, "partition", "offset", ${
    expressions.map((one, index) => `${one} AS e${index}`).join(", ")
  } FROM silver.telemetry_clean`
)

const total = "topic, \"partition\", \"offset\""

/** Windows, with nothing among what they order and what they answer. */
export const windows = model(
  "all_windows",
  "minute_ts, topic, partition, offset",
  [],
  `WITH events AS (
    SELECT *, ${minute} AS minute_ts, CAST(battery_percent AS DECIMAL(12, 6)) AS level, event_us / 60000000 - 0.5 AS minutes FROM silver.telemetry_clean
  )
  SELECT minute_ts, ${total},
    rank() OVER (PARTITION BY vehicle_id ORDER BY battery_percent) AS up, dense_rank() OVER (PARTITION BY vehicle_id ORDER BY battery_percent DESC) AS down,
    rank() OVER (ORDER BY source NULLS FIRST, speed_mph DESC NULLS LAST) AS nulls_first, row_number() OVER (ORDER BY battery_percent, ${total}) AS place,
    lag(battery_percent) OVER (PARTITION BY vehicle_id ORDER BY event_us, ${total}) AS before,
    lead(battery_percent, 2, -1.0) OVER (PARTITION BY vehicle_id ORDER BY event_us, ${total}) AS after_next,
    lag(level IGNORE NULLS) OVER (PARTITION BY vehicle_id ORDER BY event_us, ${total}) AS last_level,
    CAST(sum(level) OVER (PARTITION BY vehicle_id ORDER BY event_us, ${total} ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS DECIMAL(38, 6)) AS some_levels,
    CAST(sum("partition") OVER (PARTITION BY vehicle_id) AS BIGINT) AS partitions,
    count(*) OVER (PARTITION BY vehicle_id ORDER BY event_us RANGE BETWEEN 600000000 PRECEDING AND 60000000 FOLLOWING) AS near,
    count(battery_percent) OVER (PARTITION BY vehicle_id ORDER BY event_us) AS so_far,
    max(speed_mph) OVER (PARTITION BY vehicle_id ORDER BY event_us, ${total} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS fastest_before
  FROM events`
)

/** Groups, sets, joins, and names of its own. */
export const relations = model(
  "all_relations",
  "minute_ts, kind",
  ["events >= 0", "kind IN ('a', 'b', 'c', 'd', 'e', 'f', 'g')"],
  `WITH events AS (SELECT *, ${minute} AS minute_ts FROM silver.telemetry_clean),
  bands AS (SELECT a AS band, b AS least_percent FROM (VALUES (0, 0e0), (1, 5.05e1)) AS v(a, b)),
  grouped AS (
    SELECT minute_ts, vehicle_id AS vehicle, count(*) AS n, count(DISTINCT battery_percent) AS levels, count(*) FILTER (WHERE speed_mph > 1.5) AS moving,
      CAST(sum(DISTINCT "partition") AS BIGINT) AS partitions, n + levels AS together, min(source) AS source
    FROM events GROUP BY ALL HAVING n > 0
  ), aliased AS (SELECT date_trunc('hour', event_ts) AS hour_ts, max(event_us) AS us FROM events GROUP BY hour_ts),
  united AS (
    SELECT minute_ts, vehicle_id FROM events WHERE battery_percent IS NULL UNION SELECT minute_ts, vehicle_id FROM events WHERE speed_mph > 30
    EXCEPT SELECT minute_ts, vehicle_id FROM events WHERE odometer_miles < 20
  ), common AS (SELECT vehicle_id, minute_ts FROM events WHERE battery_percent > 50 INTERSECT SELECT vehicle_id, minute_ts FROM events WHERE speed_mph > 0)
  SELECT minute_ts, 'a' AS kind, CAST(sum(together + moving + partitions) AS BIGINT) AS events FROM grouped GROUP BY 1, 2
  UNION ALL SELECT minute_ts, 'b', count(*) FROM united GROUP BY minute_ts
  UNION ALL SELECT minute_ts, 'c', count(*) FROM common GROUP BY minute_ts
  UNION ALL SELECT minute_ts, 'd', count(*) FROM events JOIN bands ON battery_percent >= least_percent GROUP BY minute_ts
  UNION ALL SELECT minute_ts, 'e', count(*) FROM events SEMI JOIN united USING (minute_ts, vehicle_id) GROUP BY minute_ts
  UNION ALL SELECT coalesce(u.minute_ts, c.minute_ts) AS minute, 'f', count(u.vehicle_id) * 2 + count(c.vehicle_id)
    FROM united AS u FULL JOIN common AS c ON u.minute_ts = c.minute_ts AND u.vehicle_id = c.vehicle_id GROUP BY minute
  UNION ALL SELECT DISTINCT hour_ts, 'g', us % 1000 FROM aliased LEFT JOIN bands ON us = band`
)

/** Models whose rows are not as they say, or that fail on rows, each with what is said of it. */
export const broken: ReadonlyArray<readonly [GoldModel.GoldModel, reason: RegExp]> = [
  [
    model("tested", "minute_ts", ["n > 99"], `SELECT ${minute} AS minute_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY ${minute}`),
    /\d+ rows fail its test n > 99 \(/
  ],
  [
    model("repeated", "minute_ts", [], `SELECT ${minute} AS minute_ts, event_id FROM silver.telemetry_clean`),
    /its key is not unique: \d+ rows have \(minute_ts\) = \(\d{4}-/
  ],
  [
    model("absent", "minute_ts, s", [], `SELECT ${minute} AS minute_ts, nullif(source, source) AS s FROM silver.telemetry_clean`),
    /\d+ rows have no value in a column of the key/
  ],
  [
    model("uneven", "minute_ts, id", [], "SELECT event_ts AS minute_ts, event_id AS id FROM silver.telemetry_clean"),
    /\d+ rows have a minute_ts that is not the beginning of a minute/
  ],
  [
    model("too_large", "minute_ts", [], `SELECT ${minute} AS minute_ts, CAST(max(event_us) AS INTEGER) AS us FROM silver.telemetry_clean GROUP BY ${minute}`),
    /Spark says: .*CAST_OVERFLOW/
  ]
]
