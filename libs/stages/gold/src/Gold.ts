/**
 * The gold stage, live: silver's new rows move the tables of live models and the latest values in PostgreSQL, in one transaction with gold's position.
 *
 * Cost is proportional to the new rows: they are reduced to aggregates in the engine that are merged by key, or only the units that they touch are computed
 * anew (`ModelMerge` says which). The transaction first locks the position and compares it with where its range starts, so of two gold processes that read
 * the same rows one merges.
 */
import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Either, Ref, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { Wakeups } from "@voltlake/connectors/Wakeups"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import { signals } from "@voltlake/domain/TelemetryEvent"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { transaction } from "@voltlake/postgres/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { make as makeStage, type Outcome, StageStopped, stopOnBreach } from "@voltlake/stage-runner/Stage"
import * as StageMetrics from "@voltlake/stage-runner/StageMetrics"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldRemoval from "./GoldRemoval.ts"
import { keptBefore } from "./GoldTables.ts"
import * as LatestValues from "./LatestValues.ts"
import * as LiveModels from "./LiveModels.ts"
import * as LiveRows from "./LiveRows.ts"
import type * as RowsBetween from "./RowsBetween.ts"
import { countRanges } from "./SilverCounts.ts"

export interface GoldSettings {
  readonly batchRowsMax: number
}

export const settingsConfig: Config.Config<GoldSettings> = Config.all({
  batchRowsMax: Config.integer("GOLD_BATCH_ROWS_MAX").pipe(
    Config.validate({ message: "must be from 1 to 10000000", validation: (n: number) => n >= 1 && n <= 10_000_000 }),
    Config.withDefault(120_000),
    Config.withDescription("Most silver offsets that one transaction merges")
  )
})

/** Silver's counters, and how many of its rows were removed (undefined: nobody knows). */
export type Upstream = Pick<LakeTables.Loaded, "progress" | "removed">

/** Gold has as many events as silver has rows, per partition: exactly where it has caught up, never more before. */
export const checkAgainstSilver = (gold: Progress.Progress, silver: Upstream): Either.Either<void, Progress.EquationBreach> => {
  for (const [key, upstream] of silver.progress) {
    const own = gold.get(key)
    if (own === undefined) continue
    const expected = upstream.rows - (silver.removed?.get(key) ?? 0n)
    const isTooFew = silver.removed !== undefined && own.position === upstream.position && own.rows < expected
    if (own.rows > expected || isTooFew) {
      return Either.left(
        new Progress.EquationBreach({
          subject: `gold, ${key}`,
          equation: "events = rows of silver.telemetry_clean",
          expected,
          actual: own.rows
        })
      )
    }
  }
  return Either.right(undefined)
}

/** Another process has moved gold, or has it follow what happened to silver, while this one read. Nothing was merged. */
export class GoldMoved extends Schema.TaggedError<GoldMoved>()("GoldMoved", {}) {
  override get message() {
    return "gold was moved by another process while this batch was read; it is read again"
  }
}

const stopFor = (reason: string, remedy: string) => new StageStopped({ stage: "gold", reason, remedy })

interface Batch {
  readonly ranges: ReadonlyArray<Progress.RangeCounts>
  readonly latest: ReadonlyArray<RowsBetween.Slice>
  readonly models: ReadonlyArray<LiveRows.Prepared>
}

const merge = Effect.fnUntraced(function*(
  sql: PgClient.PgClient,
  { latest, models, ranges }: Batch,
  silver: Upstream,
  read: { readonly gold: GoldProgress.GoldProgress; readonly live: LiveModels.States }
) {
  yield* transaction(Effect.gen(function*() {
    const now = yield* GoldProgress.lock(sql)
    const progress = yield* Progress.advance(now.progress, ranges)
    if (!GoldProgress.equals(now, read.gold)) return yield* new GoldMoved()
    yield* LiveModels.confirm(sql, read.live)
    yield* checkAgainstSilver(progress, silver)
    for (const model of models) yield* model.apply(sql)
    yield* LatestValues.merge(sql, latest)
    yield* GoldProgress.write(sql, { ...now, progress })
    yield* sql`SELECT pg_notify(${goldChannel}, '')`
  }))
})

/**
 * So many batches behind, a model whose units are computed anew would have each batch read the units' days once more: the batch that builds its table reads
 * them once.
 */
const behindMax = 10n

/** The new rows, in the engine. */
const batchTable = "gold_batch"

/** Notified when gold has moved. */
export const goldChannel = "voltlake_gold"

const rewoundMessage = `${qualifiedName(telemetryClean)} was rewound: gold is filled again once silver has committed anew`

/** Silver's columns that are not read where no live model asks for them. */
const seldom = [["event_id", "VARCHAR"], ["ingest_ts", "TIMESTAMPTZ"], ["source", "VARCHAR"]] as const

/** A SELECT of the new rows as models and the latest values read them. */
const batchOf = (rows: string, models: ReadonlyArray<LiveModels.LiveModel>): string => {
  const isRead = (name: string) => models.some(({ names }) => names === undefined || names.has(name))
  const asked = seldom.map(([name, type]) => (isRead(name) ? name : `NULL::${type} AS ${name}`))
  const always = ["vehicle_id", "event_ts", "topic", "\"partition\"", "\"offset\"", ...signals.map(({ name }) => quoted(name))]
  return `SELECT ${[...always, ...asked].join(", ")} FROM ${rows}`
}

