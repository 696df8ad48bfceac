/** Tables as Spark makes them, of every type, transform and kind of evolution that its SQL has, and ways to delete. The same at every call. */
import * as Expression from "@voltlake/iceberg/Expression"

const { test } = Expression

/** Version 2 is what we read; it is Spark's default too. */
const properties = (more: Readonly<Record<string, string>> = {}) =>
  `TBLPROPERTIES (${Object.entries({ "format-version": "2", ...more }).map(([key, value]) => `'${key}' = '${value}'`).join(", ")})`

export const types = (table: string): ReadonlyArray<string> => [
  `CREATE TABLE ${table} (
    id BIGINT NOT NULL, flag BOOLEAN, small INT, single FLOAT, double DOUBLE, little_money DECIMAL(9, 2), much_money DECIMAL(38, 6), day DATE,
    local_time TIMESTAMP_NTZ, instant TIMESTAMP, text STRING, bytes BINARY, place STRUCT<lat: DOUBLE, names: ARRAY<STRING>>, marks ARRAY<INT>,
    signals MAP<STRING, DOUBLE>, visits ARRAY<STRUCT<at: TIMESTAMP, count: BIGINT>>
  ) USING iceberg ${properties()}`,
  `INSERT INTO ${table} SELECT id, id % 2 = 0, CAST(id - 30 AS INT), CAST(id / 4 AS FLOAT),
    CASE id WHEN 3 THEN DOUBLE('NaN') WHEN 4 THEN DOUBLE('-Infinity') ELSE -id / 8 END, CAST(id * 3.5 AS DECIMAL(9, 2)),
    CASE id WHEN 5 THEN 99999999999999999999999999999999.999999BD ELSE CAST(id - 30.25 AS DECIMAL(38, 6)) END, DATE_ADD(DATE '1969-12-15', CAST(id AS INT)),
    TIMESTAMP_NTZ '1969-12-31 12:00:00.123456' + MAKE_DT_INTERVAL(0, CAST(id AS INT)),
    TIMESTAMP '1969-12-31 12:00:00.123456Z' + MAKE_DT_INTERVAL(0, CAST(id AS INT)),
    CONCAT('Zürich ', id), CAST(CONCAT('b', id) AS BINARY),
    CASE WHEN id % 5 > 0 THEN NAMED_STRUCT('lat', id + 0.5D, 'names', ARRAY(NULL, CONCAT('n', id))) END,
    TRANSFORM(SEQUENCE(0, CAST(id % 4 AS INT)), x -> x * 2), MAP(CONCAT('s', id), id / 2D, 'x', NULL),
    ARRAY(NAMED_STRUCT('at', TIMESTAMP '2024-02-29 23:59:59.999999Z', 'count', id))
  FROM RANGE(0, 40, 1, 2)`,
  `INSERT INTO ${table} (id) VALUES (100), (101)`
]

/** By the transforms of a table: what is asked of it, as we plan it, and as the engine reads it. */
export const partitioned: ReadonlyArray<readonly [transforms: string, questions: ReadonlyArray<readonly [Expression.Expression, where: string]>]> = [
  ["vehicle, days(sent)", [
    [test("vehicle", "=", "car2x"), "vehicle = 'car2x'"],
    [test("sent", ">=", 86_400_000_000n), "sent >= TIMESTAMPTZ '1970-01-02 00:00:00Z'"]
  ]],
  ["bucket(8, id), truncate(4, vehicle)", [
    [test("id", "=", 17n), "id = 17"],
    [{ op: "starts-with", column: "vehicle", value: "car2" }, "vehicle LIKE 'car2%'"]
  ]],
  ["bucket(8, vehicle)", [[{ op: "in", column: "vehicle", values: ["car1x", "none"] }, "vehicle IN ('car1x', 'none')"]]],
  ["hours(sent)", [[test("sent", "<", 0n), "sent < TIMESTAMPTZ '1970-01-01 00:00:00Z'"]]],
  ["months(day)", [[test("day", "<", -200), "day < DATE '1969-06-15'"]]],
  ["years(day), truncate(25, speed)", [
    [Expression.or(test("speed", "<", -10), { op: "is-null", column: "day" }), "speed < -10 OR day IS NULL"],
    [test("day", ">=", 0), "day >= DATE '1970-01-01'"]
  ]]
]

/** Rows of the partitioned tables, from `start` on. */
const eventsSql = (start: number, count: number) => `SELECT id,
    CASE WHEN id % 19 < 18 THEN CONCAT('car', id % 5, 'x') END AS vehicle,
    CASE WHEN id % 19 < 18 THEN TIMESTAMP '1969-12-31 20:00:00Z' + MAKE_DT_INTERVAL(0, 0, CAST(id * 97 AS INT)) END AS sent,
    CASE WHEN id % 19 < 18 THEN DATE_ADD(DATE '1968-11-01', CAST(id * 43 AS INT)) END AS day,
    CASE WHEN id % 19 < 18 THEN CAST(id % 7 * 20 - 40 AS INT) END AS speed
  FROM RANGE(${start}, ${start + count}, 1, 1)`

export const partitionedTable = (table: string, transform: string): ReadonlyArray<string> => [
  `CREATE TABLE ${table} (id BIGINT NOT NULL, vehicle STRING, sent TIMESTAMP, day DATE, speed INT) USING iceberg PARTITIONED BY (${transform}) ${properties()}`,
  `INSERT INTO ${table} ${eventsSql(0, 60)}`
]

