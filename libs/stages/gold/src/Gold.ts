/**
 * The gold stage, live: silver's new rows move the minute metrics and the latest values in PostgreSQL, in one transaction with gold's position.
 *
 * Cost is proportional to the new rows: they are reduced to partial aggregates in the engine, and partials are merged by key. The transaction
 * first locks the position and compares it with where its range starts, so of two gold processes that read the same rows one merges.
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
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { make as makeStage, type Outcome, StageStopped, stopOnBreach } from "@voltlake/stage-runner/Stage"
import * as StageMetrics from "@voltlake/stage-runner/StageMetrics"
import * as GoldProgress from "./GoldProgress.ts"
import * as PartialsSql from "./PartialsSql.ts"

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

const batchTable = "gold_batch"
const minutesTable = "gold_minutes"

const columns = ["vehicle_id", "event_ts", "topic", "\"partition\"", "\"offset\"", ...signals.map((signal) => signal.name)].join(", ")

interface Partials {
  readonly ranges: ReadonlyArray<Progress.RangeCounts>
  readonly vehicleMinutes: ReadonlyArray<string>
  readonly fleetMinutes: ReadonlyArray<string>
  readonly latest: ReadonlyArray<string>
}

const texts = (connection: Connection, query: string) =>
  Effect.map(connection.rows(query), (rows) => rows.map((row) => String(row["texts"])))

const reduce = Effect.fnUntraced(function*(
  connection: Connection,
  silverRows: string,
  ranges: ReadonlyArray<Position.OffsetRange>
) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${batchTable} AS SELECT ${columns} FROM ${silverRows}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${minutesTable} AS ${PartialsSql.minutes(batchTable)}`)
  const counts = yield* connection.rows(`SELECT topic, "partition", count(*) AS rows FROM ${batchTable} GROUP BY ALL`)
  const partials: Partials = {
    ranges: ranges.map((range) => {
      const row = counts.find((one) => one["topic"] === range.topic && one["partition"] === range.partition)
      const rows = BigInt((row?.["rows"] ?? 0n) as bigint)
      return { ...range, rows, skipped: range.end - range.start - rows, lost: 0n, rejected: 0n, duplicates: 0n }
    }),
    vehicleMinutes: yield* texts(connection, PartialsSql.vehicleMinutes(minutesTable)),
    fleetMinutes: yield* texts(connection, PartialsSql.fleetMinutes(minutesTable)),
    latest: yield* texts(connection, PartialsSql.latest(batchTable))
  }
  return partials
})

/** Gold has as many events as silver has rows, per partition: exactly where it has caught up, never more before. */
export const checkAgainstSilver = (
  gold: Progress.Progress,
  silver: Progress.Progress
): Either.Either<void, Progress.EquationBreach> => {
  for (const [key, upstream] of silver) {
    const own = gold.get(key)
    if (own === undefined) continue
    if (own.rows > upstream.rows || (own.position === upstream.position && own.rows !== upstream.rows)) {
      return Either.left(
        new Progress.EquationBreach({
          subject: `gold, ${key}`,
          equation: "events = rows of silver.telemetry_clean",
          expected: upstream.rows,
          actual: own.rows
        })
      )
    }
  }
  return Either.right(undefined)
}

/** Another process began gold anew while this one read silver as it was before. Nothing was merged. */
export class SilverRewound extends Schema.TaggedError<SilverRewound>()("SilverRewound", { silverEpoch: Schema.Number }) {
  override get message() {
    return `silver was rewound, and gold begun anew for its epoch ${this.silverEpoch}`
  }
}

/**
 * Empties gold, to be filled again from silver's beginning: its aggregates cannot be taken back row by row. Until it has caught up, whoever asks sees
 * what has been read so far.
 */
