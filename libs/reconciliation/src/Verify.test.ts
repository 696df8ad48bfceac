/** What the reconciler finds: each case changes one thing by hand that a healthy lake never shows, and names the equations that must break. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean, telemetryRaw, telemetryRejected, type TableContract } from "@voltlake/domain/Tables"
import * as GoldProgress from "@voltlake/gold/GoldProgress"
import type { Summary } from "@voltlake/iceberg/Snapshot"
import * as Stage from "@voltlake/stage-runner/Stage"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as LakeStatus from "./LakeStatus.ts"
import * as Verify from "./Verify.ts"

const { event, inProcess, send, topic } = StageLake

const verify = inProcess(Verify.run(topic))
const breaches = Effect.map(verify, (report) => Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))

const someLines = (count: number, seed = 1) => TelemetryLines.make(SeededRandom.make(seed), count, { copies: 0.2, malformed: 0.1 }).lines

/** Two partitions with rows, copies and rejects, all the way in gold. */
const healthy = Effect.gen(function*() {
  const lines = someLines(200)
  yield* send(0, lines.slice(0, 120))
  yield* GoldLake.fill
  yield* send(1, lines.slice(120))
  yield* GoldLake.fill
})

const rewrite = (contract: TableContract, rows: (all: string) => string, summary?: (inherited: Summary) => Summary) =>
  inProcess(OtherEngine.overwrite(contract, summary === undefined ? { rows } : { rows, summary }))

const same = (all: string) => `SELECT * FROM ${all}`

/** The counters of the first partition changed. */
const counted = (edit: (p: Progress.PartitionProgress) => Partial<Progress.PartitionProgress>) => (summary: Summary): Summary => {
  const progress = Progress.decode(summary[LakeTables.progressKey]!)
  if (progress._tag === "Left") throw progress.left
  const [[key, first], ...rest] = Array.from(progress.right) as [[string, Progress.PartitionProgress]]
  return { ...summary, ...LakeTables.progressSummary(new Map([[key!, new Progress.PartitionProgress({ ...first!, ...edit(first!) })], ...rest])) }
}

const sql = (statement: string) => Effect.flatMap(SqlClient.SqlClient, (client) => client.unsafe(statement))

type Damage = Effect.Effect<unknown, unknown, Effect.Effect.Context<typeof healthy> | SqlClient.SqlClient>

