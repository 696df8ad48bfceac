import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as ModelCheck from "./ModelCheck.ts"

const folder = fileURLToPath(new URL("../../../../models/gold/", import.meta.url))

const check = (text: string) =>
  StageLake.inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* ModelCheck.check(connection, yield* GoldModel.parse("test", text))
  })).pipe(Effect.provide(StageLake.durable))

const header = (more: Readonly<Record<string, string>> = {}) =>
  Object.entries({ name: "m", description: "d", key: "vehicle_id, day_ts", time: "day_ts", grain: "day", refresh: "batch", ...more })
    .filter(([, value]) => value !== "").map(([key, value]) => `-- ${key}: ${value}\n`).join("")

const day = "date_trunc('day', event_ts)"
const good = `SELECT vehicle_id, ${day} AS day_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`
const withColumn = (column: string) => `SELECT vehicle_id, ${day} AS day_ts, ${column} AS x FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`

/** Over parts of WITH, the last of which is e; `silver` is short for the table. */
const over = (parts: string, column: string) =>
  `WITH ${parts.replaceAll(/\bsilver\b/g, "silver.telemetry_clean")} ${withColumn(column).replace("silver.telemetry_clean", "e")}`

describe("the project's own gold models", () => {
  for (const file of fs.readdirSync(folder)) {
    it.live(`${file} can be used`, () =>
      Effect.gen(function*() {
        const text = fs.readFileSync(`${folder}${file}`, "utf8")
        const model = Either.getOrThrow(GoldModel.parse(file, text))
        expect(file).toBe(`${model.name}.sql`)
        const columns = yield* check(text)
        // Everything but the key says what it holds.
        expect(columns.filter(({ doc, name }) => doc === "" && !model.key.includes(name))).toEqual([])
      }))
  }
})

