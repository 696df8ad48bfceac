/**
 * The bronze stage: every record of the log becomes one row of `bronze.telemetry_raw`, byte for byte, exactly once.
 *
 * Reads the log from the table's own position. Rows and position become visible in one commit, so a process killed at any instruction goes on
 * from the last commit, and of two processes that read the same offsets one commits and the other abandons.
 */
import { Clock, Config, Duration, Effect, Either, Option, Ref } from "effect"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { type Assignment, EventLog, type Header, type PartitionBounds, type RecordBatch } from "@voltlake/event-log/EventLog"
import { Records } from "@voltlake/event-log/Records"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type AppendColumn, type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import { make as makeStage, type Outcome, StageStopped, stopOnBreach } from "@voltlake/stage-runner/Stage"
import * as StageMetrics from "@voltlake/stage-runner/StageMetrics"
import * as LogCheck from "./LogCheck.ts"

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
  /** Why the log gave nothing of some partitions, though it holds more. */
  readonly hindrances: ReadonlyArray<string>
}

interface Checked {
  readonly generation: number
  readonly atMs: number
  readonly difference: string | undefined
}

/** A log that was found to be another is looked at again: what was found may have passed. */
const recheckMs = 30_000

const heldBackMessage = (range: Position.OffsetRange): string =>
  `${Position.key(range)} is held back at offset ${range.start} by an open transaction (its log ends at ${range.end}): ` +
  "the producer must commit or abort it, or the broker will, once transaction.timeout.ms is over"

/** Where to go on in a partition, and how many offsets the log dropped before we got there. */
export const resumeAt = (
  progress: Progress.Progress,
  bounds: PartitionBounds
): { readonly start: bigint; readonly lost: bigint } => {
  const known = progress.get(Position.key(bounds))?.position
  if (known === undefined || known >= bounds.first) return { start: known ?? bounds.first, lost: 0n }
  return { start: known, lost: bounds.first - known }
}

/** A loss is a fact that no retry changes, found before anything is read. */
const checkLoss = Effect.fnUntraced(function*(progress: Progress.Progress, bounds: PartitionBounds, settings: BronzeSettings) {
  const { lost, start } = resumeAt(progress, bounds)
  if (lost === 0n || settings.acceptLoss) return
  return yield* new StageStopped({
    stage: "bronze",
    reason: `the log dropped ${lost} records of ${Position.key(bounds)} (offsets ${start} to ${start + lost}) before bronze read them`,
    remedy: "They cannot be had any more. Set BRONZE_ACCEPT_LOSS=true to go on and count them as lost."
  })
})

/**
 * Hands the records to the engine, and answers them as a relation with bronze's columns, in the table's order. What is the same in every row is said
 * once, in SQL; headers, which producers repeat, go through a small table of the distinct ones.
 */
const loadBatch = Effect.fnUntraced(function*(
  connection: Connection,
  topic: string,
  batches: ReadonlyArray<RecordBatch>,
  ingestedAtMs: number
) {
  const inOrder = [...batches].sort((a, b) => a.partition - b.partition)
  const records = Records.concat(inOrder.map((batch) => batch.records))
  const partitions = new Int32Array(records.length)
  let filled = 0
  for (const { partition, records: { length } } of inOrder) partitions.fill(partition, filled, filled += length)
  yield* connection.run(
    `CREATE OR REPLACE TEMP TABLE ${batchTable} ("partition" INTEGER, "offset" BIGINT, sent_ms DOUBLE, "key" BLOB, "value" BLOB, headers_id INTEGER)`
  )
  const columns = (headersId: (row: number) => number): ReadonlyArray<AppendColumn> => [
    { type: "integer", at: (row) => partitions[row]! },
    { type: "bigint", at: (row) => records.offset(row) },
    { type: "double", at: (row) => records.timestampMs(row) },
    { type: "blob", at: (row) => records.key(row) },
    { type: "blob", at: (row) => records.value(row) },
    { type: "integer", at: headersId }
  ]
  const relation = (headers: string, from: string) =>
    `(SELECT ${literal(topic)} AS topic, "partition", "offset", make_timestamp(sent_ms::BIGINT * 1000)::TIMESTAMPTZ AS "timestamp",
      "key", "value", ${headers} AS headers, make_timestamp(${BigInt(ingestedAtMs) * 1000n})::TIMESTAMPTZ AS ingested_at FROM ${from})`
  if (!records.hasHeaders) {
    yield* connection.append(batchTable, records.length, columns(() => 0))
    return relation(`[]::STRUCT("key" VARCHAR, "value" BLOB)[]`, batchTable)
  }
  const distinct = new Map<ReadonlyArray<Header>, number>()
  for (let row = 0; row < records.length; row++) {
    const own = records.headersOf(row)
    if (!distinct.has(own)) distinct.set(own, distinct.size)
  }
  const headers = [...distinct.keys()]
  yield* connection.run(
    `CREATE OR REPLACE TEMP TABLE ${headersTable} (headers_id INTEGER, headers STRUCT("key" VARCHAR, "value" BLOB)[])`
  )
  yield* connection.append(batchTable, records.length, columns((row) => distinct.get(records.headersOf(row))!))
  yield* connection.append(headersTable, headers.length, [
    { type: "integer", at: (row) => row },
    { type: "headers", at: (row) => headers[row]! }
  ])
  // A join does not keep the order.
  return relation("headers", `(FROM ${batchTable} JOIN ${headersTable} USING (headers_id) ORDER BY "partition", "offset")`)
})