const cases: ReadonlyArray<readonly [string, Damage, ReadonlyArray<string>]> = [
  ["a row of silver is deleted", rewrite(telemetryClean, (all) => `${same(all)} WHERE "offset" <> (SELECT min("offset") FROM ${all})`), [
    "silver.telemetry_clean, telemetry_raw-0: rows in the table = counter rows - removed",
    "gold_vehicle_minute_metrics: sum(event_count) = rows of silver below gold's position",
    "gold: rows of silver below gold's position = counter rows"
  ]],
  ["a row of bronze is doubled", rewrite(telemetryRaw, (all) => `${same(all)} UNION ALL (${same(all)} WHERE "partition" = 1 AND "offset" = 3)`), [
    "bronze.telemetry_raw, telemetry_raw-1: rows in the table = counter rows - removed",
    "bronze.telemetry_raw, telemetry_raw-1: distinct offsets = rows in the table"
  ]],
  ["a row of bronze is gone", rewrite(telemetryRaw, (all) => `${same(all)} WHERE NOT ("partition" = 1 AND "offset" = 3)`), [
    "bronze.telemetry_raw, telemetry_raw-1: rows in the table = counter rows - removed"
  ]],
  ["a row of bronze bears another partition", rewrite(telemetryRaw, (all) => `SELECT * REPLACE (7::INTEGER AS "partition") FROM ${all} WHERE "partition" = 1
    UNION ALL ${same(all)} WHERE "partition" <> 1`), [
    "bronze.telemetry_raw, telemetry_raw-1: rows in the table = counter rows - removed",
    "bronze.telemetry_raw, telemetry_raw-7: rows of a partition that the counters do not know = 0"
  ]],
  ["offsets lie beyond the position", rewrite(telemetryRaw, (all) => `SELECT * REPLACE ("offset" + 1000 AS "offset") FROM ${all}`), [
    "bronze.telemetry_raw, telemetry_raw-0: rows outside [start, position) = 0"
  ]],
  ["a reject is gone", rewrite(telemetryRejected, (all) => `${same(all)} WHERE ("partition", "offset") NOT IN
      (SELECT ("partition", "offset") FROM ${all} WHERE "partition" = 0 LIMIT 1)`), [
    "silver.telemetry_rejected, telemetry_raw-0: rows in the table = counter rejected - removed"
  ]],
  ["a key is there twice", rewrite(telemetryClean, (all) => `WITH one AS (FROM ${all} WHERE "partition" = 0 ORDER BY "offset" LIMIT 1)
      SELECT a.* REPLACE (CASE WHEN a."offset" = (SELECT max("offset") FROM ${all} WHERE "partition" = 0) AND a."partition" = 0 THEN one.event_id ELSE a.event_id END AS event_id,
        CASE WHEN a."offset" = (SELECT max("offset") FROM ${all} WHERE "partition" = 0) AND a."partition" = 0 THEN one.vehicle_id ELSE a.vehicle_id END AS vehicle_id)
      FROM ${all} a, one`), [
    "silver.telemetry_clean: rows beyond the first of each (vehicle_id, event_id) = 0"
  ]],
  ["bronze counts a row too many", rewrite(telemetryRaw, same, counted((p) => ({ rows: p.rows + 1n }))), [
    "bronze.telemetry_raw, telemetry_raw-0: rows + rejected + duplicates + skipped + lost = position - start",
    "bronze.telemetry_raw, telemetry_raw-0: rows in the table = counter rows - removed"
  ]],
  ["bronze counts a row as skipped", rewrite(telemetryRaw, same, counted((p) => ({ rows: p.rows - 1n, skipped: p.skipped + 1n }))), [
    "bronze.telemetry_raw, telemetry_raw-0: rows in the table = counter rows - removed",
    "silver, telemetry_raw-0: offsets without a bronze row = skipped + lost of bronze"
  ]],
  ["silver counts a row as a copy", rewrite(telemetryClean, same, counted((p) => ({ rows: p.rows - 1n, duplicates: p.duplicates + 1n }))), [
    "silver.telemetry_clean, telemetry_raw-0: rows in the table = counter rows - removed",
    "silver: both tables have the same counters"
  ]],
  ["bronze says that it read beyond the log", rewrite(telemetryRaw, same, counted((p) => ({ position: p.position + 5n, lost: 5n }))), [
    "bronze: offsets read beyond the stage before = 0"
  ]],
  ["bronze was rewound below silver", rewrite(telemetryRaw, same, counted((p) => ({ position: p.position - 5n, rows: p.rows - 5n }))), [
    "bronze.telemetry_raw, telemetry_raw-0: rows in the table = counter rows - removed"
  ]],
  ["a count of gold was changed", sql(`UPDATE gold_vehicle_minute_metrics SET event_count = event_count + 1
      WHERE (vehicle_id, minute_ts) = (SELECT vehicle_id, minute_ts FROM gold_vehicle_minute_metrics LIMIT 1)`), [
    "gold_vehicle_minute_metrics: sum(event_count) = rows of silver below gold's position"
  ]],
  ["a minute of the fleet is gone", sql("DELETE FROM gold_fleet_minute_metrics WHERE minute_ts = (SELECT min(minute_ts) FROM gold_fleet_minute_metrics)"), [
    "gold_fleet_minute_metrics: sum(total_events) = rows of silver below gold's position"
  ]],
  ["gold's counter was changed", Effect.gen(function*() {
    const client = yield* SqlClient.SqlClient
    const gold = yield* GoldProgress.read(client)
    const [[key, first], ...rest] = Array.from(gold.progress) as [[string, Progress.PartitionProgress]]
    const changed = new Progress.PartitionProgress({ ...first!, rows: first!.rows - 1n, skipped: first!.skipped + 1n })
    yield* GoldProgress.write(client, { ...gold, progress: new Map([[key!, changed], ...rest]) })
  }), [
    "gold: rows of silver below gold's position = counter rows"
  ]]
]