const rebuild = Effect.fnUntraced(function*(sql: PgClient.PgClient, silverEpoch: number) {
  yield* Effect.logWarning("silver was rewound: gold is filled again from its beginning").pipe(Effect.annotateLogs({ silverEpoch }))
  yield* transaction(Effect.gen(function*() {
    const now = yield* GoldProgress.lock(sql)
    if (now.silverEpoch >= silverEpoch) return
    yield* sql`TRUNCATE gold_vehicle_minute_metrics, gold_fleet_minute_metrics, vehicle_signal_latest`
    yield* GoldProgress.restart(sql, silverEpoch)
  }))
})

const stopFor = (reason: string, remedy: string) => new StageStopped({ stage: "gold", reason, remedy })

const merge = Effect.fnUntraced(function*(sql: PgClient.PgClient, partials: Partials, silver: Progress.Progress, silverEpoch: number) {
  yield* transaction(Effect.gen(function*() {
    const { progress, silverEpoch: now } = yield* GoldProgress.lock(sql)
    if (now !== silverEpoch) return yield* new SilverRewound({ silverEpoch: now })
    const next = yield* Progress.advance(progress, partials.ranges)
    yield* checkAgainstSilver(next, silver)
    for (const text of partials.vehicleMinutes) yield* sql.unsafe(PartialsSql.mergeVehicleMinutes, [text])
    for (const text of partials.fleetMinutes) yield* sql.unsafe(PartialsSql.mergeFleetMinutes, [text])
    for (const text of partials.latest) yield* sql.unsafe(PartialsSql.mergeLatest, [text])
    yield* GoldProgress.write(sql, next)
    yield* sql`SELECT pg_notify(${goldChannel}, '')`
  }))
})

/** Notified when gold has moved. */
export const goldChannel = "voltlake_gold"

const rewoundMessage = `${qualifiedName(telemetryClean)} was rewound: gold is filled again once silver has committed anew`

/** Builds the stage. Holds one engine connection for its scope. */
export const make = Effect.fn("Gold.make")(function*(settings: GoldSettings) {
  const engine = yield* QueryEngine
  const sql = yield* PgClient.PgClient
  const wakeups = yield* Wakeups
  const catalog = yield* Catalog
  const held = yield* Ref.make<ReadonlyArray<string>>([])
  const connection = yield* engine.connect
  yield* LakeTables.ensure(telemetryClean)

  const step = Effect.gen(function*() {
    const { progress, silverEpoch } = yield* GoldProgress.read(sql)
    const silver = yield* LakeTables.load(telemetryClean)
    // After silver: the commit that makes a rewound table current notes the epoch with it.
    const epoch = yield* catalog.epoch(LakeTables.identifier(telemetryClean))
    if (epoch > silverEpoch) {
      yield* rebuild(sql, epoch)
      return "advanced" satisfies Outcome
    }
    const end = Progress.position(silver.progress)
    const isAhead = !Position.reached(end, Progress.position(progress))
    const isRewound = isAhead && Position.reached((yield* LakeTables.headPositions)(telemetryClean), Progress.position(progress))
    yield* Ref.set(held, isRewound ? [rewoundMessage] : [])
    if (isRewound) return "idle" satisfies Outcome
    if (isAhead) {
      return yield* stopFor(
        "gold has read further than silver ever was: the database belongs to another lake",
        "Gold must be rebuilt from silver: empty its tables and lake.gold_progress."
      )
    }
    const from = Progress.resume(progress, silver.progress)
    const ranges = Position.planRanges(from, end, settings.batchRowsMax)
    const waiting = Position.lag(from, end)
    yield* StageMetrics.found("gold", waiting)
    if (ranges.length === 0) return "idle" satisfies Outcome
    const rows = yield* SnapshotSource.range(telemetryClean, silver.metadata, from, ranges)
    const partials = yield* reduce(connection, rows, ranges)
    yield* merge(sql, partials, silver.progress, silverEpoch)
    yield* StageMetrics.counted("gold", partials.ranges, waiting)
    return "advanced" satisfies Outcome
  }).pipe(
    Effect.scoped,
    stopOnBreach("gold", "Nothing was merged. Run `voltlake verify` to see what differs."),
    Effect.withSpan("Gold.step")
  )

  return makeStage("gold", step, wakeups.of(qualifiedName(telemetryClean)), Ref.get(held))
})