const dayMs = 24 * 60 * 60 * 1000

/** The day that all records were sent on, where it is one. */
const soleDay = (batches: ReadonlyArray<RecordBatch>): number | undefined => {
  let first = Infinity
  let last = -Infinity
  for (const { records } of batches) {
    for (let at = 0; at < records.length; at++) {
      const timeMs = records.timestampMs(at)
      if (timeMs < first) first = timeMs
      if (timeMs > last) last = timeMs
    }
  }
  const day = Math.floor(first / dayMs)
  return day === Math.floor(last / dayMs) ? day : undefined
}

/** Last record of each batch, by which the log is known again. */
const anchorsOf = (log: string, batches: ReadonlyArray<RecordBatch>, name: string) =>
  Object.fromEntries(batches.flatMap(({ partition, records }) => {
    const last = records.at(-1)
    return last === undefined ? [] : [[Position.key({ topic: name, partition }), LogLineage.anchorOf(log, last)] as const]
  }))

type Table = Effect.Effect.Success<ReturnType<typeof LakeTables.load>>

/** Builds the stage. Holds one engine connection and a membership of the group that reads the topic for its scope. */
export const make = Effect.fn("Bronze.make")(function*(topic: string, settings: BronzeSettings) {
  const log = yield* EventLog
  const engine = yield* QueryEngine
  const connection = yield* engine.connect
  const { metadata } = yield* LakeTables.ensure(telemetryRaw)
  const reader = yield* log.open(topic, LogCheck.readerGroup("bronze", metadata.tableUuid))
  const committedAtMs = yield* Ref.make(Option.none<number>())
  const checked = yield* Ref.make<ReadonlyMap<string, Checked>>(new Map())
  const held = yield* Ref.make<ReadonlyArray<string>>([])

  /** A full batch goes at once; a small one waits until the commit interval is over. */
  const linger = Effect.fnUntraced(function*(waiting: bigint) {
    const last = yield* Ref.get(committedAtMs)
    if (Option.isNone(last) || waiting >= BigInt(settings.batchRowsMax)) return
    const dueMs = last.value + Duration.toMillis(settings.commitInterval)
    const nowMs = yield* Clock.currentTimeMillis
    if (dueMs > nowMs) yield* Effect.sleep(Duration.millis(dueMs - nowMs))
  })

  /** Checked when the partition is given to us, when its topic was adopted anew, and when the log is shorter than the position. */
  const check = Effect.fnUntraced(function*(known: LogCheck.Known, bounds: Assignment) {
    const key = Position.key({ topic: known.name, partition: bounds.partition })
    const before = (yield* Ref.get(checked)).get(key)
    const isShort = bounds.end < (known.progress.get(key)?.position ?? 0n)
    const atMs = yield* Clock.currentTimeMillis
    const isFresh = before?.generation === bounds.generation && (before.difference === undefined ? !isShort : atMs < before.atMs + recheckMs)
    if (isFresh) return before.difference
    const difference = yield* LogCheck.differenceOf(reader, bounds, known)
    if (difference !== undefined && difference !== before?.difference) yield* Effect.logError(LogCheck.replacedMessage(key, difference))
    yield* Ref.update(checked, (all) => new Map(all).set(key, { generation: bounds.generation, atMs, difference }))
    return difference
  })

  /** What the log holds of our partitions, where bronze may go on in them; named as rows name them. */
  const readable = Effect.fnUntraced(function*(known: LogCheck.Known) {
    const assigned = yield* reader.assigned
    const differences = yield* Effect.forEach(assigned, (bounds) => check(known, bounds))
    const sound = assigned.filter((_, at) => differences[at] === undefined).map((bounds) => ({ ...bounds, topic: known.name }))
    yield* Effect.forEach(sound, (bounds) => checkLoss(known.progress, bounds, settings), { discard: true })
    const replaced = assigned.flatMap(({ partition }, at) => {
      const difference = differences[at]
      return difference === undefined ? [] : [LogCheck.replacedMessage(Position.key({ topic: known.name, partition }), difference)]
    })
    return { sound, replaced }
  })

  const read = Effect.fnUntraced(function*(progress: Progress.Progress, bounds: ReadonlyArray<PartitionBounds>) {
    const resumed = bounds.map((partition) => ({ partition, ...resumeAt(progress, partition) }))
    const planned = Position.planRanges(
      Position.make(resumed.map(({ lost, partition, start }) => [partition, start + lost] as const)),
      Position.make(bounds.map((partition) => [partition, partition.end] as const)),
      settings.batchRowsMax
    )
    const bytesMax = Math.ceil(settings.batchBytesMax / Math.max(planned.length, 1))
    const answers = yield* Effect.forEach(
      planned,
      ({ end, partition, start }) => Effect.either(reader.read({ topic, partition }, start, { recordsMax: Number(end - start), bytesMax })),
      { concurrency: "unbounded" }
    )
    const batches = answers.flatMap((answer) => (Either.isRight(answer) ? [answer.right] : []))
    const faults = answers.flatMap((answer) => (Either.isLeft(answer) ? [answer.left] : []))
    // One partition's fault keeps none of the others waiting.
    if (batches.length === 0 && faults.length > 0) return yield* faults[0]!
    const ranges = resumed.map(({ lost, partition, start }): Progress.RangeCounts => {
      const batch = batches.find((one) => one.partition === partition.partition)
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
    const heldBack = planned.filter((range) => batches.some(({ end, partition }) => partition === range.partition && end === range.start))
    const result: Batch = {
      batches,
      ranges: ranges.filter((range) => range.end > range.start),
      hindrances: [...heldBack.map(heldBackMessage), ...faults.map((fault) => fault.message)]
    }
    return result
  })

  const commit = Effect.fnUntraced(function*(batch: Batch, table: Table, name: string) {
    const commitId = yield* Transaction.newCommitId
    const identity = yield* log.identity
    const rows = yield* loadBatch(connection, name, batch.batches, yield* Clock.currentTimeMillis)
    const files = yield* DayFiles.write(connection, rows, {
      contract: telemetryRaw,
      metadata: table.metadata,
      commitId,
      daysMax: settings.daysPerCommitMax,
      day: soleDay(batch.batches),
      rows: "sorted"
    })
    yield* Transaction.commit({
      commitId,
      changes: [{
        table: table.identifier,
        actions: [Action.append(files)],
        summary: (metadata) =>
          Either.gen(function*() {
            const progress = yield* Progress.advance(yield* LakeTables.progressOf(telemetryRaw, metadata), batch.ranges)
            const lineage = LogLineage.withAnchors(yield* LogLineage.of(metadata), anchorsOf(identity, batch.batches, name))
            return { ...LakeTables.progressSummary(progress), ...LogLineage.summary(lineage) }
          })
      }]
    })
    yield* reader.announce(Position.make(batch.ranges.map((range) => [{ topic, partition: range.partition }, range.end] as const)))
  })

  const step = Effect.gen(function*() {
    const table = yield* LakeTables.load(telemetryRaw)
    const lineage = yield* LogLineage.of(table.metadata)
    const known: LogCheck.Known = { name: LogLineage.nameOf(lineage, topic), progress: table.progress, lineage }
    const first = yield* readable(known)
    yield* Ref.set(held, first.replaced)
    const from = Position.make(first.sound.map((bounds) => [bounds, resumeAt(table.progress, bounds).start] as const))
    const ends = Position.make(first.sound.map((bounds) => [bounds, bounds.end] as const))
    const waiting = Position.lag(from, ends)
    yield* StageMetrics.found("bronze", waiting)
    if (waiting === 0n) return "idle" satisfies Outcome
    yield* linger(waiting)
    // Looked at again, for what came in the meantime, and for what the log may have dropped.
    const { replaced, sound } = yield* readable(known)
    const batch = yield* read(table.progress, sound)
    yield* Ref.set(held, [...replaced, ...batch.hindrances])
    if (batch.ranges.length === 0) return "idle" satisfies Outcome
    yield* commit(batch, table, known.name)
    yield* StageMetrics.counted("bronze", batch.ranges, waiting)
    yield* Ref.set(committedAtMs, Option.some(yield* Clock.currentTimeMillis))
    return "advanced" satisfies Outcome
  }).pipe(
    stopOnBreach("bronze", "Nothing was committed. Keep the data directory and report this as a bug."),
    Effect.withSpan("Bronze.step")
  )

  return makeStage("bronze", step, reader.arrivals, Ref.get(held))
})
