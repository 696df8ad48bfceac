/** Live models of all kinds against what silver's rows give, recomputed at once. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Option } from "effect"
import type * as GoldModel from "@voltlake/domain/GoldModel"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as Forget from "@voltlake/maintenance/Forget"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as GoldBatch from "./GoldBatch.ts"
import * as GoldCompare from "./GoldCompare.ts"
import * as GoldLive from "./GoldLive.ts"
import * as GoldModels from "./GoldModels.ts"
import * as GoldTable from "./GoldTable.ts"
import { keptBefore } from "./GoldTables.ts"
import * as LiveModels from "./LiveModels.ts"
import * as ModelCheck from "./ModelCheck.ts"
import * as ModelMerge from "./ModelMerge.ts"
import * as RowsBetween from "./RowsBetween.ts"

const { drain, event, fillSilver, gold, inProcess, send } = StageLake

const header = (name: string, key: string, time: string, grain: string, more = "") =>
  `-- name: ${name}\n-- description: for a test\n-- key: ${key}\n-- time: ${time}\n-- grain: ${grain}\n-- refresh: live\n${more}`

const hour = "date_trunc('hour', event_ts)"
const day = "date_trunc('day', event_ts)"

/** By how they are kept live. */
const merged = {
  hours_of_source: header("hours_of_source", "vehicle_id, source, hour_ts", "hour_ts", "hour") +
    `SELECT source, ${hour} AS hour_ts, vehicle_id, count(battery_percent) AS n, max(event_id) AS last_id,
      CAST(sum(CAST(odometer_miles AS DECIMAL(20, 3))) AS DECIMAL(38, 6)) AS miles, CAST(count(*) AS BIGINT) AS events
    FROM silver.telemetry_clean WHERE vehicle_id <> 'v9' GROUP BY source, vehicle_id, ${hour}`,
  days: header("days", "d", "d", "day") +
    `WITH of_days AS (SELECT ${day} AS d, coalesce(sum(CAST(speed_mph AS DECIMAL(30, 6))), 0) AS s, min(speed_mph) AS slowest, count(speed_mph) AS c
      FROM silver.telemetry_clean WHERE speed_mph < 1e15 GROUP BY ${day})
    SELECT x.d, x.s AS total, x.c, CASE WHEN x.c > 2 THEN CAST(CAST(x.s AS STRING) AS DOUBLE) / nullif(x.c, 0) ELSE 2.5 END AS mean, slowest FROM of_days AS x`
}

const recomputed = {
  touched_days: header("touched_days", "vehicle_id, d", "d", "day") +
    `SELECT vehicle_id, ${day} AS d, count(DISTINCT battery_percent) AS levels FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`,
  fast_only: header("fast_only", "vehicle_id, minute_ts, speed_band", "minute_ts", "minute", "-- lookback: 3 minutes\n") +
    `WITH minutes AS (SELECT DISTINCT date_trunc('minute', event_ts) AS minute_ts, vehicle_id, event_us - event_us % 60000000 AS us FROM silver.telemetry_clean
      WHERE event_us >= 0),
    speeds AS (SELECT vehicle_id, event_us - event_us % 60000000 AS us, CAST(floor(speed_mph / 50) AS INTEGER) AS speed_band FROM silver.telemetry_clean
      WHERE speed_mph < 1000 AND event_us >= 0)
    SELECT minutes.vehicle_id, minute_ts, speed_band, count(*) AS n FROM minutes
      JOIN speeds ON speeds.vehicle_id = minutes.vehicle_id AND speeds.us <= minutes.us AND speeds.us >= minutes.us - 180000000
    GROUP BY minutes.vehicle_id, minute_ts, speed_band HAVING count(*) < 2`
}

const texts: Readonly<Record<string, string>> = { ...merged, ...recomputed }
const own = ["vehicle_minute_metrics", "fleet_minute_metrics"].map(ModelFiles.named)

const apply = (text: string) => inProcess(GoldModels.apply("test", text))

