/**
 * Retention by day: rows of UTC days that are older than they are to be kept are removed, bronze's by the time of sending, silver's by the time of the
 * event and, of rejects, of their rejection. Gold follows silver: it is always what silver's rows lead to. Of bronze nothing goes that silver has not read.
 */
import { Clock, Config, Duration, Effect, Option, Stream } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as Expression from "@voltlake/iceberg/Expression"
import { literal } from "@voltlake/query-engine/SqlText"
import { defaultSettings, make as makeStage, type RunnerSettings } from "@voltlake/stage-runner/Stage"
import * as DaysConfig from "@voltlake/stage-runner/DaysConfig"
import * as Removal from "./Removal.ts"

export interface RetentionSettings {
  readonly bronzeDays: Option.Option<number>
  readonly silverDays: Option.Option<number>
}

const days = (name: string, what: string) => DaysConfig.days(name, `Whole UTC days that ${what} are kept besides today; for ever where not set`)

export const settingsConfig: Config.Config<RetentionSettings> = Config.all({
  bronzeDays: days("BRONZE_RETENTION_DAYS", "records, by the time of sending,"),
  silverDays: days("SILVER_RETENTION_DAYS", "events, by their own time, and what gold makes of them")
})

const dayMs = 86_400_000

/** The beginning of the oldest day that is kept. */
const cutoff = (nowMs: number, kept: number): Date => new Date((Math.floor(nowMs / dayMs) - kept) * dayMs)

const before = (contract: TableContract, time: Date): Removal.Condition => ({
  contract,
  filter: Expression.test(contract.dayOf, "<", BigInt(time.getTime()) * 1000n),
  sql: `"${contract.dayOf}" < TIMESTAMPTZ ${literal(time.toISOString())}`
})

const readBySilver = Effect.gen(function*() {
  const { progress } = yield* LakeTables.load(telemetryClean)
  return SnapshotSource.inRanges(Progress.covered(progress))
})

/** Removes what is too old, or says what would go. Without settings nothing is. */
export const run = Effect.fn("DayRetention.run")(function*({ bronzeDays, silverDays }: RetentionSettings, dryRun: boolean) {
  const nowMs = yield* Clock.currentTimeMillis
  const removed: Array<Removal.Removed> = []
  // Silver first: what it no longer has, bronze need not keep for it.
  if (Option.isSome(silverDays)) {
    const time = cutoff(nowMs, silverDays.value)
    const conditions = [telemetryClean, telemetryRejected].map((contract) => before(contract, time))
    removed.push(...(yield* Removal.run({ conditions, dryRun, scope: { type: "before", time: time.toISOString() } })))
  }
  if (Option.isSome(bronzeDays)) {
    const time = cutoff(nowMs, bronzeDays.value)
    const ofDays = before(telemetryRaw, time)
    const conditions = [{ ...ofDays, sql: `${ofDays.sql} AND (${yield* readBySilver})` }]
    removed.push(...(yield* Removal.run({ conditions, dryRun, scope: { type: "before", time: time.toISOString() } })))
  }
  return removed
})

/** Days end once a day; what comes late for one that is over goes within the hour. */
export const runnerSettings: RunnerSettings = { ...defaultSettings, pollInterval: Duration.hours(1), backoffMax: Duration.minutes(5) }

/** Retention as a stage. */
export const make = (settings: RetentionSettings) => {
  const step = Effect.gen(function*() {
    const removed = yield* run(settings, false)
    for (const { contract, files, rows } of removed.filter((one) => one.rows > 0n)) {
      yield* Effect.logInfo("removed rows of days that are no longer kept").pipe(Effect.annotateLogs({ table: qualifiedName(contract), rows, files }))
    }
    return "idle" as const
  }).pipe(Effect.withSpan("DayRetention.step"))
  return makeStage("retention", step, Stream.never)
}
