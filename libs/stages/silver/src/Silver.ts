/**
 * The silver stage: bronze's new rows become checked, deduplicated rows of `silver.telemetry_clean`, or rows of `silver.telemetry_rejected`
 * with the rule that they broke and its cause. Both tables move in one commit, with one position.
 *
 * A duplicate is an event whose (vehicle_id, event_id) is in silver already. Within one batch the smallest (topic, partition, offset) stays.
 * Deduplication is part of the commit's requirement: a batch joins the silver that it was compared with. Where another process moved silver on, the
 * batch is compared with what came, and joins that; only one that holds a key of it is abandoned. So processes that work different partitions do not
 * hinder each other, and an event that comes in two of them is kept once.
 */
import { Config, Effect, Either, Schema, Stream } from "effect"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { decodeSql } from "@voltlake/domain/DecodeSql"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { Wakeups } from "@voltlake/connectors/Wakeups"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import { currentSnapshot, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine, type SqlValue } from "@voltlake/query-engine/QueryEngine"
import { make as makeStage, type Outcome, StageStopped, stopOnBreach } from "@voltlake/stage-runner/Stage"
import * as StageMetrics from "@voltlake/stage-runner/StageMetrics"
import * as KeyIndex from "./KeyIndex.ts"

export interface SilverSettings {
  readonly batchRowsMax: number
  readonly daysPerCommitMax: number
}

export const settingsConfig: Config.Config<SilverSettings> =
  Config.all({
    batchRowsMax: Config.integer("SILVER_BATCH_ROWS_MAX").pipe(
      Config.validate({ message: "must be from 1 to 1000000", validation: (n: number) => n >= 1 && n <= 1_000_000 }),
      Config.withDefault(60_000),
      Config.withDescription("Most bronze rows of one commit")
    ),
    daysPerCommitMax: Config.integer("SILVER_DAYS_PER_COMMIT_MAX").pipe(
      Config.validate({ message: "must be at least 1", validation: (n: number) => n >= 1 }),
      Config.withDefault(16),
      Config.withDescription("Most days that get a file of their own in one commit; rows of further days share one file")
    )
  })

/** Silver moved on since this batch was compared with it, and may hold events of it now. */
export class DeduplicationStale extends Schema.TaggedError<DeduplicationStale>()("DeduplicationStale", {}) {
  override get message() {
    return "silver moved on while this batch was checked; it is checked again"
  }
}

/** Rows were removed from bronze and silver since this batch was read: it may hold some of them. */
export class BronzeStale extends Schema.TaggedError<BronzeStale>()("BronzeStale", {}) {
  override get message() {
    return "rows were removed from bronze while this batch was worked on; it is read again"
  }
}

/** Which of bronze's partitions are this process's to work. Nothing but work done twice rests on it: the commit decides. */
export interface Share {
  /** Those of the given partitions (`Position.key`, sorted) that are ours now. */
  readonly of: (partitions: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>>
  /** Emits when the answer may be another. */
  readonly changes: Stream.Stream<unknown>
}

/** One process works all of them. */
export const whole: Share = { of: (partitions) => Effect.succeed(partitions), changes: Stream.empty }

const decodedTable = "silver_decoded"
const duplicatesTable = "silver_duplicate"

/** The rows to keep. Duplicates are few or none, so they are named and left out, rather than the others copied. */
const cleanRows = `(SELECT * FROM ${decodedTable} WHERE rule IS NULL AND rowid NOT IN (SELECT row_id FROM ${duplicatesTable}))`
const rejectedRows = `(SELECT *, current_timestamp AS rejected_at, 1 AS attempt FROM ${decodedTable} WHERE rule IS NOT NULL)`

/** Decodes the batch and finds its duplicates. The key index must be at the position of the table that the batch is to join. */
const check = Effect.fnUntraced(function*(connection: Connection, bronzeRows: string) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${decodedTable} AS ${decodeSql(bronzeRows)}`)
  // Most batches hold no two equal keys, and asking for them is far cheaper than ranking every row.
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${duplicatesTable} AS
    WITH repeated AS (
      SELECT dedup_key FROM ${decodedTable} WHERE rule IS NULL GROUP BY dedup_key HAVING count(*) > 1
    ), ranked AS (
      SELECT rowid AS row_id, row_number() OVER (PARTITION BY dedup_key ORDER BY topic, "partition", "offset") AS place
      FROM ${decodedTable} WHERE dedup_key IN (SELECT dedup_key FROM repeated)
    )
    SELECT row_id FROM ranked WHERE place > 1
    UNION
    SELECT rowid FROM ${decodedTable} AS d
    WHERE EXISTS (SELECT 1 FROM ${KeyIndex.keysTable} AS held WHERE held.dedup_key = d.dedup_key)`)
})

const long = (value: SqlValue | undefined) => BigInt(value as bigint)

