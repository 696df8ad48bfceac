/**
 * Reads a topic as a member of a Kafka consumer group. The group, which kafkajs's consumer takes part in, only says which partitions are ours; where
 * reading goes on says whoever reads, and the fetching is our own ({@link KafkaFetcher}): kafkajs moves by itself to the group's offsets after a
 * rebalance and to the log's end or start where an offset is gone, and makes several objects of every record. So its consumer stays paused for good.
 */
import { Chunk, Deferred, Duration, Effect, PubSub, Schedule, Stream } from "effect"
import type { Consumer, Kafka } from "kafkajs"
import type { TopicPartition } from "@voltlake/domain/Position"
import * as Position from "@voltlake/domain/Position"
import { EventLogError, type LogReader, OffsetOutOfRange, type PartitionBounds, type ReadLimits, UnknownTopicPartition } from "./EventLog.ts"
import { KafkaBuffer } from "./KafkaBuffer.ts"
import { call, disconnect, failed } from "./KafkaClient.ts"
import * as KafkaFetcher from "./KafkaFetcher.ts"

/** A member that says nothing for so long has lost its partitions to the others. */
const sessionTimeoutMs = 8_000
const heartbeatIntervalMs = 1_000
/** Partitions that were added are seen after this time at the latest. */
const metadataMaxAgeMs = 10_000
/** The consumer fetches nothing, and looks after its heartbeat this often. */
const idleWaitMs = 200
/** A read below the log's end that has no answer by then has none for now. */
const readLimit = Duration.seconds(2)
const announceEveryMs = 1_000
const hintsMax = 16

/** The shorter of the two: 0.2 s at first, 2 s in the end. */
const restart = Schedule.union(Schedule.exponential(Duration.millis(200)), Schedule.spaced(Duration.seconds(2)))

interface Options {
  readonly topic: string
  readonly group: string
  /** Bytes of records held for all partitions together, about. */
  readonly bufferBytesMax: number
  readonly bounds: Effect.Effect<ReadonlyArray<PartitionBounds>, EventLogError>
}