/** Builds the stage. Holds one engine connection for its scope. */
export const make = Effect.fn("Gold.make")(function*(settings: GoldSettings) {
  const engine = yield* QueryEngine
  const sql = yield* PgClient.PgClient
  const wakeups = yield* Wakeups
  const catalog = yield* Catalog
  const held = yield* Ref.make<ReadonlyArray<string>>([])
  const connection = yield* engine.connect
  const readModels = yield* LiveModels.reader
  /** Models, by hash, that this process does not begin by itself: the batch fills them. */
  const aside = new Set<string>()
  yield* LakeTables.ensure(telemetryClean)

  /** The models that are live now. Those that come with a gold that has read nothing are so from its beginning. */
  const liveModels = Effect.fnUntraced(function*(gold: GoldProgress.GoldProgress) {
    const found = yield* readModels
    const hashes = new Map(found.map(({ checked, hash }) => [checked.model.name, hash]))
    let states = yield* LiveModels.states(sql)
    const adopted = found.filter(({ checked }) => states.get(checked.model.name) === keptBefore)
    for (const one of adopted) yield* LiveModels.adopt(sql, one)
    if (adopted.length > 0) states = yield* LiveModels.states(sql)
    const begun = gold.progress.size > 0 ? [] : found.filter(({ hash }) => !aside.has(hash))
    if (begun.some(({ checked, hash }) => states.get(checked.model.name) !== hash)) {
      yield* LiveModels.beginAll(sql, begun)
      states = yield* LiveModels.states(sql)
    }
    // One that is another now, or cannot be used, is not moved on: its table would miss what comes from here on.
    const ended = [...states].filter(([name, hash]) => hashes.get(name) !== hash).map(([name]) => name)
    for (const name of ended) yield* LiveModels.end(sql, name)
    if (ended.length > 0) states = yield* LiveModels.states(sql)
    return { models: found.filter(({ checked, hash }) => states.get(checked.model.name) === hash), states }
  })

  const step = Effect.gen(function*() {
    const gold = yield* GoldProgress.read(sql)
    const at = Progress.position(gold.progress)
    const silver = yield* LakeTables.load(telemetryClean)
    // After silver: the commit that makes a rewound table current notes the epoch with it.
    const silverEpoch = yield* catalog.epoch(LakeTables.identifier(telemetryClean))
    const live = yield* liveModels(gold)
    if (silverEpoch > gold.silverEpoch) {
      yield* GoldRemoval.restart({ sql, gold, live }, { silverEpoch, silverRemoval: silver.removals.id }, "silver was rewound")
      return "advanced" satisfies Outcome
    }
    const end = Progress.position(silver.progress)
    const isAhead = !Position.reached(end, at)
    const isRewound = isAhead && Position.reached((yield* LakeTables.headPositions)(telemetryClean), at)
    yield* Ref.set(held, isRewound ? [rewoundMessage] : [])
    if (isRewound) return "idle" satisfies Outcome
    if (isAhead) {
      return yield* stopFor(
        "gold has read further than silver ever was: the database belongs to another lake",
        "Gold must be rebuilt from silver: empty its tables and lake.gold_progress."
      )
    }
    if (silver.removals.id !== gold.silverRemoval) {
      yield* GoldRemoval.follow({ sql, connection, gold, silver, live })
      return "advanced" satisfies Outcome
    }
    const from = Progress.resume(gold.progress, silver.progress)
    const ranges = Position.planRanges(from, end, settings.batchRowsMax)
    const waiting = Position.lag(from, end)
    yield* StageMetrics.found("gold", waiting)
    if (ranges.length === 0) return "idle" satisfies Outcome
    const dear = waiting > BigInt(settings.batchRowsMax) * behindMax ? live.models.filter(({ plan }) => plan.kind === "recompute") : []
    for (const { checked, hash } of dear) {
      aside.add(hash)
      yield* LiveModels.end(sql, checked.model.name)
    }
    if (dear.length > 0) {
      const models = dear.map(({ checked }) => checked.model.name).join(", ")
      yield* Effect.logWarning("gold is far behind silver: models that are computed anew are left to the batch").pipe(Effect.annotateLogs({ models, waiting }))
      return "advanced" satisfies Outcome
    }
    const rows = yield* SnapshotSource.range(telemetryClean, silver.metadata, from, ranges)
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${batchTable} AS ${batchOf(rows, live.models)}`)
    const counts = yield* countRanges(connection, batchTable, ranges)
    const below = Progress.covered(yield* Progress.advance(gold.progress, counts))
    const models = yield* Effect.forEach(live.models, (model) => LiveRows.prepare({ connection, sql }, model, batchTable, { silver, below }, gold))
    const batch: Batch = { ranges: counts, latest: yield* LatestValues.reduce(connection, batchTable), models }
    yield* merge(sql, batch, silver, { gold, live: live.states })
    yield* StageMetrics.counted("gold", counts, waiting)
    return "advanced" satisfies Outcome
  }).pipe(
    Effect.scoped,
    // It is begun anew without the model.
    Effect.catchTag("LiveModelFailed", ({ hash, model, reason }) => {
      aside.add(hash)
      return Effect.as(LiveModels.setAside(sql, model, reason), "advanced" as const)
    }),
    stopOnBreach("gold", "Nothing was merged. Run `voltlake verify` to see what differs."),
    Effect.withSpan("Gold.step")
  )

  return makeStage("gold", step, wakeups.of(qualifiedName(telemetryClean)), Ref.get(held))
})