const countRanges = Effect.fnUntraced(function*(connection: Connection, ranges: ReadonlyArray<Position.OffsetRange>) {
  const rows = yield* connection.rows(`
    SELECT topic, "partition", count(*) AS read, count(rule) AS rejected, count(row_id) AS duplicates
    FROM ${decodedTable} LEFT JOIN ${duplicatesTable} ON row_id = ${decodedTable}.rowid
    GROUP BY topic, "partition"`)
  return ranges.map((range): Progress.RangeCounts => {
    const row = rows.find((one) => one["topic"] === range.topic && one["partition"] === range.partition)
    const read = row === undefined ? 0n : long(row["read"])
    const rejected = row === undefined ? 0n : long(row["rejected"])
    const duplicates = row === undefined ? 0n : long(row["duplicates"])
    return {
      ...range,
      rows: read - rejected - duplicates,
      rejected,
      duplicates,
      skipped: range.end - range.start - read,
      lost: 0n
    }
  })
})

/** Bronze's counters, and how many of its rows were removed (undefined: nobody knows). */
export type Upstream = Pick<LakeTables.Loaded, "progress" | "removed">

/**
 * Silver's offsets without a bronze row must be those that bronze itself counted as skipped or lost: never more, and exactly those where silver has
 * caught up. Otherwise bronze rows are missing. What bronze lost when it was rolled back silver may have read before, and rows that were removed from
 * bronze it may not have read.
 */
export const checkAgainstBronze = (silver: Progress.Progress, bronze: Upstream): Either.Either<void, Progress.EquationBreach> => {
  for (const [key, upstream] of bronze.progress) {
    const own = silver.get(key)
    // Bronze that was rewound catches up with silver first.
    if (own === undefined || own.position > upstream.position) continue
    const expected = upstream.skipped + upstream.lost
    const isTooMany = bronze.removed !== undefined && own.skipped > expected + (bronze.removed.get(key) ?? 0n)
    if (isTooMany || (own.position === upstream.position && own.skipped < upstream.skipped)) {
      return Either.left(
        new Progress.EquationBreach({
          subject: `silver, ${key}`,
          equation: "offsets without a bronze row = skipped + lost of bronze",
          expected,
          actual: own.skipped
        })
      )
    }
  }
  return Either.right(undefined)
}

const stopFor = (reason: string, remedy: string) => new StageStopped({ stage: "silver", reason, remedy })

/** Both tables at one position. They are loaded one after the other, so a commit of another process may come in between: then again. */
const loadAligned = Effect.fnUntraced(function*() {
  while (true) {
    const clean = yield* LakeTables.load(telemetryClean)
    const rejected = yield* LakeTables.load(telemetryRejected)
    if (Progress.encode(clean.progress) === Progress.encode(rejected.progress)) return { clean, rejected }
    const again = yield* LakeTables.load(telemetryClean)
    if (again.metadataLocation === clean.metadataLocation) {
      return yield* stopFor(
        `${qualifiedName(telemetryClean)} and ${qualifiedName(telemetryRejected)} are at different positions: one of them was changed alone`,
        "Roll both back to snapshots with the same voltlake.commit-id."
      )
    }
  }
})

/** How often others may be faster before a batch is read again. */
const triesMax = 20

/**
 * Builds the stage. `keyIndexPaths` are the DuckDB files that may hold the key index: the first that no other process has open is ours, and made
 * where missing. Holds one engine connection for its scope.
 */
