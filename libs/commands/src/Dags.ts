/** The lake's DAGs: gold by batch, maintenance of the tables, and the reconciler. */
import { Config, Duration, Effect, Either, Option } from "effect"
import { fileURLToPath } from "node:url"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { lakeTables } from "@voltlake/domain/Tables"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as GoldCompare from "@voltlake/gold/GoldCompare"
import * as GoldLive from "@voltlake/gold/GoldLive"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as GoldPublish from "@voltlake/gold/GoldPublish"
import * as MinuteRetention from "@voltlake/gold/MinuteRetention"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as Compactor from "@voltlake/maintenance/Compactor"
import * as LogRetention from "@voltlake/maintenance/LogRetention"
import * as Orphans from "@voltlake/maintenance/Orphans"
import type { Dag, Facts, Schedule, Task } from "@voltlake/orchestration/Dag"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as Verify from "@voltlake/reconciliation/Verify"
import type * as Lake from "./Lake.ts"

/** Model files stand beside the bundle that this module is part of. */
const modelFolder = fileURLToPath(new URL("./models/", import.meta.url))

export interface DagSettings {
  readonly modelFolder: string
}

export const settingsConfig: Config.Config<DagSettings> = Config.all({
  modelFolder: Config.string("GOLD_MODELS_DIR").pipe(
    Config.option,
    Config.map(Option.getOrElse(() => modelFolder)),
    Config.withDescription("Folder of the gold models that come with Voltlake; without it its own")
  )
})

const task = <E, R>(name: string, after: ReadonlyArray<string>, run: Task<E, R>["run"], more: Partial<Task<E, R>> = {}): Task<E, R> => ({
  name,
  after,
  retries: 1,
  retryDelay: Duration.minutes(2),
  timeout: Duration.hours(2),
  run,
  ...more
})

const at = (cron: string): Schedule => ({ cron, timeZone: "UTC", catchUp: "none", overlap: "skip" })

const build = Effect.fnUntraced(function*(name: string, ids: GoldBatch.CommitIds) {
  const told = (done: number, of: number) => of > 10 && (done === of || done % Math.ceil(of / 10) === 0)
  const onDay: GoldBatch.OnDay = (done, of) => told(done, of) ? Effect.logInfo(`${done} of ${of} days`) : Effect.void
  const { days, kind, rows, units } = yield* GoldBatch.build(yield* GoldModels.load(name), onDay, ids)
  yield* Effect.logInfo(kind === "found" ? "an attempt that was killed had committed it" : `${kind}: ${rows} rows of ${days} days`)
  return { kind, days, units, rows: Number(rows) } satisfies Facts
})

const publish = Effect.fnUntraced(function*(name: string) {
  const { days, rows } = yield* GoldPublish.publish(yield* GoldModels.load(name))
  yield* Effect.logInfo(`${days} days replaced, ${rows} rows in all`)
  return { days, rows } satisfies Facts
})

/** Of a live model that is new, or has changed. */
const goLive = Effect.fnUntraced(function*(name: string) {
  const { days, kind, rows } = yield* GoldLive.start(yield* GoldModels.load(name))
  yield* Effect.logInfo(kind === "live" ? "it is kept live already" : `${days} days filled, ${rows} rows in all; from here on silver's commits move it`)
  return { kind, days, rows } satisfies Facts
})

/** A difference is mended, and an alarm all the same: live or batch has a bug, or somebody changed the table. */
const compare = Effect.fnUntraced(function*(name: string) {
  const report = ({ differing, samples, units }: GoldCompare.Compared) =>
    OpsEvents.add({
      severity: "ERROR",
      kind: "gold_differs",
      subject: `gold_${name}`,
      message: `${differing} of ${units} units of a day of gold_${name} differed from what silver's rows give; they were computed anew`,
      facts: { model: name, units, differing, samples }
    })
  const { differing, units, waiting } = yield* GoldCompare.compare(yield* GoldModels.load(name), report)
  yield* Effect.logInfo(`${units} units compared, ${waiting} wait for the next time, ${differing} differed`)
  return { units, waiting, differing } satisfies Facts
})

/** A live model whose stage is still behind goes live, or is compared, a little later. */
const behindRetries = { retries: 5, retryDelay: Duration.seconds(10) }

export const silverToGoldName = "silver_to_gold_batch"

const silverToGold = Effect.map(GoldModels.all, (models) => ({
  name: silverToGoldName,
  description: "Brings gold's Iceberg tables to silver, publishes batch models, and compares live values with them",
  schedule: at("*/10 * * * *"),
  stuckAfter: Duration.hours(2),
  tasks: models.flatMap(({ model, name }) => [
    task(`build_${name}`, [], (context) => build(name, context)),
    ...(Either.isRight(model) && model.right.refresh === "live"
      ? [
        task(`publish_${name}`, [`build_${name}`], () => goLive(name), behindRetries),
        task(`compare_${name}`, [`publish_${name}`], () => compare(name), behindRetries)
      ]
      : [task(`publish_${name}`, [`build_${name}`], () => publish(name))])
  ])
}))

const goldTables = Effect.flatMap(Catalog, (catalog) => Effect.map(catalog.list, (all) => all.filter(({ namespace }) => namespace === "gold")))

