/**
 * Gold, over local files and PostgreSQL: a run of the batch over a short and a long history, computing all anew, and PostgreSQL's time of a live merge.
 * Silver's rows are made by SQL: bronze and silver have no part in it.
 */
import { SqlClient } from "@effect/sql"
import { Effect, Either, Runtime, Tracer } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { cpus } from "node:os"
import { fileURLToPath } from "node:url"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as GoldModel from "@voltlake/domain/GoldModel"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as Gold from "@voltlake/gold/Gold"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as GoldPublish from "@voltlake/gold/GoldPublish"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { inLake, median, open, rounded, timed, withFolder } from "./BenchLake.ts"

/** Model files stand beside the bundle that this module is part of. */
const modelFolder = fileURLToPath(new URL("./models/", import.meta.url))
const vehicles = 500
const partitions = 4
const dayUs = 86_400_000_000n
const secondUs = 1_000_000n
/** The last day of every lake's history. */
const lastDay = 20_500n

/** `count` events from the instant on, evenly over `lengthUs`, of all vehicles in turn; `late` of them are spread over that many days before. */
interface Events {
  readonly fromUs: bigint
  readonly lengthUs: bigint
  readonly count: number
  readonly late?: { readonly count: number; readonly days: number }
}

/** Silver's rows of the events, from this offset of every partition on. Random ids, noisy signals, of which some are missing. */
const silverRows = ({ count, fromUs, late, lengthUs }: Events, offset: bigint) => `(
  SELECT gen_random_uuid()::VARCHAR AS event_id, 'vehicle-' || lpad((i % ${vehicles})::VARCHAR, 6, '0') AS vehicle_id, make_timestamp(us)::TIMESTAMPTZ AS event_ts,
    make_timestamp(us + 200000)::TIMESTAMPTZ AS ingest_ts, 'bench' AS source,
    CASE WHEN random() < 0.9 THEN round(random() * 100, 3) END AS battery_percent, CASE WHEN random() < 0.9 THEN round(greatest(random() * 90 - 15, 0), 4) END AS speed_mph,
    CASE WHEN random() < 0.9 THEN round(random() * 90000, 4) END AS odometer_miles,
    'telemetry_raw' AS topic, (i % ${partitions})::INTEGER AS "partition", (${offset} + i // ${partitions})::BIGINT AS "offset"
  FROM (SELECT i, ${fromUs} + i * ${lengthUs} // ${count} + (random() * 1000)::BIGINT
    ${late === undefined ? "" : `- CASE WHEN i < ${late.count} THEN (1 + i % ${late.days}) * ${dayUs} ELSE 0 END`} AS us FROM range(${count}) AS t(i)))`

