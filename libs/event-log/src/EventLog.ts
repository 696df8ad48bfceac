/**
 * The port for the durable, partitioned log of records that the ingest stage writes and bronze reads.
 * Adapters: KafkaEventLog (production), PostgresEventLog (embedded default), MemoryEventLog (tests).
 */
import { Context, type Effect, Schema, type Scope, type Stream } from "effect"
import { Outcome } from "@voltlake/domain/Failure"
import type { OffsetRange, Position, TopicPartition } from "@voltlake/domain/Position"
import type { Records } from "./Records.ts"

export interface Header {
  readonly key: string
  readonly value: Uint8Array | null
}

/** A record as it is handed in. `timestampMs` is the time of sending (Kafka's CreateTime), not the event's own time. */
export interface NewRecord {
  readonly timestampMs: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: ReadonlyArray<Header>
}

export interface LogRecord extends NewRecord {
  readonly offset: bigint
}

/** Records of one partition, in offset order, and the range `[start, end)` that reading them covers: offsets without a record are skipped ones. */
export interface RecordBatch extends OffsetRange {
  readonly records: Records
}

/** First offset still held and next offset to be written. */
export interface PartitionBounds extends TopicPartition {
  readonly first: bigint
  readonly end: bigint
}

export class EventLogError extends Schema.TaggedError<EventLogError>()("EventLogError", {
  operation: Schema.String,
  topic: Schema.String,
  outcome: Outcome,
  retryable: Schema.Boolean,
  reason: Schema.String
}) {
  override get message() {
    return `${this.operation} on topic ${this.topic} failed: ${this.reason}`
  }
}

/** The topic or partition does not exist. */
export class UnknownTopicPartition extends Schema.TaggedError<UnknownTopicPartition>()("UnknownTopicPartition", {
  topic: Schema.String,
  partition: Schema.Number
}) {
  override get message() {
    return `topic ${this.topic} has no partition ${this.partition}`
  }
}

/** Reading was asked to begin where the log no longer (or not yet) is. Never answered with other data. */
export class OffsetOutOfRange extends Schema.TaggedError<OffsetOutOfRange>()("OffsetOutOfRange", {
  topic: Schema.String,
  partition: Schema.Number,
  offset: Schema.BigIntFromSelf,
  first: Schema.BigIntFromSelf,
  end: Schema.BigIntFromSelf
}) {
  override get message() {
    return `offset ${this.offset} of ${this.topic}-${this.partition} is outside the log, which holds [${this.first}, ${this.end})`
  }
}

/** A partition that is a reader's to work. */
export interface Assignment extends PartitionBounds {
  /** Another number than before says that somebody else may have worked the partition in between. */
  readonly generation: number
}

export interface ReadLimits {
  readonly recordsMax: number
  readonly bytesMax: number
}

/**
 * Reads one topic, as a member of a group whose members share its partitions. The group only says who should work what: two members may think for
 * a while that a partition is theirs, so whoever reads must not rely on being alone.
 */
export interface LogReader {
  /** The partitions that are this reader's now. Empty while the group is being formed. */
  readonly assigned: Effect.Effect<ReadonlyArray<Assignment>, EventLogError>
  /**
   * Reads an assigned partition from `offset`, at most about `limits` (at least one record where there is one). At the end of the log it answers an
   * empty range; an empty range below the end says that the log holds back what comes (an open transaction).
   */
  readonly read: (
    tp: TopicPartition,
    offset: bigint,
    limits: ReadLimits
  ) => Effect.Effect<RecordBatch, EventLogError | OffsetOutOfRange | UnknownTopicPartition>
  /** Emits whenever there may be more to read, or other partitions; hints only: readers also poll. */
  readonly arrivals: Stream.Stream<void, EventLogError>
  /** Tells the log's own tools how far the group has come, where it has such. Nothing reads it back, and nothing rests on it. */
  readonly announce: (position: Position) => Effect.Effect<void>
}

/**
 * Guarantees: an offset is given to one record, and offsets are in commit order, so a reader that has seen offset n has seen all below; an
 * acknowledged append is durable; a record's bytes at an offset never change while the log is the same (see `identity`).
 * Not guaranteed: that every offset holds a record; that a failed append left nothing (see `outcome`); atomicity over partitions.
 */
export class EventLog extends Context.Tag("@voltlake/event-log/EventLog")<EventLog, {
  /** Names the log itself (a cluster, a database): another name, another log, whatever the topic is called. */
  readonly identity: Effect.Effect<string, EventLogError>
  /** Creates the topic, or adds partitions to it; never removes any. */
  readonly ensureTopic: (topic: string, partitions: number) => Effect.Effect<void, EventLogError>
  readonly partitions: (topic: string) => Effect.Effect<ReadonlyArray<PartitionBounds>, EventLogError>
  /**
   * Appends to several partitions and answers the range that each of them got. Empty lists are allowed. An append that is more than one request of the
   * log's may have records of others within its range.
   */
  readonly append: (
    topic: string,
    records: ReadonlyMap<number, ReadonlyArray<NewRecord>>
  ) => Effect.Effect<ReadonlyArray<OffsetRange>, EventLogError | UnknownTopicPartition>
  /** Joins the group that reads the topic, until the scope closes. */
  readonly open: (topic: string, group: string) => Effect.Effect<LogReader, EventLogError, Scope.Scope>
  /** For each partition an offset below which all records were sent before a time (milliseconds since 1970); its end where all were. */
  readonly olderThan: (topic: string, timestampMs: number) => Effect.Effect<ReadonlyArray<TopicPartition & { readonly offset: bigint }>, EventLogError>
  /** Drops what lies wholly below `offset` (retention). `first` afterwards is at most `offset`. */
  readonly trim: (tp: TopicPartition, offset: bigint) => Effect.Effect<void, EventLogError | UnknownTopicPartition>
}>() {}