/** The lake's own tables and gold's. */
const allTables = Effect.map(goldTables, (gold) => [...lakeTables.map(LakeTables.identifier), ...gold])

/** Does it for each table. What is wrong with one keeps none of the others from it; the task fails in the end. */
const each = <E, R>(tables: typeof allTables, of: (table: TableIdentifier) => Effect.Effect<number, E, R>) =>
  Effect.gen(function*() {
    const facts: Record<string, number> = {}
    const failures: Array<string> = []
    for (const table of yield* tables) {
      const result = yield* Effect.either(of(table))
      if (Either.isRight(result)) facts[render(table)] = result.right
      else failures.push(`${render(table)}: ${result.left instanceof Error ? result.left.message : String(result.left)}`)
    }
    if (failures.length > 0) return yield* Effect.fail(new Error(failures.join("; ")))
    return facts satisfies Facts
  })

/** Gold's tables: those of the lake are merged by the stage beside their writers. */
const compact = (settings: Compaction.CompactionSettings) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* each(goldTables, (table) =>
      Effect.map(Compaction.compactTable(connection, table, settings), (merged) => merged.reduce((sum, { filesBefore }) => sum + filesBefore, 0)))
  }))

const expire = each(allTables, (table) =>
  Effect.gen(function*() {
    const { metadata } = yield* (yield* Tables).load(table)
    return yield* Compactor.expire(table, metadata)
  }))

const orphanAge = Duration.days(3)

const reconcile = Effect.fnUntraced(function*(topic: string) {
  const report = yield* Verify.run(topic)
  const breaches = Verify.breaches(report)
  for (const { actual, equation, expected, subject } of breaches) {
    yield* OpsEvents.add({
      severity: "ERROR",
      kind: "equation_breach",
      subject,
      message: `${subject}: ${equation} does not hold, expected ${expected}, got ${actual}`,
      facts: { equation, expected, actual }
    })
  }
  return { checks: report.checks.length, breaches: breaches.length } satisfies Facts
})

/** Of the embedded log: one on Kafka has its broker's own. */
const logRetention = (topic: string, days: number): LakeDag => ({
  name: "log_retention",
  description: `Drops records from the embedded log ${days} days after they were sent, once bronze has them`,
  schedule: at("50 * * * *"),
  stuckAfter: Duration.hours(3),
  tasks: [task("trim", [], () => Effect.map(LogRetention.run(topic, days), (dropped) => ({ dropped: Number(dropped) })))]
})

/** Of gold's tables of minutes in PostgreSQL: Iceberg has them all. */
const minuteRetention = (days: number): LakeDag => ({
  name: "minute_retention",
  description: `Drops rows from PostgreSQL's tables of minutes ${days} days after their day`,
  schedule: at("20 0 * * *"),
  stuckAfter: Duration.hours(3),
  tasks: [task("trim", [], () => MinuteRetention.run(days))]
})

type TaskNeeds =
  | Effect.Effect.Context<ReturnType<typeof build>>
  | Effect.Effect.Context<ReturnType<typeof publish>>
  | Effect.Effect.Context<ReturnType<typeof goLive>>
  | Effect.Effect.Context<ReturnType<typeof compare>>
  | Effect.Effect.Context<ReturnType<typeof compact>>
  | Effect.Effect.Context<ReturnType<typeof Orphans.remove>>
  | Effect.Effect.Context<ReturnType<typeof reconcile>>

export type LakeDag = Dag<unknown, TaskNeeds>

/** All DAGs, as they are now: gold's has tasks for each model. */
export const all = ({ adapters, compaction, ingest, logRetentionDays, minutesDays }: Lake.Settings) =>
  Effect.map(silverToGold, (gold) => {
    const others: ReadonlyArray<LakeDag> = [
      {
        name: "table_maintenance",
        description: "Merges the files of gold's tables, and drops old snapshots of all",
        schedule: at("25 * * * *"),
        stuckAfter: Duration.hours(3),
        tasks: [task("compact", [], () => compact(compaction)), task("expire", ["compact"], () => expire)]
      },
      {
        name: "orphan_removal",
        description: "Finds files that no table names and no process will, and has them deleted",
        schedule: at("40 3 * * *"),
        stuckAfter: Duration.hours(3),
        tasks: [task("orphans", [], () => each(allTables, (table) => Effect.map(Orphans.remove(table, orphanAge), ({ locations }) => locations.length)))]
      },
      {
        name: "reconciliation",
        description: "Compares the counters with the rows that are there, from the log to gold",
        schedule: at("5,35 * * * *"),
        stuckAfter: Duration.hours(1),
        tasks: [task("verify", [], () => reconcile(ingest.topic), { retries: 0 })]
      }
    ]
    const days = Option.isSome(adapters.kafka) ? undefined : Option.getOrUndefined(logRetentionDays)
    const dags: ReadonlyArray<LakeDag> = [
      gold,
      ...others,
      ...(days === undefined ? [] : [logRetention(ingest.topic, days)]),
      ...(Option.isSome(minutesDays) ? [minuteRetention(minutesDays.value)] : [])
    ]
    return dags
  })
