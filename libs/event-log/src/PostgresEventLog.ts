/**
 * The event log in PostgreSQL: the embedded default.
 *
 * An append is one statement, of one or several partitions, all or none. Records lie in segments of up to about {@link
 * segmentBytesTarget}. Its tables are those of {@link "./EventLogSchema.ts"}, whose migrations must have run.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Chunk, Effect, Either, Layer, PubSub, Stream } from "effect"
import type { OffsetRange, TopicPartition } from "@voltlake/domain/Position"
import { listen } from "@voltlake/postgres/Notifications"
import type { PostgresUrl } from "@voltlake/postgres/PostgresUrl"
import { faultOf } from "@voltlake/postgres/SqlFault"
import {
  EventLog,
  EventLogError,
  type LogRecord,
  type NewRecord,
  OffsetOutOfRange,
  type ReadLimits,
  UnknownTopicPartition
} from "./EventLog.ts"
import { appendSql, channel, readSql, unknownPartitionState } from "./EventLogSchema.ts"
import { Records } from "./Records.ts"
import * as RecordsBinary from "./RecordsBinary.ts"
import { soleReader } from "./SoleReader.ts"
import { topicFault } from "./Topic.ts"

export { migrations } from "./EventLogSchema.ts"

/** A segment is closed at this size; one record may make it larger. */
export const segmentBytesTarget = 4 * 1024 * 1024
/**
 * Of one append, and so of one record: PostgreSQL holds several copies of it, and reading makes a string of twice its
 * length.
 */
export const appendBytesMax = 128 * 1024 * 1024
/** Segments looked at by one read. */
const segmentsPerReadMax = 512
const hintsMax = 64

interface Segment {
  readonly partition: number
  readonly records: ReadonlyArray<NewRecord>
  readonly from: number
  readonly to: number
  readonly bytes: number
}

const segmentsOf = (partition: number, records: ReadonlyArray<NewRecord>): ReadonlyArray<Segment> => {
  const segments: Array<Segment> = []
  let from = 0
  let recordBytes = 0
  for (let at = 0; at < records.length; at++) {
    recordBytes += RecordsBinary.recordSize(records[at]!)
    if (recordBytes >= segmentBytesTarget || at === records.length - 1) {
      segments.push({ partition, records, from, to: at + 1, bytes: RecordsBinary.segmentSize(recordBytes) })
      from = at + 1
      recordBytes = 0
    }
  }
  return segments
}

const latest = ({ from, records, to }: Segment): number => {
  let max = records[from]!.timestampMs
  for (let at = from + 1; at < to; at++) if (records[at]!.timestampMs > max) max = records[at]!.timestampMs
  return max
}

const encode = (segments: ReadonlyArray<Segment>, bytes: number): Buffer => {
  const payload = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const { from, records, to } of segments) at = RecordsBinary.write(payload, at, records, from, to)
  return payload
}

const failed = (operation: string, topic: string) => (error: SqlError) => {
  const { outcome, reason, retryable } = faultOf(error)
  return new EventLogError({ operation, topic, outcome, retryable, reason })
}

/** As {@link failed}, where the server may have said that there is no such partition. */
const failedAt = (operation: string, topic: string) => (error: SqlError) => {
  const fault = faultOf(error)
  return fault.code === unknownPartitionState && error.cause instanceof Error
    ? new UnknownTopicPartition({ topic, partition: Number(error.cause.message) })
    : failed(operation, topic)(error)
}

const refused = (operation: string, topic: string, reason: string) =>
  new EventLogError({ operation, topic, outcome: "NotApplied", retryable: false, reason })

interface Bounds {
  readonly first_offset: bigint
  readonly next_offset: bigint
}

/** The partition's bounds on every row; at the end of the log, or outside it, one row without a segment. */
interface SegmentRow extends Bounds {
  readonly base_offset: bigint | null
  readonly record_count: number
  readonly payload: Uint8Array
}

interface Appended {
  readonly out_partition: number
  readonly out_start: bigint
  readonly out_end: bigint
}

const appendTo = (sql: SqlClient) =>
  Effect.fn("PostgresEventLog.append")(function*(
    topic: string,
    records: ReadonlyMap<number, ReadonlyArray<NewRecord>>
  ) {
    // In partition order, in which the server locks them: two appends never wait for each other in a circle.
    const segments = Array.from(records).sort(([a], [b]) => a - b).flatMap(([at, list]) => segmentsOf(at, list))
    if (segments.length === 0) return []
    const bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0)
    if (bytes > appendBytesMax) {
      return yield* refused("append", topic, `${bytes} bytes at once are more than ${appendBytesMax}`)
    }
    const rows = yield* Effect.mapError(
      sql.unsafe<Appended>(appendSql, [
        topic,
        segments.map((segment) => segment.partition),
        segments.map((segment) => segment.to - segment.from),
        segments.map(latest),
        segments.map((segment) => segment.bytes),
        encode(segments, bytes)
      ]),
      failedAt("append", topic)
    )
    return rows.map((row): OffsetRange => ({
      topic,
      partition: row.out_partition,
      start: row.out_start,
      end: row.out_end
    }))
  })

