/**
 * The bronze stage: every record of the log becomes one row of `bronze.telemetry_raw`, byte for byte, exactly once.
 *
 * Reads the log from the table's own position. Rows and position become visible in one commit, so a process killed at any instruction goes on
 * from the last commit, and of two processes that read the same offsets one commits and the other abandons.
 */
import { Clock, Config, Duration, Effect, Either, Option, Ref } from "effect"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog, type Header, type PartitionBounds, type RecordBatch } from "@voltlake/event-log/EventLog"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import { make as makeStage, type Outcome, StageStopped, stopOnBreach } from "@voltlake/stage-runner/Stage"

export interface BronzeSettings {
  /** A commit waits this long for more records, unless a batch is full. */
  readonly commitInterval: Duration.Duration
  readonly batchRowsMax: number
  readonly batchBytesMax: number
  readonly daysPerCommitMax: number
  /** Whether to go on where the log has dropped records before they were read, counting them as lost. */
  readonly acceptLoss: boolean
}

export const settingsConfig: Config.Config<BronzeSettings> =
  Config.all({
    commitInterval: Config.duration("BRONZE_COMMIT_INTERVAL").pipe(
      Config.withDefault(Duration.millis(500)),
      Config.withDescription("How long a commit waits for more records, unless a batch is full")
    ),
    batchRowsMax: Config.integer("BRONZE_BATCH_ROWS_MAX").pipe(
      Config.validate({ message: "must be from 1 to 1000000", validation: (n: number) => n >= 1 && n <= 1_000_000 }),
      Config.withDefault(30_000),
      Config.withDescription("Most rows of one commit")
    ),
    batchBytesMax: Config.integer("BRONZE_BATCH_BYTES_MAX").pipe(
      Config.validate({ message: "must be at least 1048576", validation: (n: number) => n >= 1_048_576 }),
      Config.withDefault(16 * 1024 * 1024),
      Config.withDescription("About how many bytes of records one commit may hold")
    ),
    daysPerCommitMax: Config.integer("BRONZE_DAYS_PER_COMMIT_MAX").pipe(
      Config.validate({ message: "must be at least 1", validation: (n: number) => n >= 1 }),
      Config.withDefault(16),
      Config.withDescription("Most days that get a file of their own in one commit; rows of further days share one file")
    ),
    acceptLoss: Config.boolean("BRONZE_ACCEPT_LOSS").pipe(
      Config.withDefault(false),
      Config.withDescription("Go on where the log dropped records before they were read, and count them as lost")
    )
  })

const batchTable = "bronze_batch"
const headersTable = "bronze_headers"

interface Batch {
  readonly ranges: ReadonlyArray<Progress.RangeCounts>
  readonly batches: ReadonlyArray<RecordBatch>
}

/** Where to go on in a partition, and how many offsets the log dropped before we got there. */
export const resumeAt = (
  progress: Progress.Progress,
  bounds: PartitionBounds
): { readonly start: bigint; readonly lost: bigint } => {
  const known = progress.get(Position.key(bounds))?.position
  if (known === undefined || known >= bounds.first) return { start: known ?? bounds.first, lost: 0n }
  return { start: known, lost: bounds.first - known }
}

const stopFor = (reason: string, remedy: string) => new StageStopped({ stage: "bronze", reason, remedy })

/** Facts that no retry changes, found before anything is read. */
const checkBounds = Effect.fnUntraced(function*(progress: Progress.Progress, bounds: PartitionBounds, settings: BronzeSettings) {
  const { lost, start } = resumeAt(progress, bounds)
  const partition = Position.key(bounds)
  if (start > bounds.end) {
    return yield* stopFor(
      `${partition} ends at offset ${bounds.end}, but bronze has read up to ${start}: the topic was recreated, truncated or is another log's`,
      "Point KAFKA_TOPIC and the database at the log that filled this table, or give the new log a new data directory."
    )
  }
  if (lost > 0n && !settings.acceptLoss) {
    return yield* stopFor(
      `the log dropped ${lost} records of ${partition} (offsets ${start} to ${start + lost}) before bronze read them`,
      "They cannot be had any more. Set BRONZE_ACCEPT_LOSS=true to go on and count them as lost."
    )
  }
})

/**
 * Hands the records to the engine, and answers them as a relation with bronze's columns. What is the same in every row is said once, in SQL;
 * headers, which producers repeat, go through a small table of the distinct ones.
 */
const loadBatch = Effect.fnUntraced(function*(
  connection: Connection,
  topic: string,
  batches: ReadonlyArray<RecordBatch>,
  ingestedAtMs: number
) {
  const records = batches.flatMap((batch) => batch.records)
  const partitions = batches.flatMap((batch) => new Array<number>(batch.records.length).fill(batch.partition))
  const distinct = new Map<ReadonlyArray<Header>, number>()
  for (const { headers } of records) if (!distinct.has(headers)) distinct.set(headers, distinct.size)
  const headers = [...distinct.keys()]
  yield* connection.run(`
    CREATE OR REPLACE TEMP TABLE ${batchTable} ("partition" INTEGER, "offset" BIGINT, sent_ms DOUBLE, "key" BLOB, "value" BLOB, headers_id INTEGER);
    CREATE OR REPLACE TEMP TABLE ${headersTable} (headers_id INTEGER, headers STRUCT("key" VARCHAR, "value" BLOB)[]);`)
  yield* connection.append(batchTable, records.length, [
    { type: "integer", at: (row) => partitions[row]! },
    { type: "bigint", at: (row) => records[row]!.offset },
    { type: "double", at: (row) => records[row]!.timestampMs },
    { type: "blob", at: (row) => records[row]!.key },
    { type: "blob", at: (row) => records[row]!.value },
    { type: "integer", at: (row) => distinct.get(records[row]!.headers)! }
  ])
  yield* connection.append(headersTable, headers.length, [
    { type: "integer", at: (row) => row },
    { type: "headers", at: (row) => headers[row]! }
  ])
  return `(SELECT ${literal(topic)} AS topic, "partition", "offset", make_timestamp(sent_ms::BIGINT * 1000)::TIMESTAMPTZ AS "timestamp",
    "key", "value", headers, make_timestamp(${BigInt(ingestedAtMs) * 1000n})::TIMESTAMPTZ AS ingested_at
    FROM ${batchTable} JOIN ${headersTable} USING (headers_id))`
})