/** Commits the events as silver does. Their number is a multiple of the partitions'. */
const commit = Effect.fnUntraced(function*(events: Events) {
  const connection = yield* (yield* QueryEngine).connect
  const silver = yield* LakeTables.load(telemetryClean)
  const start = silver.progress.get("telemetry_raw-0")?.position ?? 0n
  const length = BigInt(events.count / partitions)
  const ranges = Array.from({ length: partitions }, (_, partition): Progress.RangeCounts =>
    ({ topic: "telemetry_raw", partition, start, end: start + length, rows: length, skipped: 0n, lost: 0n, rejected: 0n, duplicates: 0n }))
  const commitId = yield* Transaction.newCommitId
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE bench_rows AS FROM ${silverRows(events, start)}`)
  const files = yield* DayFiles.write(connection, "bench_rows", { contract: telemetryClean, metadata: silver.metadata, commitId, daysMax: 16, rows: "unsorted" })
  const progress = yield* Progress.advance(silver.progress, ranges)
  yield* Transaction.commit({
    commitId,
    changes: [{ table: silver.identifier, actions: [Action.append(files)], summary: () => Either.right(LakeTables.progressSummary(progress)) }]
  })
}, Effect.scoped)

const models = Effect.suspend(() => {
  const texts = readdirSync(modelFolder).sort().map((file) => GoldModel.parse(file, readFileSync(`${modelFolder}${file}`, "utf8")))
  return Effect.forEach(texts, (text) => Effect.flatMap(text, GoldModels.check))
})

/** Days of some 50,000 events in four hours, one commit and file each. */
const eventsPerDay = 50_000
const hoursPerDay = 4n
const history = (days: number) =>
  Effect.forEach(Array.from({ length: days }, (_, at) => lastDay - BigInt(days - 1 - at)), (day) =>
    commit({ fromUs: day * dayUs, lengthUs: hoursPerDay * 3600n * secondUs, count: eventsPerDay }), { discard: true })

const runs = 7
const newEvents = { count: 30_000, lengthUs: 600n * secondUs, late: { count: 40, days: 4 } }
const fresh = (round: number): Events => ({ ...newEvents, fromUs: lastDay * dayUs + dayUs / 2n + BigInt(round) * newEvents.lengthUs })

/** New data, then everything that a run of the batch does: milliseconds by task. */
const batchRun = Effect.fnUntraced(function*(round: number) {
  yield* commit(fresh(round))
  const took: Record<string, number> = {}
  for (const checked of yield* models) {
    const { name, refresh } = checked.model
    took[`build ${name}`] = (yield* timed(GoldBatch.build(checked))).millis
    if (refresh === "batch") took[`publish ${name}`] = (yield* timed(GoldPublish.publish(checked))).millis
  }
  return took
})

const medians = (all: ReadonlyArray<Readonly<Record<string, number>>>) =>
  Object.fromEntries(Object.keys(all[0]!).map((name) => [name, median(all.map((one) => one[name]!))]))

const total = (of: Readonly<Record<string, number>>) => Object.values(of).reduce((sum, one) => sum + one, 0)

/** The same new data in a lake of some days and one of ten times as many, in turn: the machine's speed varies. */
const batch = async (days: number) => {
  const begun = Effect.zipRight(history(days), timed(batchRun(0)))
  const longBegun = Effect.zipRight(history(days * 10), timed(batchRun(0)))
  type Needs = Effect.Effect.Context<typeof begun>
  const measured = await inLake(Effect.gen(function*() {
    const shortRuntime = yield* Effect.runtime<Needs>()
    const inShort = <A, E>(effect: Effect.Effect<A, E, Needs>) => Effect.promise(() => Runtime.runPromise(shortRuntime)(effect))
    return yield* Effect.promise(() =>
      inLake(Effect.gen(function*() {
        const first = { short: (yield* inShort(begun)).millis, long: (yield* longBegun).millis }
        const [short, long]: [Array<Record<string, number>>, Array<Record<string, number>>] = [[], []]
        for (let round = 1; round <= runs; round++) {
          short.push(yield* inShort(batchRun(round)))
          long.push(yield* batchRun(round))
        }
        return { first, short, long }
      }))
    )
  }))
  const [short, long] = [medians(measured.short), medians(measured.long)]
  const whole = { short: median(measured.short.map(total)), long: median(measured.long.map(total)) }
  return {
    days,
    daysLong: days * 10,
    rowsLong: days * 10 * eventsPerDay,
    firstRunMillis: rounded(measured.first.short),
    firstRunMillisLong: rounded(measured.first.long),
    runMillis: rounded(whole.short),
    runMillisLong: rounded(whole.long),
    runRatio: rounded(whole.long / whole.short, 2),
    ...Object.fromEntries(Object.keys(short).map((name) => [name, `${rounded(short[name]!)} | ${rounded(long[name]!)}`]))
  }
}

const backfillDays = 3
const rowsPerCommit = 500_000

/** Of the model that a speed is wanted for. */
const backfillRuns = 5
const backfilled = "vehicle_minute_metrics"

/** Rows of silver a second, and a second of processor time, for the model computed anew. */
const anew = Effect.fnUntraced(function*(checked: Effect.Effect.Success<typeof models>[number], run: number, rows: number) {
  // Another text is another model, whose table is computed from all of silver.
  const other = { ...checked, model: { ...checked.model, sql: `${checked.model.sql}\n-- ${run}` } }
  const before = process.cpuUsage()
  const { millis } = yield* timed(GoldBatch.build(other))
  const { system, user } = process.cpuUsage(before)
  return { perSecond: rows / (millis / 1000), perSecondAndCore: rows / ((system + user) / 1e6) }
})

/** All models computed anew, over `rows` rows in files of a merge's size. */
const backfill = (rows: number) =>
  inLake(Effect.gen(function*() {
    const commits = Math.max(1, Math.round(rows / backfillDays / rowsPerCommit))
    const count = Math.floor(rows / backfillDays / commits / partitions) * partitions
    const lengthUs = dayUs / BigInt(commits)
    for (let day = 0; day < backfillDays; day++) {
      for (let at = 0; at < commits; at++) yield* commit({ fromUs: (lastDay - BigInt(day)) * dayUs + BigInt(at) * lengthUs, lengthUs, count })
    }
    const all = count * commits * backfillDays
    const speeds: Record<string, number> = {}
    for (const checked of (yield* models).toReversed()) {
      const runs = checked.model.name === backfilled ? backfillRuns : 1
      const measured = yield* Effect.forEach(Array.from({ length: runs }, (_, run) => run), (run) => anew(checked, run, all))
      speeds[`${checked.model.name} rows/s`] = Math.round(median(measured.map(({ perSecond }) => perSecond)))
      if (runs > 1) speeds[`${checked.model.name} rows/s, best`] = Math.round(Math.max(...measured.map(({ perSecond }) => perSecond)))
      speeds[`${checked.model.name} rows/s and core`] = Math.round(median(measured.map(({ perSecondAndCore }) => perSecondAndCore)))
    }
    return { backfillRows: all, ...speeds }
  }), { ENGINE_THREADS: process.env["ENGINE_THREADS"] ?? "2" })

const liveCommits = 70
const liveWarmUp = 5
const liveRate = 10_000
/** Minutes of all vehicles that are there before. */
const liveHistoryMinutes = 1440

/** Notes how long spans of this name took, in milliseconds. */
const noting = (name: string, into: Array<number>, tracer: Tracer.Tracer): Tracer.Tracer =>
  Tracer.make({
    context: (run, fiber) => tracer.context(run, fiber),
    span: (...given) => {
      const span = tracer.span(...given)
      if (given[0] !== name) return span
      const { end } = span
      const startedMs = performance.now()
      span.end = (endTime, exit) => {
        into.push(performance.now() - startedMs)
        end.call(span, endTime, exit)
      }
      return span
    }
  })

const merges = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE EXTENSION IF NOT EXISTS pg_stat_statements`
  yield* sql`ALTER SYSTEM SET pg_stat_statements.track_planning = 'on'`
  yield* sql`SELECT pg_reload_conf()`
  const stage = yield* Gold.make({ batchRowsMax: 120_000 })
  // What is there before comes after the first step, which makes models live.
  yield* commit({ fromUs: lastDay * dayUs, lengthUs: secondUs, count: liveRate })
  yield* stage.step
  yield* sql.unsafe(`INSERT INTO gold_vehicle_minute_metrics (vehicle_id, minute_ts, avg_speed_mph, max_speed_mph, min_battery_percent, event_count, speed_sum, speed_count)
    SELECT 'vehicle-' || lpad(v::text, 6, '0'), timestamp 'epoch' + (${lastDay} * 1440 - m) * interval '1 minute', 36.4, 80, 20, 1200, 40000, 1100
    FROM generate_series(1, ${liveHistoryMinutes}) AS m, generate_series(0, ${vehicles - 1}) AS v ORDER BY m DESC`)
  const transactions: Array<number> = []
  const statements: Array<number> = []
  const steps: Array<number> = []
  const tracer = noting("Transaction.transaction", transactions, yield* Effect.tracer)
  for (let at = 1; at <= liveCommits; at++) {
    yield* commit({ fromUs: lastDay * dayUs + BigInt(at) * secondUs, lengthUs: secondUs, count: liveRate })
    yield* sql`SELECT pg_stat_statements_reset()`
    steps.push((yield* timed(Effect.withTracer(stage.step, tracer))).millis)
    const [sum] = yield* sql<{ readonly millis: number }>`SELECT sum(total_exec_time + total_plan_time) AS millis FROM pg_stat_statements
      WHERE query NOT LIKE '%pg_stat_statements%'`
    statements.push(sum!.millis)
  }
  const slowest = yield* sql<{ readonly query: string; readonly millis: number }>`SELECT left(trim(query), 45) AS query, total_exec_time AS millis FROM pg_stat_statements
    ORDER BY total_exec_time DESC LIMIT 4`
  const byStatement = Object.fromEntries(slowest.map(({ millis, query }) => [`live, ${query.replaceAll(/\s+/g, " ").trim()}`, rounded(millis, 2)]))
  const typical = (all: ReadonlyArray<number>) => rounded(median(all.slice(liveWarmUp)))
  const worst = (all: ReadonlyArray<number>) => rounded(Math.max(...all.slice(liveWarmUp)))
  return {
    liveCommits,
    liveRowsPerCommit: liveRate,
    livePostgresMillis: typical(statements),
    livePostgresMillisMax: worst(statements),
    liveTransactionMillis: typical(transactions),
    liveTransactionMillisMax: worst(transactions),
    liveStepMillis: typical(steps),
    ...byStatement
  }
}).pipe(Effect.scoped)

/** The server must be told before it starts to count statements' time. */
const live = () =>
  withFolder(async (folder) => {
    await open(folder, Effect.flatMap(SqlClient.SqlClient, (sql) => sql`ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`))
    return open(folder, merges)
  })

export interface GoldOptions {
  /** Of the short history; the long one has ten times as many. */
  readonly days: number
  /** Of the lake that is computed anew. */
  readonly rows: number
  /** Only one of the three. */
  readonly part: string
}

export const run = async ({ days, part, rows }: GoldOptions) => {
  const parts = { batch: () => batch(days), backfill: () => backfill(rows), live }
  const wanted = Object.entries(parts).filter(([name]) => part === "all" || part === name)
  let result: object = { machine: `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}` }
  for (const [, measure] of wanted) result = { ...result, ...await measure() }
  return result
}