layer(GoldLake.postgres, { excludeTestServices: true })("Verify", (it) => {
  it.effect("holds on a lake without an event, and on a healthy one wherever its stages stand", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [])
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      const lines = someLines(120)
      yield* send(0, lines.slice(0, 60))
      expect(yield* breaches).toEqual([])
      yield* inProcess(StageLake.drain(StageLake.bronze()))
      expect(yield* breaches).toEqual([])
      yield* StageLake.stepOnce(StageLake.silver({ batchRowsMax: 20 }))
      expect(yield* breaches).toEqual([])
      yield* GoldLake.fill
      yield* StageLake.loseNext(1, lines.slice(60, 70))
      yield* send(1, lines.slice(70))
      yield* inProcess(StageLake.drain(StageLake.bronze({ acceptLoss: true })))
      yield* StageLake.stepOnce(StageLake.silver({ batchRowsMax: 20 }))
      yield* StageLake.stepOnce(StageLake.gold({ batchRowsMax: 10 }))
      expect(yield* breaches).toEqual([])
      yield* GoldLake.fill
      const report = yield* verify
      expect(Verify.breaches(report)).toEqual([])
      expect(report.checks.length).toBeGreaterThan(20)
    })))

  for (const [what, damage, expected] of cases) {
    it.effect(`finds that ${what}`, () =>
      GoldLake.fresh(Effect.gen(function*() {
        yield* healthy
        yield* damage
        expect(yield* breaches).toEqual(expect.arrayContaining([...expected]))
      })))
  }

  it.effect("does not take a table that was rewritten, row by row the same, for damaged", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* healthy
      for (const contract of [telemetryRaw, telemetryClean, telemetryRejected]) {
        yield* inProcess(OtherEngine.overwrite(contract, { rows: same, operation: "replace" }))
      }
      expect(yield* breaches).toEqual([])
    })))

  for (
    const [what, statement] of [
      ["a sum of speeds", "UPDATE gold_vehicle_minute_metrics SET speed_sum = speed_sum + 1 WHERE speed_count > 0"],
      ["a greatest speed", "UPDATE gold_vehicle_minute_metrics SET max_speed_mph = max_speed_mph + 0.01"],
      ["a least battery", "UPDATE gold_fleet_minute_metrics SET min_battery_percent_fleet = min_battery_percent_fleet - 1"],
      ["a latest value", "UPDATE vehicle_signal_latest SET value = value + 1"],
      ["a latest offset", "UPDATE vehicle_signal_latest SET \"offset\" = \"offset\" + 1"]
    ] as const
  ) {
    it.effect(`finds that ${what} in gold was changed`, () =>
      GoldLake.fresh(Effect.gen(function*() {
        yield* healthy
        yield* sql(statement)
        expect(yield* breaches).not.toEqual([])
      })))
  }

  it.effect("holds while the stages run", () =>
    GoldLake.fresh(Effect.gen(function*() {
      const settings = { ...Stage.defaultSettings, pollInterval: Duration.millis(5), backoffMin: Duration.millis(5), backoffMax: Duration.millis(50) }
      const running = Effect.all([
        Effect.flatMap(StageLake.bronze({ batchRowsMax: 40 }), (stage) => Stage.run(stage, settings)),
        Effect.flatMap(StageLake.silver({ batchRowsMax: 30 }), (stage) => Stage.run(stage, settings)),
        Effect.flatMap(StageLake.gold({ batchRowsMax: 25 }), (stage) => Stage.run(stage, settings))
      ], { concurrency: "unbounded" })
      yield* send(0, someLines(50, 0))
      const fiber = yield* Effect.fork(Effect.provide(inProcess(running), Stage.layerHealth))
      yield* Effect.retry(inProcess(LakeStatus.read(topic)), { times: 200 })
      for (let round = 1; round <= 8; round++) {
        yield* send(round % 2, someLines(80, round))
        expect(yield* breaches, `round ${round}`).toEqual([])
      }
      const lag = Effect.map(inProcess(LakeStatus.read(topic)), ({ stages }) => stages.reduce((sum, stage) => sum + stage.lag, 0n))
      yield* Effect.repeat(lag, { until: (behind) => behind === 0n })
      yield* Fiber.interrupt(fiber)
      expect(yield* breaches).toEqual([])
    })))
})