/** Builds the stage. Holds one engine connection for its scope. */
export const make = Effect.fn("Bronze.make")(function*(topic: string, settings: BronzeSettings) {
  const log = yield* EventLog
  const engine = yield* QueryEngine
  const connection = yield* engine.connect
  yield* LakeTables.ensure(telemetryRaw)
  const committedAtMs = yield* Ref.make(Option.none<number>())

  /** A full batch goes at once; a small one waits until the commit interval is over. */
  const linger = Effect.fnUntraced(function*(waiting: bigint) {
    const last = yield* Ref.get(committedAtMs)
    if (Option.isNone(last) || waiting >= BigInt(settings.batchRowsMax)) return
    const dueMs = last.value + Duration.toMillis(settings.commitInterval)
    const nowMs = yield* Clock.currentTimeMillis
    if (dueMs > nowMs) yield* Effect.sleep(Duration.millis(dueMs - nowMs))
  })

  const read = Effect.fnUntraced(function*(progress: Progress.Progress, bounds: ReadonlyArray<PartitionBounds>) {
    const resumed = bounds.map((partition) => ({ partition, ...resumeAt(progress, partition) }))
    const planned = Position.planRanges(
      Position.make(resumed.map(({ lost, partition, start }) => [partition, start + lost] as const)),
      Position.make(bounds.map((partition) => [partition, partition.end] as const)),
      settings.batchRowsMax
    )
    const bytesMax = Math.ceil(settings.batchBytesMax / Math.max(planned.length, 1))
    const batches = yield* Effect.forEach(
      planned,
      (range) => log.read(range, range.start, { recordsMax: Number(range.end - range.start), bytesMax }),
      { concurrency: 4 }
    )
    const ranges = resumed.map(({ lost, partition, start }): Progress.RangeCounts => {
      const batch = batches.find((one) => Position.key(one) === Position.key(partition))
      const rows = BigInt(batch?.records.length ?? 0)
      const end = batch?.end ?? start + lost
      return {
        topic: partition.topic,
        partition: partition.partition,
        start,
        end,
        rows,
        skipped: end - start - lost - rows,
        lost,
        rejected: 0n,
        duplicates: 0n
      }
    })
    const result: Batch = { batches, ranges: ranges.filter((range) => range.end > range.start) }
    return result
  })

  const commit = Effect.fnUntraced(function*(batch: Batch, table: Effect.Effect.Success<ReturnType<typeof LakeTables.load>>) {
    const commitId = yield* Transaction.newCommitId
    const rows = yield* loadBatch(connection, topic, batch.batches, yield* Clock.currentTimeMillis)
    const files = yield* DayFiles.write(connection, rows, {
      contract: telemetryRaw,
      metadata: table.metadata,
      commitId,
      daysMax: settings.daysPerCommitMax
    })
    yield* Transaction.commit({
      commitId,
      changes: [{
        table: table.identifier,
        files,
        summary: (metadata) =>
          LakeTables.progressOf(telemetryRaw, metadata).pipe(
            Either.flatMap((progress) => Progress.advance(progress, batch.ranges)),
            Either.map(LakeTables.progressSummary)
          )
      }]
    })
  })

  /** What the log holds, where bronze may go on in it. */
  const checkedBounds = (progress: Progress.Progress) =>
    Effect.tap(log.partitions(topic), (partitions) =>
      Effect.forEach(partitions, (bounds) => checkBounds(progress, bounds, settings), { discard: true }))

  const step = Effect.gen(function*() {
    const table = yield* LakeTables.load(telemetryRaw)
    const first = yield* checkedBounds(table.progress)
    const from = Position.make(first.map((bounds) => [bounds, resumeAt(table.progress, bounds).start] as const))
    const ends = Position.make(first.map((bounds) => [bounds, bounds.end] as const))
    const waiting = Position.lag(from, ends)
    if (waiting === 0n) return "idle" satisfies Outcome
    yield* linger(waiting)
    // Looked at again, for what came in the meantime, and for what the log may have dropped.
    const batch = yield* read(table.progress, yield* checkedBounds(table.progress))
    if (batch.ranges.length === 0) return "idle" satisfies Outcome
    yield* commit(batch, table)
    yield* Ref.set(committedAtMs, Option.some(yield* Clock.currentTimeMillis))
    return "advanced" satisfies Outcome
  }).pipe(
    stopOnBreach("bronze", "Nothing was committed. Keep the data directory and report this as a bug."),
    Effect.withSpan("Bronze.step")
  )

  return makeStage("bronze", step, log.appended(topic))
})
