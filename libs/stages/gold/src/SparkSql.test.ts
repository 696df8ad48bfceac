/** What models may not say, since two engines would take it each in its way; that what they may say is taken alike is tried with Spark (tools/interop). */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as ModelCheck from "./ModelCheck.ts"

const header = "-- name: m\n-- description: d\n-- key: vehicle_id, day_ts\n-- time: day_ts\n-- grain: day\n-- refresh: batch\n"

const check = (sql: string, more = "") =>
  StageLake.inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* ModelCheck.check(connection, Either.getOrThrow(GoldModel.parse("test", header + more + sql)))
  })).pipe(Effect.provide(StageLake.durable))

const day = "date_trunc('day', event_ts)"
const having = (column: string) => `SELECT vehicle_id, ${day} AS day_ts, ${column} AS x FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`

const columns: ReadonlyArray<readonly [column: string, reason: string]> = [
  ["max(speed_mph / battery_percent)", "it divides by what may be 0, which engines answer each in its way; write / nullif(…, 0)"],
  ["max(event_us % \"offset\")", "write % nullif(…, 0)"],
  ["max(CAST(speed_mph AS DECIMAL(12, 6)) / 2)", "it divides a DECIMAL(12,6) by /; cast it to DOUBLE or BIGINT"],
  ["max(CAST(speed_mph AS STRING))", "it casts DOUBLE to VARCHAR, which engines do each in its way"],
  ["max(CAST(event_ts AS STRING))", "it casts TIMESTAMP to VARCHAR"],
  ["max(CAST(source AS INTEGER))", "it casts VARCHAR to INTEGER"],
  ["max(CAST(source AS DOUBLE))", "only of a number's text"],
  ["max(CAST(CAST(speed_mph AS DECIMAL(12, 6)) AS DOUBLE))", "write CAST(CAST(x AS STRING) AS DOUBLE)"],
  ["max(TRY_CAST(source AS INTEGER))", "it calls TRY_CAST"],
  ["max(CAST('tomorrow at noon' AS TIMESTAMP))", "it casts VARCHAR to TIMESTAMP"],
  ["max(CASE WHEN CAST(speed_mph AS DECIMAL(12, 6)) > battery_percent THEN 1 END)", "> mixes a double with a DECIMAL; cast one of them"],
  ["max(coalesce(battery_percent, CAST(speed_mph AS DECIMAL(12, 6))))", "coalesce mixes a double with a DECIMAL"],
  ["count(CASE WHEN event_ts > '2025-03-01' THEN 1 END)", "> mixes timestamp with text"],
  ["count(event_ts - ingest_ts)", "it reckons - with a TIMESTAMP; models reckon with numbers (event_us is the time as one)"],
  ["max(concat(source, event_us))", "it calls concat of a BIGINT; cast it to STRING"],
  ["max(substring(source, 0, 2))", "it calls substring from what is no constant of 1 and more"],
  ["max(substring(source, -2))", "it calls substring"],
  ["max(floor(event_us))", "it calls floor of a BIGINT; models call it of a DOUBLE"],
  ["max(date_trunc('decade', event_ts))", "it calls date_trunc to decade; models have second, minute"],
  ["max(date_trunc('month', CAST(event_ts AS DATE)))", "it calls date_trunc of a DATE; cast it to TIMESTAMP"],
  ["max(round(speed_mph))", "engines round halves each in its way"],
  ["max(lower(source))", "engines know the letters of other alphabets each in its way"],
  ["count(DISTINCT (source, topic))", "it calls row"]
]

const statements: ReadonlyArray<readonly [sql: string, reason: string]> = [
  [`SELECT vehicle_id, ${day} AS day_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY ROLLUP (1, 2)`, "it groups by several sets of columns at once"],
  [
    `WITH e AS (SELECT *, ${day} AS day_ts FROM silver.telemetry_clean QUALIFY row_number() OVER (PARTITION BY vehicle_id ORDER BY event_id) = 1) ` +
    "SELECT vehicle_id, day_ts, event_id FROM e",
    "it has QUALIFY, which Spark has not"
  ],
  [
    `WITH e AS (SELECT vehicle_id, ${day} AS day_ts FROM silver.telemetry_clean) SELECT a.vehicle_id, a.day_ts FROM e AS a NATURAL JOIN e AS b`,
    "it has a NATURAL join"
  ],
  [
    `WITH e AS (SELECT vehicle_id, ${day} AS day_ts FROM silver.telemetry_clean) SELECT * FROM e JOIN e AS b USING (vehicle_id, day_ts)`,
    "it has * over a join by USING; name the columns"
  ],
  [
    `SELECT vehicle_id, ${day} AS day_ts FROM silver.telemetry_clean UNION BY NAME SELECT vehicle_id, ${day} AS day_ts FROM silver.telemetry_clean`,
    "UNION_BY_NAME"
  ],
  [
    `WITH e AS (SELECT *, count(*) OVER (ORDER BY event_us GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM silver.telemetry_clean) ` +
    `SELECT vehicle_id, ${day} AS day_ts, max(n) AS n FROM e GROUP BY 1, 2`,
    "it has a frame of GROUPS"
  ]
]

describe("a model that engines would take each in its way", () => {
  for (const [sql, reason] of [...columns.map(([column, why]) => [having(column), why] as const), ...statements]) {
    it.live(`is refused: ${reason}`, () =>
      Effect.gen(function*() {
        const refused = yield* Effect.flip(check(sql))
        expect(refused).toMatchObject({ _tag: "ModelInvalid" })
        expect(refused.message).toContain(reason)
      }))
  }

  it.live("is refused for its test, too", () =>
    Effect.gen(function*() {
      const refused = yield* Effect.flip(check(having("max(speed_mph)"), "-- test: CAST(x AS STRING) <> ''\n"))
      expect(refused.message).toContain("test 'CAST(x AS STRING) <> '''''")
    }))
})