layer(GoldLake.postgres, { excludeTestServices: true })("LakeStatus", (it) => {
  const numbers = Effect.map(inProcess(LakeStatus.read(topic)), ({ stages, ...rest }) => ({
    ...rest,
    stages: Object.fromEntries(stages.map(({ lag, rows, stage }) => [stage, [rows, lag]]))
  }))

  it.effect("says of each stage its rows and how far it is behind the one before", () =>
    GoldLake.fresh(Effect.gen(function*() {
      const none = { rejected: 0n, duplicates: 0n, skipped: 0n, lost: 0n }
      yield* send(0, [])
      yield* GoldLake.fill
      expect(yield* numbers).toEqual({ ...none, stages: { ingest: [0n, 0n], bronze: [0n, 0n], silver: [0n, 0n], gold: [0n, 0n] } })
      yield* send(0, [event({ id: "a" }), event({ id: "a" }), "reject", event({ id: "b" })])
      yield* send(1, [event({ id: "c" })])
      expect((yield* numbers).stages).toEqual({ ingest: [5n, 0n], bronze: [0n, 5n], silver: [0n, 0n], gold: [0n, 0n] })
      yield* inProcess(StageLake.drain(StageLake.bronze()))
      expect((yield* numbers).stages).toEqual({ ingest: [5n, 0n], bronze: [5n, 0n], silver: [0n, 5n], gold: [0n, 0n] })
      yield* StageLake.fillSilver
      yield* send(1, [event({ id: "d" })])
      expect(yield* numbers).toEqual({
        ...none,
        rejected: 1n,
        duplicates: 1n,
        stages: { ingest: [6n, 0n], bronze: [5n, 1n], silver: [3n, 0n], gold: [0n, 5n] }
      })
      yield* GoldLake.fill
      expect((yield* numbers).stages).toEqual({ ingest: [6n, 0n], bronze: [6n, 0n], silver: [4n, 0n], gold: [4n, 0n] })
    })))

  it.effect("counts what the log dropped before it began as no lag, and what it dropped unread as lost", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* StageLake.loseNext(0, ["before", "all"])
      yield* send(0, [event({ id: "a" })])
      yield* GoldLake.fill
      expect((yield* numbers).stages).toEqual({ ingest: [3n, 0n], bronze: [1n, 0n], silver: [1n, 0n], gold: [1n, 0n] })
      yield* StageLake.loseNext(0, [event({ id: "lost" })])
      yield* inProcess(StageLake.drain(StageLake.bronze({ acceptLoss: true })))
      expect(yield* numbers).toMatchObject({ lost: 1n, skipped: 0n, stages: { bronze: [1n, 0n], silver: [1n, 1n] } })
      yield* GoldLake.fill
      expect((yield* numbers).stages).toEqual({ ingest: [4n, 0n], bronze: [1n, 0n], silver: [1n, 0n], gold: [1n, 0n] })
      expect(yield* breaches).toEqual([])
    })))
})