/** Joins the group for as long as the scope is open. A broker that is away is waited for; until then nothing is assigned. */
export const make = Effect.fn("KafkaReader.make")(function*(client: Kafka, options: Options) {
  const { bufferBytesMax, topic } = options
  /** A fetch is over: for reads that wait. */
  const looked = yield* PubSub.sliding<void>(hintsMax)
  /** There is more to read, or other partitions: for whoever steps. */
  const grown = yield* PubSub.sliding<void>(hintsMax)
  const hint = (hasGrown: boolean) => {
    looked.unsafeOffer(undefined)
    if (hasGrown) grown.unsafeOffer(undefined)
  }
  // Changed by kafkajs's callbacks and by reads, which take turns in one thread.
  let buffers: ReadonlyMap<number, KafkaBuffer> = new Map()
  let generation = 0
  let consumer: Consumer | undefined
  let lastFault: EventLogError | undefined
  let announcedAtMs = 0
  const isFull = (buffer: KafkaBuffer) => buffer.bytes >= bufferBytesMax / Math.max(buffers.size, 1)
  const fetcher = yield* KafkaFetcher.make(client, { topic, isFull, buffers: () => buffers, fetched: hint })

  const assign = (partitions: ReadonlyArray<number>) => {
    generation += 1
    buffers = new Map([...partitions].sort((a, b) => a - b).map((partition) =>
      [partition, new KafkaBuffer({ topic, partition }, generation)] as const))
    hint(true)
  }

  /** One consumer's life. Ends with what ended it. */
  const takePart = Effect.gen(function*() {
    const crashed = yield* Deferred.make<never, EventLogError>()
    const own = yield* Effect.acquireRelease(
      Effect.sync(() =>
        client.consumer({
          groupId: options.group,
          sessionTimeout: sessionTimeoutMs,
          rebalanceTimeout: sessionTimeoutMs,
          heartbeatInterval: heartbeatIntervalMs,
          metadataMaxAge: metadataMaxAgeMs,
          allowAutoTopicCreation: false,
          maxWaitTimeInMs: idleWaitMs,
          // Joining is tried again while others join and leave; a consumer that gives up leaves a member behind, whose session all others wait for.
          retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 20, restartOnFailure: () => Promise.resolve(false) }
        })
      ),
      (leaving) => Effect.zipRight(Effect.sync(() => assign([])), disconnect(leaving))
    )
    consumer = own
    own.on(own.events.GROUP_JOIN, ({ payload }) => {
      own.pause([{ topic }])
      assign(payload.memberAssignment[topic] ?? [])
    })
    own.on(own.events.REBALANCING, () => assign([]))
    own.on(own.events.CRASH, ({ payload }) => Deferred.unsafeDone(crashed, failed("join the group", topic)(payload.error)))
    yield* call("join the group", topic, async () => {
      await own.connect()
      await own.subscribe({ topics: [topic], fromBeginning: true })
      await own.run({ autoCommit: false, eachBatch: () => Promise.resolve() })
    })
    lastFault = undefined
    return yield* Deferred.await(crashed)
  }).pipe(Effect.scoped)

  yield* takePart.pipe(
    Effect.tapError((fault) =>
      Effect.zipRight(
        Effect.sync(() => {
          lastFault = fault
        }),
        Effect.logWarning("the consumer starts anew").pipe(Effect.annotateLogs({ topic, reason: fault.reason }))
      )),
    Effect.retry(restart),
    Effect.forkScoped
  )

  const assigned = Effect.suspend(() => (buffers.size > 0 ? Effect.void : lastFault ?? Effect.void)).pipe(
    Effect.zipRight(options.bounds),
    Effect.map((bounds) =>
      bounds.flatMap((one) => {
        const buffer = buffers.get(one.partition)
        return buffer === undefined ? [] : [{ ...one, generation: buffer.generation }]
      })
    )
  )

  /** Where the log ends. Fails where it does not hold the offset. */
  const checkRange = Effect.fnUntraced(function*({ partition }: TopicPartition, offset: bigint) {
    const found = (yield* options.bounds).find((one) => one.partition === partition)
    if (found === undefined) return yield* new UnknownTopicPartition({ topic, partition })
    const { end, first } = found
    if (offset < first || offset > end) return yield* new OffsetOutOfRange({ topic, partition, offset, first, end })
    return end
  })

  const passing = (reason: string) => new EventLogError({ operation: "read", topic, outcome: "NotApplied", retryable: true, reason })
  const notOurs = (partition: number) => passing(`partition ${partition} was given to another member of group ${options.group}`)
  const slow = (partition: number, offset: bigint) =>
    passing(`no broker has given offset ${offset} of partition ${partition} within ${Duration.toSeconds(readLimit)} s`)

  /** Waits for what fetches bring: enough for the limits or up to `end`, or the sight that there is no more for now. */
  const fill = (buffer: KafkaBuffer, end: bigint, limits: ReadLimits) =>
    Effect.scoped(Effect.gen(function*() {
      const hints = yield* PubSub.subscribe(looked)
      let mark = buffer.begun
      let seen = buffer.end
      while (buffer.end !== undefined && buffer.end < end) {
        if (!buffer.isEmpty && (isFull(buffer) || buffer.bytes >= limits.bytesMax || buffer.records >= limits.recordsMax)) return
        if (buffer.end !== seen) {
          seen = buffer.end
          mark = buffer.begun
          // A fetch that began after the mark is over, and brought nothing.
        } else if (buffer.over > mark) return
        yield* hints.take
      }
    })).pipe(Effect.timeoutOption(readLimit))

  const read: LogReader["read"] = Effect.fn("KafkaReader.read")(function*(tp, offset, limits) {
    const buffer = buffers.get(tp.partition)
    if (buffer === undefined) {
      yield* checkRange(tp, offset)
      return yield* notOurs(tp.partition)
    }
    if (!buffer.isAt(offset) || buffer.isEmpty) {
      const end = yield* checkRange(tp, offset)
      if (!buffer.isAt(offset)) {
        buffer.reset(offset)
        fetcher.wake()
      }
      if (end > offset) {
        yield* fill(buffer, end, limits)
        if (buffer.isEmpty && buffer.fault !== undefined) return yield* buffer.fault
        const isHeldBack = buffer.lastStable !== undefined && buffer.lastStable <= offset
        if (buffer.isEmpty) yield* checkRange(tp, offset)
        if (buffer.isEmpty && !isHeldBack) return yield* slow(tp.partition, offset)
      }
    } else yield* fill(buffer, buffer.logEnd, limits)
    if (buffers.get(tp.partition) !== buffer || !buffer.isAt(offset)) return yield* notOurs(tp.partition)
    const batch = buffer.take(limits)
    fetcher.wake()
    return batch
  })

  const announce = (position: Position.Position) =>
    Effect.clockWith((clock) =>
      Effect.map(clock.currentTimeMillis, (nowMs) => {
        if (consumer === undefined || nowMs < announcedAtMs + announceEveryMs) return
        announcedAtMs = nowMs
        const offsets = Array.from(position, ([key, offset]) => ({ topic, partition: Position.parseKey(key).partition, offset: String(offset) }))
        void consumer.commitOffsets(offsets).catch(() => undefined)
      })
    )

  const reader: LogReader = { assigned, read, announce, arrivals: Stream.prepend(Stream.fromPubSub(grown), Chunk.of(undefined)) }
  return reader
})