/** Rows of gold in PostgreSQL that differ from what the model gives over silver's rows below gold's position, of which there are so many. */
const differing = (model: GoldModel.GoldModel) =>
  inProcess(Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const connection = yield* (yield* QueryEngine).connect
    const { columns } = yield* ModelFiles.checked(model)
    const { metadata } = yield* LakeTables.ensure(telemetryClean)
    yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${ModelCheck.sourceName} AS ${ModelCheck.sourceSql(yield* SnapshotSource.all(telemetryClean, metadata))}`)
    yield* RowsBetween.fetch(sql, connection, columns, `SELECT * FROM ${GoldTable.tableName(model)}`, "of_postgres")
    const expected = `(${ModelCheck.boundSql(model)})`
    const { rows } = yield* connection.table(`SELECT * FROM (SELECT 'there' AS side, * FROM (FROM of_postgres EXCEPT ALL FROM ${expected})
      UNION ALL SELECT 'silver', * FROM (FROM ${expected} EXCEPT ALL FROM of_postgres)) LIMIT 6`)
    const [count] = yield* connection.rows("SELECT count(*) AS n FROM of_postgres")
    return { rows, count: Number(count!["n"]) }
  }))

const modelOf = (name: string) => inProcess(Effect.map(GoldModels.load(name), ({ model }) => model))

const expectLive = (names: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const models = [...own, ...(yield* Effect.forEach(names, modelOf))]
    for (const model of models) expect((yield* differing(model)).rows, model.name).toEqual([])
  })

const oddTimes = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2025-02-01T07:59:59.999999Z", "2025-03-01T08:00:00Z"]
const oddSpeeds = ["null", "0", "1e300", "1e-7", "33.333333333333336", "999999999999999.9", "0.1"]

/** Events of some hours, a few of them a month late or at odd times. */
const someEvents = (random: SeededRandom.SeededRandom, count: number, prefix: string) =>
  Array.from({ length: count }, (_, at) =>
    event({
      id: `${prefix}${at}`,
      vehicle: `v${[0, 1, 2, 9][random.below(4)]}`,
      time: random.next() < 0.15 ? oddTimes[random.below(oddTimes.length)]! : new Date(Date.UTC(2025, 2, 1, 8) + random.below(7_200_000)).toISOString(),
      speed: random.next() < 0.2 ? oddSpeeds[random.below(oddSpeeds.length)]! : Math.round(random.next() * 2e8) / 1e6,
      battery: random.next() < 0.2 ? null : random.below(30),
      odometer: random.next() < 0.5 ? null : Math.round(random.next() * 1e8) / 1e3
    }))

const build = (name: string) => inProcess(Effect.flatMap(GoldModels.load(name), GoldBatch.build))
const goLive = (name: string) => inProcess(Effect.flatMap(GoldModels.load(name), GoldLive.start))
const compare = (name: string) => inProcess(Effect.flatMap(GoldModels.load(name), (checked) => GoldCompare.compare(checked)))
const start = (name: string) => Effect.zipRight(build(name), goLive(name))
const liveNames = inProcess(Effect.map(Effect.flatMap(PgClient.PgClient, LiveModels.states), (states) => [...states.keys()]))

const drop = Effect.flatMap(PgClient.PgClient, (sql) =>
  sql.unsafe([...Object.keys(texts), "strict"].map((name) => `DROP TABLE IF EXISTS gold_${name};`).join("")))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("live models", (it) => {
  const lake = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
    it.effect(name, () => GoldLake.fresh(Effect.zipRight(drop, effect)) as Effect.Effect<A, E>, 240_000)

  lake("are kept as the planner says", Effect.gen(function*() {
    const plan = (text: string) =>
      inProcess(Effect.gen(function*() {
        const checked = yield* Effect.flatMap(GoldModels.read("test", text, "applied"), GoldModels.check)
        return ModelMerge.described(yield* ModelMerge.plan(yield* (yield* QueryEngine).connect, checked), checked.model)
      }))
    for (const text of Object.values(merged)) expect(yield* plan(text)).toBe("new rows are merged")
    for (const text of Object.values(recomputed)) expect(yield* plan(text)).toMatch(/^touched (day|minute)s are computed anew: /)
    const days = (aggregate: string, outer = "v", more = "") =>
      header("test", "d", "d", "day") + `WITH x AS (SELECT ${day} AS d, ${aggregate} AS v FROM silver.telemetry_clean GROUP BY ${day}${more}) SELECT d, ${outer} FROM x`
    const notOutput = "v, which its columns are computed from, is none of them"
    const cases = [
      ["count(*)", "v", "new rows are merged"],
      ["min(CAST(speed_mph AS INTEGER))", "v", "new rows are merged"],
      ["CAST(sum(CAST(speed_mph AS INTEGER)) AS BIGINT)", "v", "new rows are merged"],
      ["sum(CASE WHEN speed_mph > 1 THEN CAST(speed_mph AS DECIMAL(10, 2)) ELSE 0 END)", "CAST(v AS DECIMAL(38, 6)) AS w", notOutput],
      ["count(DISTINCT vehicle_id)", "v", "v is no count, sum, min or max"],
      ["coalesce(max(speed_mph), 0)", "v", "v is no count, sum, min or max"],
      ["coalesce(sum(CAST(speed_mph AS DECIMAL(38, 6))), 1)", "v", "v is no count, sum, min or max"],
      ["CAST(sum(CAST(speed_mph AS DECIMAL(38, 9))) AS DECIMAL(38, 6))", "v", "v is no count, sum, min or max"],
      ["max(speed_mph) - min(speed_mph)", "v", "v is no count, sum, min or max"],
      ["count(*)", "v, v * 9007199254740993 AS w", "it has a number beyond 2^53"],
      ["count(*)", "v, max(v) OVER (PARTITION BY d) AS w", "it looks at more than one row of x"]
    ] as const
    for (const [aggregate, outer, how] of cases) expect(yield* plan(days(aggregate, outer)), aggregate).toContain(how)
    expect(yield* plan(days("count(*)", "v", " HAVING count(*) > 1"))).toContain("it does more than group silver's rows")
    expect(yield* plan(days("count(*)", "v").replace("FROM x", "FROM x WHERE v > 1"))).toContain("it does more with x than to compute columns")
    expect(yield* plan(days("max(battery_percent)", "v").replace("AS v FROM", "AS v, count(*) AS v FROM"))).toContain("it has two columns v")
    const moreGroups = `SELECT ${day} AS d, count(*) AS v FROM silver.telemetry_clean GROUP BY ${day}, vehicle_id`
    expect(yield* plan(header("test", "d", "d", "day") + moreGroups)).toContain("it groups by more than it answers")
  }))

  describe("of every kind", () => {
    for (const seed of [1, 2]) {
      lake(`are what silver's rows give after every step, whatever comes late (${seed})`, Effect.gen(function*() {
        const random = SeededRandom.make(seed)
        for (const text of Object.values(texts)) yield* apply(text)
        for (let round = 0; round < 5; round++) {
          yield* send(random.below(2), someEvents(random, 5 + random.below(60), `${round}-`))
          yield* fillSilver
          yield* inProcess(drain(gold({ batchRowsMax: [7, 1000][random.below(2)]! })))
          yield* expectLive(Object.keys(texts))
        }
        expect(yield* liveNames).toEqual([...Object.keys(texts), ...own.map(({ name }) => name)].sort())
        for (const name of Object.keys(texts)) {
          yield* build(name)
          expect(yield* compare(name), name).toMatchObject({ differing: 0, waiting: 0 })
        }
      }))
    }

    lake("follow what is removed from silver", Effect.gen(function*() {
      for (const text of Object.values(texts)) yield* apply(text)
      yield* send(0, someEvents(SeededRandom.make(5), 150, "a"))
      yield* GoldLake.fill
      yield* inProcess(Forget.run({ vehicleId: "v1", dropReferences: false, dryRun: false }))
      yield* inProcess(drain(gold()))
      // Which days and hours of other vehicles a forgotten one had part in is not told for models whose key has other columns of silver: they are filled anew.
      yield* start("hours_of_source")
      yield* expectLive(Object.keys(texts))
      const kept = Math.floor(Date.now() / 86_400_000) - Date.UTC(2025, 2, 1) / 86_400_000
      const removed = yield* inProcess(DayRetention.run({ bronzeDays: Option.none(), silverDays: Option.some(kept) }, false))
      expect(removed.some(({ rows }) => rows > 0n)).toBe(true)
      yield* inProcess(drain(gold()))
      yield* expectLive(Object.keys(texts))
    }))
  })

  lake("that are applied over a silver with rows are filled, and moved from there on", Effect.gen(function*() {
    const random = SeededRandom.make(9)
    yield* send(0, someEvents(random, 200, "a"))
    yield* GoldLake.fill
    for (const [name, text] of Object.entries(texts)) {
      yield* apply(text)
      yield* build(name)
      // Gold goes on, while the model is not live yet.
      yield* send(1, someEvents(random, 40, `${name}-`))
      yield* GoldLake.fill
      expect(yield* goLive(name)).toMatchObject({ kind: "begun" })
      expect(yield* goLive(name)).toMatchObject({ kind: "live" })
    }
    yield* expectLive(Object.keys(texts))
    yield* send(1, someEvents(random, 80, "b"))
    yield* GoldLake.fill
    yield* expectLive(Object.keys(texts))
  }))

  lake("are those that were kept before there were models", Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* send(0, someEvents(SeededRandom.make(10), 50, "a"))
    yield* GoldLake.fill
    const before = yield* inProcess(Effect.flatMap(PgClient.PgClient, LiveModels.states))
    yield* sql`UPDATE lake.gold_model_state SET live = ${keptBefore}`
    yield* send(0, someEvents(SeededRandom.make(11), 50, "b"))
    yield* GoldLake.fill
    expect(yield* inProcess(Effect.flatMap(PgClient.PgClient, LiveModels.states))).toEqual(before)
    yield* expectLive([])
  }))

  lake("that are changed are filled anew, and not moved on until then", Effect.gen(function*() {
    yield* apply(merged.days)
    yield* send(0, someEvents(SeededRandom.make(10), 50, "a"))
    yield* GoldLake.fill
    yield* expectLive(["days"])
    yield* apply(merged.days.replace("c > 2", "c > 3"))
    yield* send(0, someEvents(SeededRandom.make(11), 50, "b"))
    yield* GoldLake.fill
    expect(yield* liveNames).not.toContain("days")
    yield* start("days")
    yield* send(0, someEvents(SeededRandom.make(12), 50, "c"))
    yield* GoldLake.fill
    yield* expectLive(["days"])
    // Back, and by batch.
    yield* apply(merged.days.replace("refresh: live", "refresh: batch"))
    yield* GoldLake.fill
    expect(yield* liveNames).not.toContain("days")
  }))

  lake("that break their own promise are set aside, and hinder no other", Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* apply(header("strict", "d", "d", "day", "-- test: n < 60\n") + `SELECT ${day} AS d, count(*) AS n FROM silver.telemetry_clean GROUP BY ${day}`)
    yield* apply(recomputed.touched_days)
    yield* send(0, someEvents(SeededRandom.make(3), 40, "a"))
    yield* GoldLake.fill
    yield* expectLive(["strict", "touched_days"])
    yield* send(0, someEvents(SeededRandom.make(4), 100, "b"))
    yield* GoldLake.fill
    yield* expectLive(["touched_days"])
    const others = ["fleet_minute_metrics", "touched_days", "vehicle_minute_metrics"]
    expect(yield* liveNames).toEqual(others)
    expect(yield* sql`SELECT severity, kind, subject FROM ops.events`).toEqual([{ severity: "ERROR", kind: "gold_model_set_aside", subject: "gold_strict" }])
    const refused = yield* Effect.flip(start("strict"))
    expect(refused.message).toContain("rows fail its test n < 60")
    yield* apply(header("strict", "d", "d", "day", "-- test: n < 6000\n") + `SELECT ${day} AS d, count(*) AS n FROM silver.telemetry_clean GROUP BY ${day}`)
    yield* start("strict")
    yield* expectLive(["strict"])
    // A table that somebody dropped is filled anew, and hinders no other until then.
    yield* sql`DROP TABLE gold_strict`
    yield* send(0, someEvents(SeededRandom.make(5), 10, "c"))
    yield* GoldLake.fill
    expect(yield* liveNames).toEqual(others)
    yield* start("strict")
    yield* expectLive(["strict", "touched_days"])
  }))

  lake("whose rows PostgreSQL does not take are set aside, and hinder no other", Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const ofSource = (name: string, source: string) =>
      header(name, `${source === "source" ? "source, " : ""}d`, "d", "day") +
      `SELECT ${source === "source" ? "source" : "max(source) AS last_source"}, ${day} AS d, count(*) AS n FROM silver.telemetry_clean GROUP BY ${
        source === "source" ? "source, " : ""}${day}`
    yield* apply(ofSource("strict", "source"))
    yield* apply(ofSource("days", "last"))
    const from = (id: string, source: string) => event({ id }).replace("\"source\":\"test\"", () => `"source":${JSON.stringify(source)}`)
    yield* send(0, [from("a", "x")])
    yield* GoldLake.fill
    yield* expectLive(["strict", "days"])
    // No text of PostgreSQL's holds that character: models do not see it.
    yield* send(0, [from("b", "y\0z")])
    yield* GoldLake.fill
    yield* expectLive(["strict", "days"])
    // No index holds such a key.
    const random = SeededRandom.make(1)
    yield* send(0, [from("c", Array.from({ length: 6000 }, () => String.fromCharCode(33 + random.below(90))).join(""))])
    yield* GoldLake.fill
    yield* expectLive(["days"])
    expect(yield* liveNames).not.toContain("strict")
    expect(yield* sql`SELECT kind FROM ops.events`).toEqual([{ kind: "gold_model_set_aside" }])
  }))

  lake("that cannot be computed without a forgotten vehicle are emptied, and keep gold from nothing", Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* apply(header("strict", "d", "d", "day", "-- test: n >= 2\n") + `SELECT ${day} AS d, count(*) AS n FROM silver.telemetry_clean GROUP BY ${day}`)
    yield* apply(recomputed.touched_days)
    yield* send(0, [event({ id: "a" }), event({ id: "b", vehicle: "v2" })])
    yield* GoldLake.fill
    yield* expectLive(["strict", "touched_days"])
    yield* inProcess(Forget.run({ vehicleId: "v1", dropReferences: false, dryRun: false }))
    yield* inProcess(drain(gold()))
    yield* expectLive(["touched_days"])
    expect(yield* sql`SELECT * FROM gold_strict`).toEqual([])
    expect(yield* liveNames).not.toContain("strict")
  }))

  lake("keep times to the microsecond, however far", Effect.gen(function*() {
    yield* apply(header("days", "d", "d", "day") + `SELECT ${day} AS d, count(*) AS n, max(ingest_ts) AS last FROM silver.telemetry_clean GROUP BY ${day}`)
    const sent = (id: string, time: string, at: string) => event({ id, time }).replace("\"source\"", `"ingest_time":"${at}","source"`)
    yield* send(0, [sent("a", "2025-03-01T08:00:00Z", "2300-01-01T00:00:00.000001Z"), sent("b", "1600-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z")])
    yield* GoldLake.fill
    yield* expectLive(["days"])
  }))

  lake("that break their promise with the very first rows keep gold from nothing", Effect.gen(function*() {
    yield* apply(header("strict", "d", "d", "day", "-- test: n < 3\n") + `SELECT ${day} AS d, count(*) AS n FROM silver.telemetry_clean GROUP BY ${day}`)
    yield* send(0, someEvents(SeededRandom.make(3), 40, "a"))
    yield* GoldLake.fill
    yield* expectLive([])
    expect(yield* liveNames).not.toContain("strict")
  }))

  lake("that are computed anew wait for the batch where gold is far behind", Effect.gen(function*() {
    yield* apply(recomputed.touched_days)
    yield* apply(merged.days)
    yield* send(0, someEvents(SeededRandom.make(3), 60, "a"))
    yield* fillSilver
    yield* inProcess(drain(gold({ batchRowsMax: 5 })))
    yield* expectLive(["days"])
    expect(yield* liveNames).not.toContain("touched_days")
    yield* start("touched_days")
    yield* expectLive(["touched_days"])
  }))
})
