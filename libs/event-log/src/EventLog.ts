/**
 * The port for the durable, partitioned log of records that the ingest stage writes and bronze reads.
 * Adapters: PostgresEventLog (embedded default), MemoryEventLog (tests); Kafka later.
 */
import { Context, type Effect, Schema, type Stream } from "effect"
import { Outcome } from "@voltlake/domain/Failure"
import type { OffsetRange, TopicPartition } from "@voltlake/domain/Position"

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
  readonly records: ReadonlyArray<LogRecord>
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

/**
 * Guarantees: offsets of a partition are dense and in commit order, so a reader that has seen offset n has seen all below; an acknowledged
 * append is durable; a record's bytes at an offset never change.
 * Not guaranteed: that a failed append left nothing (see `outcome`); atomicity over partitions is the adapter's own.
 */
export class EventLog extends Context.Tag("@voltlake/event-log/EventLog")<EventLog, {
  /** Creates the topic, or adds partitions to it; never removes any. */
  readonly ensureTopic: (topic: string, partitions: number) => Effect.Effect<void, EventLogError>
  readonly partitions: (topic: string) => Effect.Effect<ReadonlyArray<PartitionBounds>, EventLogError>
  /** Appends to several partitions and answers the range each of them got. Empty lists are allowed. */
  readonly append: (
    topic: string,
    records: ReadonlyMap<number, ReadonlyArray<NewRecord>>
  ) => Effect.Effect<ReadonlyArray<OffsetRange>, EventLogError | UnknownTopicPartition>
  /**
   * Reads from `offset`, at most about `limits` (at least one record where there is one). At the end of the log it answers an empty range.
   */
  readonly read: (
    tp: TopicPartition,
    offset: bigint,
    limits: { readonly recordsMax: number; readonly bytesMax: number }
  ) => Effect.Effect<RecordBatch, EventLogError | OffsetOutOfRange | UnknownTopicPartition>
  /** Emits whenever the topic may have grown; hints only: readers also poll. */
  readonly appended: (topic: string) => Stream.Stream<void, EventLogError>
  /** Drops what lies wholly below `offset` (retention). `first` afterwards is at most `offset`. */
  readonly trim: (tp: TopicPartition, offset: bigint) => Effect.Effect<void, EventLogError | UnknownTopicPartition>
}>() {}