const readFrom = (sql: SqlClient) =>
  Effect.fn("PostgresEventLog.read")(function*(
    tp: TopicPartition,
    offset: bigint,
    limits: ReadLimits
  ) {
    const { partition, topic } = tp
    const wanted = Math.max(limits.recordsMax, 1)
    const rows = yield* Effect.mapError(
      sql.unsafe<SegmentRow>(readSql, [
        topic, partition, offset, offset + BigInt(wanted), Math.max(limits.bytesMax, 1), segmentsPerReadMax
      ]),
      failed("read", topic)
    )
    const bounds = rows[0]
    if (bounds === undefined) return yield* new UnknownTopicPartition({ topic, partition })
    const { first_offset: first, next_offset: end } = bounds
    if (offset < first || offset > end) return yield* new OffsetOutOfRange({ topic, partition, offset, first, end })
    const records: Array<LogRecord> = []
    for (const { base_offset: base, payload, record_count: count } of rows) {
      if (base === null) break
      const from = Number(offset > base ? offset - base : 0n)
      const to = Math.min(count, from + wanted - records.length)
      const result = RecordsBinary.read(payload, base, count, from, to, records)
      if (Either.isLeft(result)) {
        const where = `the segment of ${topic}-${partition} at offset ${base} is damaged`
        return yield* refused("read", topic, `${where}: ${result.left.reason}`)
      }
    }
    return { topic, partition, start: offset, end: offset + BigInt(records.length), records: Records.from(records) }
  })

/**
 * Tells of appends to any topic, for as long as the scope is open, over one connection. `undefined` stands for every
 * topic.
 */
const listenToAppends = Effect.gen(function*() {
  const grown = yield* PubSub.sliding<string | undefined>(hintsMax)
  yield* Effect.forkScoped(
    Stream.runForEach(listen(channel), (heard) =>
      PubSub.publish(grown, heard._tag === "Connected" ? undefined : heard.payload))
  )
  return (topic: string) =>
    Stream.unwrapScoped(Effect.map(PubSub.subscribe(grown), (queue) =>
      Stream.fromQueue(queue).pipe(
        Stream.filter((name) => name === undefined || name === topic),
        Stream.map(() => undefined),
        // The log may have grown before the subscription.
        Stream.prepend(Chunk.of(undefined))
      )))
})

const make = Effect.gen(function*() {
  const sql = yield* SqlClient
  const arrivals = yield* listenToAppends
  const partitions = Effect.fn("PostgresEventLog.partitions")(function*(topic: string) {
    const rows = yield* sql<Bounds & { readonly partition: number }>`
      select partition, first_offset, next_offset from log.partition where topic = ${topic} order by partition`.pipe(
      Effect.mapError(failed("partitions", topic))
    )
    return rows.map((row) => ({ topic, partition: row.partition, first: row.first_offset, end: row.next_offset }))
  })

  return EventLog.of({
    identity: sql<{ readonly id: string }>`select id from log.identity`.pipe(
      Effect.mapBoth({ onFailure: failed("identity", "of the embedded log"), onSuccess: (rows) => `embedded-${rows[0]!.id}` })
    ),
    append: appendTo(sql),
    partitions,
    open: (topic) => Effect.succeed(soleReader(readFrom(sql), partitions(topic), arrivals(topic))),
    ensureTopic: Effect.fn("PostgresEventLog.ensureTopic")(function*(topic: string, partitions: number) {
      const reason = topicFault(topic, partitions)
      if (reason !== undefined) return yield* refused("ensureTopic", topic, reason)
      yield* sql`
        insert into log.partition (topic, partition)
        select ${topic}, at from generate_series(0, ${partitions}::int - 1) at
        on conflict do nothing`.pipe(Effect.mapError(failed("ensureTopic", topic)))
    }),
    // Segments are dropped whole: one with a newer record in it stays.
    olderThan: Effect.fn("PostgresEventLog.olderThan")((topic: string, timestampMs: number) =>
      sql<{ readonly partition: number; readonly offset: string }>`
        select p.partition, coalesce(
          (select min(s.base_offset) from log.segment s
            where s.topic = p.topic and s.partition = p.partition and s.timestamp_max >= ${timestampMs}), p.next_offset)::text as "offset"
        from log.partition p where p.topic = ${topic} order by p.partition`.pipe(
          Effect.mapError(failed("olderThan", topic)),
          Effect.map((rows) => rows.map(({ offset, partition }) => ({ topic, partition, offset: BigInt(offset) })))
        )
    ),
    trim: Effect.fn("PostgresEventLog.trim")(({ partition, topic }: TopicPartition, offset: bigint) =>
      sql`select log.trim(${topic}, ${partition}, ${offset})`.pipe(
        Effect.mapError(failedAt("trim", topic)),
        Effect.asVoid
      )
    )
  })
})

export const layer: Layer.Layer<EventLog, never, SqlClient | PostgresUrl> = Layer.scoped(EventLog, make)