export const make = Effect.fn("Silver.make")(function*(
  keyIndexPaths: KeyIndex.Paths,
  settings: SilverSettings,
  share: Share = whole
) {
  const engine = yield* QueryEngine
  const wakeups = yield* Wakeups
  const connection = yield* engine.connect
  yield* LakeTables.ensure(telemetryRaw)
  yield* LakeTables.ensure(telemetryClean)
  yield* LakeTables.ensure(telemetryRejected)
  yield* KeyIndex.open(connection, keyIndexPaths)

  /** What is written of a batch and not visible yet, and how its offsets count. */
  interface Checked {
    readonly counts: ReadonlyArray<Progress.RangeCounts>
    /** Of the batch's own partitions. */
    readonly bronze: Upstream
    /** Of the snapshot in which they were read. */
    readonly bronzeSequence: bigint
    readonly commitId: string
    readonly cleanFiles: ReadonlyArray<DataFile>
    readonly rejectedFiles: ReadonlyArray<DataFile>
  }

  const commit = (batch: Checked, base: Position.Position) => {
    const change = (contract: TableContract, files: ReadonlyArray<DataFile>) => ({
      table: LakeTables.identifier(contract),
      actions: [Action.append(files)],
      summary: (metadata: TableMetadata) =>
        Either.gen(function*() {
          const progress = yield* LakeTables.progressOf(contract, metadata)
          const next = yield* Progress.advance(progress, batch.counts)
          if (!Position.equals(Progress.position(progress), base)) return yield* Either.left(new DeduplicationStale())
          if (LakeTables.bronzeSequenceOf(metadata) > batch.bronzeSequence) return yield* Either.left(new BronzeStale())
          yield* checkAgainstBronze(next, batch.bronze)
          return LakeTables.progressSummary(next)
        })
    })
    return Transaction.commit({
      commitId: batch.commitId,
      changes: [change(telemetryClean, batch.cleanFiles), change(telemetryRejected, batch.rejectedFiles)]
    })
  }

  /**
   * Compares the batch with what silver got since, and names those of its rows that are copies now. Answers the silver that it may join, and how many
   * copies there were.
   */
  const compareAgain = Effect.fnUntraced(function*(base: Position.Position, compared: LakeTables.Loaded, stale: DeduplicationStale) {
    const { clean } = yield* loadAligned()
    const now = Progress.position(clean.progress)
    // Rewound, by whomever, or rows removed: what the batch was compared with is not all there.
    if (!Position.reached(now, base) || clean.removals.id !== compared.removals.id) return yield* stale
    const added = yield* KeyIndex.addSince(connection, clean, base, now)
    const [row] = yield* connection.rows(`SELECT count(*) AS n FROM ${cleanRows} WHERE dedup_key IN (SELECT dedup_key FROM ${added})`)
    const copies = long(row?.["n"])
    if (copies > 0n) {
      yield* connection.run(`INSERT INTO ${duplicatesTable}
        SELECT rowid FROM ${decodedTable} AS d WHERE rule IS NULL AND dedup_key IN (SELECT dedup_key FROM ${added})
          AND rowid NOT IN (SELECT row_id FROM ${duplicatesTable})`)
    }
    return { progress: clean.progress, copies }
  })

  /**
   * Commits, as often as others were faster: with the files it has, or with clean files written anew where others have committed events of the batch.
   * Answers the progress that silver has with the batch, and how its offsets count.
   */
  const commitAmongOthers = Effect.fnUntraced(function*<E, R>(
    first: Checked,
    compared: LakeTables.Loaded,
    writeClean: (attempt: number) => Effect.Effect<Pick<Checked, "counts" | "cleanFiles">, E, R>
  ) {
    let batch = first
    let { progress } = compared
    for (let tries = 1;; tries++) {
      const base = Progress.position(progress)
      const stale = yield* commit(batch, base).pipe(
        Effect.as(undefined),
        Effect.catchIf((error) => error instanceof DeduplicationStale && tries < triesMax, (error) => Effect.succeed(error as DeduplicationStale))
      )
      if (stale === undefined) return { progress: yield* Progress.advance(progress, batch.counts), counts: batch.counts }
      const again = yield* compareAgain(base, compared, stale)
      progress = again.progress
      if (again.copies > 0n) batch = { ...batch, ...(yield* writeClean(tries)) }
    }
  })

  const step = Effect.gen(function*() {
    const { clean, rejected } = yield* loadAligned()
    const bronze = yield* LakeTables.load(telemetryRaw)
    const from = Progress.resume(clean.progress, bronze.progress)
    const mine = new Set(yield* share.of([...bronze.progress.keys()].sort()))
    const ends = new Map(Array.from(Progress.position(bronze.progress)).filter(([key]) => mine.has(key)))
    const ranges = Position.planRanges(from, ends, settings.batchRowsMax)
    const waiting = Position.lag(from, ends)
    yield* StageMetrics.found("silver", waiting)
    if (ranges.length === 0) return "idle" satisfies Outcome

    yield* KeyIndex.catchUp(connection, clean, Progress.position(clean.progress))
    yield* check(connection, yield* SnapshotSource.range(telemetryRaw, bronze.metadata, from, ranges))
    const commitId = yield* Transaction.newCommitId
    const target = { commitId, daysMax: settings.daysPerCommitMax }
    const writeClean = Effect.fnUntraced(function*(attempt: number) {
      const counts = yield* countRanges(connection, ranges)
      yield* checkAgainstBronze(yield* Progress.advance(clean.progress, counts), bronze)
      // Every vehicle is in every batch, so sorting its one row group would spare no reader anything: that is for whoever merges files.
      const to = { ...target, contract: telemetryClean, metadata: clean.metadata, attempt, rows: "unsorted" } as const
      const cleanFiles = yield* DayFiles.write(connection, cleanRows, to)
      return { counts, cleanFiles }
    })
    const written = yield* writeClean(0)
    const hasRejects = written.counts.some((range) => range.rejected > 0n)
    const rejectedFiles = hasRejects
      ? yield* DayFiles.write(connection, rejectedRows, { ...target, contract: telemetryRejected, metadata: rejected.metadata })
      : []
    const own = new Set(ranges.map(Position.key))
    const bronzeSequence = currentSnapshot(bronze.metadata)?.sequenceNumber ?? 0n
    const ofBatch = new Map(Array.from(bronze.progress).filter(([key]) => own.has(key)))
    const batch = { ...written, commitId, rejectedFiles, bronze: { ...bronze, progress: ofBatch }, bronzeSequence }
    const joined = yield* commitAmongOthers(batch, clean, writeClean)
    yield* KeyIndex.add(connection, clean, cleanRows, Progress.position(joined.progress))
    yield* StageMetrics.counted("silver", joined.counts, waiting)
    return "advanced" satisfies Outcome
  }).pipe(
    Effect.scoped,
    stopOnBreach("silver", "Nothing was committed. Run `voltlake verify` to see which rows are missing."),
    Effect.withSpan("Silver.step")
  )

  return makeStage("silver", step, Stream.merge(wakeups.of(qualifiedName(telemetryRaw)), share.changes))
})