/** A table with a past: columns, partitions, a tag, a branch, and rows deleted and changed in one of the two ways that there are. */
export const evolved = (table: string, mode: "merge-on-read" | "copy-on-write"): ReadonlyArray<string> => [
  `CREATE TABLE ${table} (id BIGINT NOT NULL, vehicle STRING, sent TIMESTAMP, day DATE, speed INT, place STRUCT<lat: DOUBLE>) USING iceberg
    PARTITIONED BY (days(sent)) ${properties({ "write.delete.mode": mode, "write.update.mode": mode, "write.merge.mode": mode })}`,
  `INSERT INTO ${table} SELECT *, NAMED_STRUCT('lat', id / 2D) FROM (${eventsSql(0, 40)})`,
  `ALTER TABLE ${table} CREATE TAG before`,
  `DELETE FROM ${table} WHERE id % 10 = 3`,
  `ALTER TABLE ${table} ADD COLUMNS (battery DOUBLE, place.lon DOUBLE)`,
  `ALTER TABLE ${table} RENAME COLUMN vehicle TO car`,
  `ALTER TABLE ${table} ALTER COLUMN speed TYPE BIGINT`,
  `ALTER TABLE ${table} ALTER COLUMN sent FIRST`,
  `ALTER TABLE ${table} DROP COLUMN day`,
  `ALTER TABLE ${table} ADD PARTITION FIELD bucket(4, id)`,
  `INSERT INTO ${table} (id, sent, car, speed, battery, place) SELECT id, sent, vehicle, 1099511627776 + id, id / 4D, NAMED_STRUCT('lat', 1D, 'lon', id / 8D)
    FROM (${eventsSql(40, 40)})`,
  `ALTER TABLE ${table} CREATE BRANCH audit`,
  `ALTER TABLE ${table} DROP PARTITION FIELD days(sent)`,
  `UPDATE ${table} SET car = 'changed', battery = NULL WHERE id IN (5, 45, 65)`,
  `MERGE INTO ${table} t USING (SELECT id FROM RANGE(38, 42) UNION ALL SELECT 500) s ON t.id = s.id
    WHEN MATCHED AND s.id = 39 THEN DELETE WHEN MATCHED THEN UPDATE SET speed = -s.id WHEN NOT MATCHED THEN INSERT (id, car) VALUES (s.id, 'merged')`,
  `INSERT INTO ${table}.branch_audit (id, car) VALUES (900, 'audited')`
]

/** A table whose columns changed within others: renamed, dropped and added again, widened, in a map's values in a list too. */
export const nested = (table: string): ReadonlyArray<string> => [
  `CREATE TABLE ${table} (
    id INT, place STRUCT<lat: FLOAT, lon: DOUBLE>, stops ARRAY<STRUCT<marks: MAP<STRING, STRUCT<n: INT, s: STRING>>>>
  ) USING iceberg ${properties({ "write.delete.mode": "merge-on-read" })}`,
  `INSERT INTO ${table} SELECT CAST(id AS INT), CASE WHEN id % 3 > 0 THEN NAMED_STRUCT('lat', CAST(id AS FLOAT), 'lon', -id / 8D) END,
    CASE WHEN id % 4 > 0 THEN ARRAY(NAMED_STRUCT('marks', MAP('k', NAMED_STRUCT('n', CAST(id AS INT), 's', 'old'), 'none', NULL)), NULL) END
  FROM RANGE(0, 12, 1, 1)`,
  `ALTER TABLE ${table} RENAME COLUMN place.lat TO latitude`,
  `ALTER TABLE ${table} ALTER COLUMN place.latitude TYPE DOUBLE`,
  `ALTER TABLE ${table} DROP COLUMN place.lon`,
  `ALTER TABLE ${table} ADD COLUMN place.lon STRING FIRST`,
  `ALTER TABLE ${table} RENAME COLUMN stops.element.marks TO points`,
  `ALTER TABLE ${table} RENAME COLUMN stops.element.points.value.n TO count`,
  `ALTER TABLE ${table} RENAME COLUMN stops.element.points.value.s TO n`,
  `INSERT INTO ${table} VALUES (20, NAMED_STRUCT('lon', 'east', 'latitude', 0.5D),
    ARRAY(NAMED_STRUCT('points', MAP('y', NAMED_STRUCT('count', 1, 'n', 'new')))))`,
  `DELETE FROM ${table} WHERE id = 5`
]

/** Tables that we do not read, and how we say so. */
export const refused = (namespace: string): ReadonlyArray<readonly [name: string, refusal: object, statements: ReadonlyArray<string>]> => [
  ["version_3", { _tag: "FormatVersionUnsupported", formatVersion: 3 }, [
    `CREATE TABLE ${namespace}.version_3 (id INT) USING iceberg TBLPROPERTIES ('format-version' = '3')`
  ]],
  ["orc", { _tag: "ReadUnsupported", reason: "is of the format ORC" }, [
    `CREATE TABLE ${namespace}.orc (id INT) USING iceberg ${properties({ "write.format.default": "orc" })}`,
    `INSERT INTO ${namespace}.orc VALUES (1)`
  ]]
]