describe("a gold model", () => {
  it.live("answers its columns with their types", () =>
    Effect.gen(function*() {
      expect((yield* check(header() + good)).map(({ name, type }) => [name, type])).toEqual([["vehicle_id", "text"], ["day_ts", "timestamp"], ["n", "bigint"]])
    }))

  const cases: ReadonlyArray<readonly [string, text: string, reason: string]> = [
    ["without SQL", header(), "no SQL"],
    ["without a key", header({ key: "" }) + good, "does not say key"],
    ["with a line that is no header", `-- hello\n${header()}${good}`, "line 1: \"-- hello\""],
    ["with an unknown key", header({ keys: "a" }) + good, "line 7: there is no key keys"],
    ["with a key twice", `-- name: m\n${header()}${good}`, "name is given twice"],
    ["with a bad name", header({ name: "My Model" }) + good, "small letters"],
    ["whose time is not in its key", header({ time: "n" }) + good, "time n is not one of the key's columns"],
    ["with a grain that is none", header({ grain: "week" }) + good, "known are minute, hour, day"],
    ["with a lookback that is none", header({ lookback: "an hour" }) + good, "such as \"60 minutes\""],
    ["that is no SQL", `${header()}SELECT FROM`, "cannot be read"],
    ["that writes", `${header()}DELETE FROM silver.telemetry_clean`, "cannot be read"],
    ["that reads another table", header() + good.replace("silver.", "bronze."), "it reads bronze.telemetry_clean"],
    ["that reads a file", header() + good.replace("silver.telemetry_clean", "read_csv('/etc/hosts'), silver.telemetry_clean"), "reads from a function"],
    ["that samples", header() + good.replace("clean GROUP", "clean TABLESAMPLE 10% GROUP"), "it samples"],
    ["that knows no such column", header() + good.replace("vehicle_id,", "vehicle,"), "vehicle"],
    ["without a column of its key", header({ key: "vehicle_id, day_ts, z" }) + good, "speaks of the column z"],
    ["that describes a column that is none", header({ "column z": "what" }) + good, "speaks of the column z"],
    ["with a column of a type that others lack", header() + withColumn("sum(CAST(event_us AS BIGINT))"), "HUGEINT; cast it"],
    ["with a column without a name", header() + good.replace(" AS n", ""), "name it by AS"],
    ["that asks the clock", header() + withColumn("max(now())"), "it depends on when it is asked"],
    ["that asks the clock by its other name", header() + withColumn("max(current_date)"), "it depends on when it is asked"],
    ["that throws dice", header() + withColumn("max(random())"), "it calls random"],
    ["that averages", header() + withColumn("avg(speed_mph)"), "divide an exact sum by a count"],
    ["that sums doubles", header() + withColumn("sum(speed_mph)"), "write sum(CAST(speed_mph AS DECIMAL(38, 6)))"],
    ["that sums doubles, less directly", header() + withColumn("sum(CASE WHEN true THEN abs(speed_mph) + 1 END)"), "depends on the order of rows"],
    ["that sums doubles that are written so", header() + withColumn("sum(CASE WHEN true THEN 5.05e1 END)"), "depends on the order of rows"],
    ["that sums quotients", header() + withColumn("sum(event_us / 2)"), "(event_us / 2) is a double"],
    ["whose time is no timestamp", header().replaceAll("day_ts", "n") + good, "its time n is no timestamp"],
    ["with a double in its key", header({ key: "x, day_ts" }) + withColumn("max(speed_mph)"), "is a double"],
    ["with a test that cannot be asked", header({ test: "z > 0" }) + good, "test 'z > 0'"],
    ["with a test that reads a file", header({ test: "(SELECT count(*) FROM read_text('/etc/hosts')) > 0" }) + good, "a subquery within an expression"],
    ["with a test that reads a file where it ends", header({ test: "true) AS test FROM read_text('/etc/hosts') WHERE (true" }) + good, "not one condition"],
    ["with a test that ends its statement", header({ test: "true); COPY (SELECT 1) TO '/tmp/x.csv'; SELECT 1 WHERE (true" }) + good, "not one condition"],
    ["with a test that ends its statement, and two that only read", header({ test: "true) AS test; SELECT (true" }) + good, "not one condition"],
    ["with a test that is two", header({ test: "true) AS a, (true" }) + good, "not one condition"],
    ["with a test that is a pair", header({ test: "n > 0, n > 1" }) + good, "it calls row"],
    ["with a test of two SELECTs", header({ test: "true) UNION ALL SELECT (true" }) + good, "not one condition"],
    ["with a test that goes on", header({ test: "true) AS test ORDER BY (1" }) + good, "not one condition"],
    ["with a test that has a comment", header({ test: "true -- yes" }) + good, "not one condition"],
    ["with a test that ends in a comment", header({ test: "true) AS test --" }) + good, "not one condition"],
    ["with a test that throws dice", header({ test: "random() < 0.5" }) + good, "it calls random"],
    ["with a test of other rows", header({ test: "row_number() OVER () > 0" }) + good, "one row"],
    ["with a test of many rows", header({ test: "max(n) > 0" }) + good, "test 'max(n) > 0'"],
    ["that sums what is cast to a double", header() + withColumn("sum(CAST(speed_mph AS DOUBLE))"), "depends on the order of rows"],
    ["that sums doubles under another name", header() + over("e AS (SELECT *, speed_mph AS s FROM silver)", "sum(s)"), "sum(s) depends on the order of rows"],
    [
      "that sums doubles of a subquery",
      header() + withColumn("sum(s)").replace("silver.telemetry_clean", "(SELECT *, speed_mph AS s FROM silver.telemetry_clean)"),
      "sum(s)"
    ],
    [
      "that sums doubles of two kinds",
      header() + over("e AS (SELECT vehicle_id, event_ts, 1 AS s FROM silver UNION ALL SELECT vehicle_id, event_ts, speed_mph FROM silver)", "abs(sum(s))"),
      "sum(s)"
    ],
    [
      "that sums doubles on the way",
      header() + over("f AS (SELECT vehicle_id, event_ts, sum(speed_mph) OVER (PARTITION BY vehicle_id) AS s FROM silver), e AS (SELECT * FROM f)", "max(s)"),
      "sum(speed_mph)"
    ],
    ["that asks for doubles summed", header() + good + " HAVING sum(speed_mph) > 1", "sum(speed_mph)"],
    ["that takes some rows", `${header() + good} LIMIT 10`, "LIMIT or OFFSET"],
    ["that leaves some rows", `${header() + good} OFFSET 1`, "LIMIT or OFFSET"],
    ["that takes a part of the rows", `${header() + good} LIMIT 10%`, "LIMIT or OFFSET"],
    ["that takes one of each", header() + good.replace("SELECT vehicle_id", "SELECT DISTINCT ON (vehicle_id) vehicle_id"), "DISTINCT ON"],
    ["that asks the clock by a text", header() + withColumn("max(CAST('Now' AS TIMESTAMP))"), "the text 'Now'"],
    ["that compares with the clock", header() + good.replace(" GROUP", " WHERE event_ts < ' today' GROUP"), "the text ' today'"],
    ["that asks who asks", header() + withColumn("max(current_user)"), "it calls current_user"],
    ["that samples at its end", `${header() + good} USING SAMPLE 3`, "it samples"],
    ["that has a lambda", header() + withColumn("max(length(list_transform([1], x -> x)))"), "it calls list_transform"],
    ["that pivots", `${header()}PIVOT silver.telemetry_clean ON source USING count(*)`, "cannot be read"],
    ["that is recursive", header() + good.replace("SELECT", "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT"), "it is recursive"],
    [
      "that joins by place",
      header() + good.replace("silver.telemetry_clean", "silver.telemetry_clean POSITIONAL JOIN silver.telemetry_clean AS b"),
      "POSITIONAL join"
    ],
    [
      "that joins by what is near",
      header() + withColumn("1").replace("silver.telemetry_clean", "silver.telemetry_clean ASOF JOIN silver.telemetry_clean AS b USING (event_ts)"),
      "ASOF join"
    ],
    [
      "that reads a file under the name of a later part",
      header() + good.replace("SELECT", "WITH a AS (SELECT * FROM \"/etc/x.csv\"), \"/etc/x.csv\" AS (SELECT 1) SELECT"),
      "it reads /etc/x.csv"
    ],
    [
      "that reads a file under the name of an inner part",
      header() + good.replace("silver.telemetry_clean", "(WITH \"x.csv\" AS (FROM silver.telemetry_clean) FROM \"x.csv\")"),
      "WITH within a part"
    ],
    ["with an unknown type", header() + withColumn("max(CAST(event_ts AS TIMESTAMPTZ))"), "it casts to TIMESTAMP WITH TIME ZONE"],
    ["with columns by pattern", header() + "SELECT COLUMNS('.*') FROM silver.telemetry_clean", "COLUMNS"],
    [
      "with another vehicle than its rows'",
      header() + good.replace("vehicle_id,", "substring(vehicle_id, 2) AS vehicle_id,"),
      "vehicle_id of its key has the name of silver's"
    ],
    [
      "with another vehicle than its rows', on the way",
      header() + over("e AS (SELECT substring(vehicle_id, 2) AS vehicle_id, event_ts FROM silver)", "1"),
      "of its key has the name of silver's"
    ],
    [
      "with another vehicle, in a list of names",
      header() + over("e(vehicle_id, event_ts) AS (SELECT source, event_ts FROM silver)", "1"),
      "in a list of names"
    ],
    ["with its parts' columns in a list of names", header() + over("e(v, t) AS (SELECT vehicle_id, event_ts FROM silver)", "1"), "in a list of names (v, t)"],
    ["with silver's columns in a list of names", header() + good.replace("silver.telemetry_clean", "silver.telemetry_clean AS s(e)"), "in a list of names (e)"],
    ["with another vehicle, in a star", header() + over("e AS (SELECT * REPLACE (substring(vehicle_id, 2) AS vehicle_id) FROM silver)", "1"), "* REPLACE"],
    [
      "with another vehicle, by its place",
      header() + over("e AS (SELECT vehicle_id, event_ts FROM silver UNION ALL SELECT source, event_ts FROM silver)", "1"),
      "of its key has the name of silver's"
    ],
    ["with a time of silver's in its key that is not its time", header({ key: "ingest_ts, day_ts" }) + good, "is a time, and not its column of time"],
    ...[
      ["row_number() OVER (PARTITION BY vehicle_id ORDER BY event_us)", "append topic, \"partition\", \"offset\" to its ORDER BY"],
      ["lag(speed_mph) OVER (PARTITION BY vehicle_id ORDER BY event_us, topic, \"partition\")", "append \"offset\" to its ORDER BY"],
      ["lead(event_us) OVER (PARTITION BY vehicle_id ORDER BY event_us)", "append topic"],
      ["row_number() OVER ()", "append topic"],
      ["count(*) OVER (ORDER BY event_us ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)", "append topic"]
    ].map(([window, reason]) =>
      [`with ${window}`, header() + over(`e AS (SELECT *, ${window} AS w FROM silver)`, "max(w)"), reason!] as const),
    [
      "with a window over a join",
      header() + over(
        "f AS (SELECT a.* FROM silver AS a JOIN silver AS b ON a.vehicle_id = b.vehicle_id), " +
          "e AS (SELECT *, row_number() OVER (ORDER BY topic, \"partition\", \"offset\") AS w FROM f)",
        "max(w)"
      ),
      "nothing says which columns are unique"
    ],
    [
      "with a window over groups, and less than they are",
      header() + over(
        "f AS (SELECT vehicle_id, event_ts, source FROM silver GROUP BY vehicle_id, event_ts, source), " +
          "e AS (SELECT *, row_number() OVER (PARTITION BY vehicle_id ORDER BY event_ts) AS w FROM f)",
        "max(w)"
      ),
      "append source to its ORDER BY"
    ]
  ]
  for (const [what, text, reason] of cases) {
    it.live(`${what} is refused, with the place`, () =>
      Effect.gen(function*() {
        const refused = yield* Effect.flip(check(text))
        expect(refused).toMatchObject({ _tag: "ModelInvalid" })
        expect(refused.message).toContain(reason)
      }))
  }

  const columns: ReadonlyArray<readonly [string, string]> = [
    ["sums of doubles that are cast", withColumn("sum(CAST(speed_mph AS DECIMAL(38, 6)))")],
    ["sums of what is cast elsewhere", over("e AS (SELECT *, CAST(speed_mph AS DECIMAL(38, 6)) AS speed FROM silver)", "CAST(sum(speed) AS DECIMAL(38, 6))")],
    ["numbers that JavaScript cannot hold", withColumn("CAST(sum(CASE WHEN event_us < 9223372036854775807 THEN 1 END) AS BIGINT)")],
    ["a comment at its end", `${good} -- that is all`],
    ["order in its answer", `${good} ORDER BY ALL`.replace("ALL", "vehicle_id")],
    ["values", good.replace("SELECT", "WITH bands AS (SELECT band FROM (VALUES (0), (1)) AS b(band)) SELECT").replace(" GROUP", " CROSS JOIN bands GROUP")],
    ["its vehicle from either side", over(
      "a AS (SELECT vehicle_id, event_ts FROM silver), e AS (SELECT coalesce(a.vehicle_id, b.vehicle_id) AS vehicle_id, " +
      "coalesce(a.event_ts, b.event_ts) AS event_ts FROM a FULL JOIN a AS b ON a.event_ts = b.event_ts)",
      "1")],
    ...[
      "rank() OVER (PARTITION BY vehicle_id ORDER BY event_us)",
      "count(*) OVER (PARTITION BY vehicle_id ORDER BY event_us)",
      "row_number() OVER (PARTITION BY vehicle_id ORDER BY event_us DESC, topic, \"partition\", \"offset\")",
      "row_number() OVER (PARTITION BY vehicle_id ORDER BY event_id)"
    ].map((window) => [window, over(`e AS (SELECT *, ${window} AS w FROM silver)`, "max(w)")] as const),
    ...[
      "f AS (SELECT vehicle_id, event_ts FROM silver GROUP BY vehicle_id, event_ts)",
      "f AS (SELECT vehicle_id, event_ts FROM silver GROUP BY ALL)",
      "f AS (SELECT vehicle_id, event_ts, count(*) AS n FROM silver GROUP BY 1, 2)",
      "f AS (SELECT DISTINCT vehicle_id, event_ts FROM silver)",
      "f AS (SELECT vehicle_id, event_ts FROM silver UNION SELECT vehicle_id, event_ts FROM silver)",
      "g AS (SELECT vehicle_id, date_trunc('day', event_ts) AS event_ts FROM silver GROUP BY vehicle_id, date_trunc('day', event_ts)), f AS (SELECT * FROM g)",
      "g AS (SELECT *, row_number() OVER (PARTITION BY vehicle_id, event_ts ORDER BY event_id) AS place FROM silver), f AS (FROM g WHERE place = 1)"
    ].map((part) => {
      const window = "lead(event_ts) OVER (PARTITION BY vehicle_id ORDER BY event_ts)"
      return [`a window over ${part}`, over(`${part}, e AS (SELECT *, ${window} AS w FROM f)`, "max(w)")] as const
    })
  ]
  for (const [what, sql] of columns) it.live(`may have ${what}`, () => check(header({ test: "vehicle_id <> '' AND day_ts IS NOT NULL" }) + sql))
})
