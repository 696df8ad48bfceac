/**
 * A log in this process's memory, for tests. It keeps the records as they were given: they must not be changed
 * afterwards.
 */
import { Chunk, Effect, Layer, PubSub, Random, Stream } from "effect"
import type { OffsetRange, TopicPartition } from "@voltlake/domain/Position"
import {
  EventLog,
  EventLogError,
  type LogRecord,
  type NewRecord,
  OffsetOutOfRange,
  type ReadLimits,
  UnknownTopicPartition
} from "./EventLog.ts"
import { Records } from "./Records.ts"
import { recordSize } from "./RecordsBinary.ts"
import { soleReader } from "./SoleReader.ts"
import { topicFault } from "./Topic.ts"

const hintsMax = 64

interface Partition {
  first: bigint
  records: ReadonlyArray<LogRecord>
}

/** A new log without topics. */
export const make = Effect.gen(function*() {
  const identity = `memory-${(yield* Random.nextInt).toString(36)}`
  const topics = new Map<string, Array<Partition>>()
  const grown = yield* PubSub.sliding<string>(hintsMax)

  const find = (tp: TopicPartition) => {
    const partition = topics.get(tp.topic)?.[tp.partition]
    return partition === undefined
      ? Effect.fail(new UnknownTopicPartition({ topic: tp.topic, partition: tp.partition }))
      : Effect.succeed(partition)
  }
  const endOf = (partition: Partition) => partition.first + BigInt(partition.records.length)

  const ensureTopic = Effect.fn("MemoryEventLog.ensureTopic")(function*(topic: string, partitions: number) {
    const reason = topicFault(topic, partitions)
    if (reason !== undefined) {
      const operation = "ensureTopic"
      return yield* new EventLogError({ operation, topic, outcome: "NotApplied", retryable: false, reason })
    }
    const held = topics.get(topic) ?? []
    while (held.length < partitions) held.push({ first: 0n, records: [] })
    topics.set(topic, held)
  })

  const append = Effect.fn("MemoryEventLog.append")(function*(
    topic: string,
    records: ReadonlyMap<number, ReadonlyArray<NewRecord>>
  ) {
    const filled = Array.from(records).filter(([, list]) => list.length > 0).sort(([a], [b]) => a - b)
    // All are looked up before the first is changed: several partitions are appended to or none.
    const found = yield* Effect.forEach(filled, ([partition, list]) =>
      Effect.map(find({ topic, partition }), (held) => ({ partition, list, held })))
    const ranges = found.map(({ held, list, partition }): OffsetRange => {
      const start = endOf(held)
      held.records = held.records.concat(list.map((record, at) => ({ ...record, offset: start + BigInt(at) })))
      return { topic, partition, start, end: endOf(held) }
    })
    if (ranges.length > 0) yield* PubSub.publish(grown, topic)
    return ranges
  })

  const read = Effect.fn("MemoryEventLog.read")(function*(
    tp: TopicPartition,
    offset: bigint,
    limits: ReadLimits
  ) {
    const held = yield* find(tp)
    const end = endOf(held)
    if (offset < held.first || offset > end) {
      return yield* new OffsetOutOfRange({ topic: tp.topic, partition: tp.partition, offset, first: held.first, end })
    }
    const from = Number(offset - held.first)
    let to = from
    for (let bytes = 0; to < held.records.length && to - from < Math.max(limits.recordsMax, 1); to++) {
      if (to > from && bytes >= limits.bytesMax) break
      bytes += recordSize(held.records[to]!)
    }
    const records = held.records.slice(from, to)
    return { topic: tp.topic, partition: tp.partition, start: offset, end: offset + BigInt(records.length), records: Records.from(records) }
  })

  const partitions = (topic: string) =>
    Effect.sync(() =>
      (topics.get(topic) ?? []).map((held, partition) => ({ topic, partition, first: held.first, end: endOf(held) }))
    )

  const arrivals = (topic: string) =>
    Stream.unwrapScoped(Effect.map(PubSub.subscribe(grown), (queue) =>
      Stream.fromQueue(queue).pipe(
        Stream.filter((name) => name === topic),
        Stream.map(() => undefined),
        // The log may have grown before the subscription.
        Stream.prepend(Chunk.of(undefined))
      )))

  return EventLog.of({
    identity: Effect.succeed(identity),
    ensureTopic,
    append,
    partitions,
    olderThan: (topic, timestampMs) =>
      Effect.sync(() =>
        (topics.get(topic) ?? []).map((held, partition) => {
          const newer = held.records.find((record) => record.timestampMs >= timestampMs)
          return { topic, partition, offset: newer?.offset ?? endOf(held) }
        })
      ),
    open: (topic) => Effect.succeed(soleReader(read, partitions(topic), arrivals(topic))),
    trim: Effect.fn("MemoryEventLog.trim")((tp: TopicPartition, offset: bigint) =>
      Effect.map(find(tp), (held) => {
        const first = offset > endOf(held) ? endOf(held) : offset
        if (first <= held.first) return
        held.records = held.records.slice(Number(first - held.first))
        held.first = first
      })
    )
  })
})

export const layer: Layer.Layer<EventLog> = Layer.effect(EventLog, make)
