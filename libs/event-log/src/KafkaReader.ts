/**
 * Reads a topic as a member of a Kafka consumer group. The group says which partitions are ours; where reading goes on says whoever reads.
 *
 * kafkajs pushes what it fetches, {@link KafkaBuffer} holds it until it is asked for, and a partition whose buffer is full is paused. All partitions
 * are paused until they are asked for the first time, since kafkajs would begin at the group's offset.
 */
import { Deferred, Duration, Effect, PubSub, Schedule, Stream } from "effect"
import type { Batch, Consumer, Kafka, KafkaMessage } from "kafkajs"
import type { TopicPartition } from "@voltlake/domain/Position"
import * as Position from "@voltlake/domain/Position"
import {
  EventLogError, type Header, type LogReader, OffsetOutOfRange, type PartitionBounds, type ReadLimits, UnknownTopicPartition
} from "./EventLog.ts"
import { KafkaBuffer } from "./KafkaBuffer.ts"
import { call, failed } from "./KafkaClient.ts"
import { Records } from "./Records.ts"

/** A member that says nothing for so long has lost its partitions to the others. */
const sessionTimeoutMs = 8_000
const heartbeatIntervalMs = 1_000
/** Partitions that were added are seen after this time at the latest. */
const metadataMaxAgeMs = 10_000
/** How long a broker waits for records; a paused partition that is resumed waits as long at most for its first fetch. */
const fetchWaitMs = 100
const fetchBytesMax = 16 * 1024 * 1024
const fetchPartitionBytesMax = 2 * 1024 * 1024
/** A read below the log's end that has no answer by then has none for now. */
const readLimit = Duration.seconds(2)
const leaveLimit = Duration.seconds(4)
const announceEveryMs = 1_000
const hintsMax = 16

const restart = Schedule.intersect(Schedule.exponential(Duration.millis(200)), Schedule.spaced(Duration.seconds(5))).pipe(
  Schedule.delayed((delay) => Duration.min(delay, Duration.seconds(5)))
)

const noHeaders: ReadonlyArray<Header> = []

const bytesOf = (value: Buffer | string): Uint8Array => (typeof value === "string" ? Buffer.from(value) : value)

/** kafkajs gives the headers of one name as a list, at the place of the first. */
const headersOf = (headers: KafkaMessage["headers"]): ReadonlyArray<Header> => {
  if (headers === undefined) return noHeaders
  const names = Object.keys(headers)
  if (names.length === 0) return noHeaders
  return names.flatMap((key) => {
    const value = headers[key] ?? null
    const values = Array.isArray(value) ? value : [value]
    return values.map((one) => ({ key, value: one === null ? null : bytesOf(one) }))
  })
}

/** Copied at once, so that what kafkajs made of a fetch lives no longer than it. */
const recordsOf = (messages: ReadonlyArray<KafkaMessage>): Records => {
  const first = messages[0]
  if (first === undefined) return Records.empty
  const firstOffset = BigInt(first.offset)
  // Most fetches have no hole, and then no offset but two needs to be read.
  const isDense = BigInt(messages.at(-1)!.offset) - firstOffset === BigInt(messages.length - 1)
  return Records.of({
    count: messages.length,
    offset: isDense ? (at) => firstOffset + BigInt(at) : (at) => BigInt(messages[at]!.offset),
    timestampMs: (at) => Number(messages[at]!.timestamp),
    key: (at) => messages[at]!.key,
    value: (at) => messages[at]!.value,
    headers: (at) => headersOf(messages[at]!.headers)
  })
}

/** Of kafkajs's own, missing in its types: the offset that the fetch asked for. */
type Fetched = Batch & { readonly fetchedOffset: string }

interface Options {
  readonly topic: string
  readonly group: string
  /** Bytes of records held for all partitions together, about. */
  readonly bufferBytesMax: number
  readonly bounds: Effect.Effect<ReadonlyArray<PartitionBounds>, EventLogError>
}

/** One membership's state, changed by kafkajs's callbacks and by reads, which take turns in one thread. */
class Membership {
  buffers: ReadonlyMap<number, KafkaBuffer> = new Map()
  isJoined = false
  private generation = 0
  private active: ReadonlySet<number> = new Set()
  /** Per broker: fetches begun and ended, by which a read knows that the broker has nothing for it. */
  private readonly cycles = new Map<string, { begun: number; ended: number }>()
  /** Per partition: the fetches begun when it was last sought; none of an earlier one may fill a hole. */
  private readonly soughtAt = new Map<number, ReadonlyMap<string, number>>()

  constructor(
    private readonly consumer: Consumer,
    private readonly options: Options,
    private readonly hint: () => void
  ) {
    const { FETCH, FETCH_START, GROUP_JOIN, END_BATCH_PROCESS, REBALANCING } = consumer.events
    consumer.on(GROUP_JOIN, ({ payload }) => this.join(payload.memberAssignment[options.topic] ?? []))
    consumer.on(REBALANCING, () => this.join([]))
    consumer.on(FETCH_START, ({ payload }) => this.count(String(payload.nodeId), "begun"))
    consumer.on(FETCH, ({ payload }) => {
      // kafkajs tells the broker, its types do not say so.
      this.count(String((payload as { readonly nodeId?: number }).nodeId), "ended")
      hint()
    })
    consumer.on(END_BATCH_PROCESS, ({ payload }) => {
      if (payload.batchSize === 0) this.acceptFiltered(payload.partition, payload.firstOffset, payload.lastOffset)
    })
  }

  private count(node: string, what: "begun" | "ended") {
    const cycle = this.cycles.get(node) ?? { begun: 0, ended: 0 }
    cycle[what] += 1
    this.cycles.set(node, cycle)
  }

  private join(partitions: ReadonlyArray<number>) {
    const { topic } = this.options
    this.generation += 1
    this.isJoined = partitions.length > 0
    this.buffers = new Map([...partitions].sort((a, b) => a - b).map((partition) =>
      [partition, new KafkaBuffer({ topic, partition }, this.generation)] as const))
    this.active = new Set()
    this.consumer.pause([{ topic }])
    this.hint()
  }

  leave() {
    this.isJoined = false
    this.buffers = new Map()
    this.hint()
  }

  private get share(): number {
    return this.options.bufferBytesMax / Math.max(this.buffers.size, 1)
  }

  /** Fetches of those partitions that were asked for and have room. */
  private setActive() {
    const { topic } = this.options
    const wanted = Array.from(this.buffers).filter(([, buffer]) => buffer.end !== undefined && buffer.bytes < this.share).map(([partition]) => partition)
    if (wanted.length === this.active.size && wanted.every((partition) => this.active.has(partition))) return
    this.active = new Set(wanted)
    // kafkajs forgets that all others are paused when one is paused by name.
    this.consumer.pause([{ topic }])
    if (wanted.length > 0) this.consumer.resume([{ topic, partitions: wanted }])
  }

  seek(partition: number, buffer: KafkaBuffer, offset: bigint) {
    buffer.reset(offset)
    this.soughtAt.set(partition, new Map(Array.from(this.cycles, ([node, { begun }]) => [node, begun])))
    this.consumer.seek({ topic: this.options.topic, partition, offset: String(offset) })
    this.setActive()
  }

  taken() {
    this.setActive()
  }

  /** A fetch with records. Of one that began elsewhere nothing is kept. */
  accept(batch: Fetched) {
    const buffer = this.buffers.get(batch.partition)
    const wanted = buffer?.end
    if (buffer === undefined || wanted === undefined) return
    if (BigInt(batch.fetchedOffset) !== wanted) return this.consumer.seek({ topic: batch.topic, partition: batch.partition, offset: String(wanted) })
    buffer.add(BigInt(batch.lastOffset()) + 1n, recordsOf(batch.messages), false)
    this.setActive()
    this.hint()
  }

  /** Offsets that hold no record: of aborted transactions, markers, compacted ones. kafkajs tells of them by this event alone. */
  private acceptFiltered(partition: number, firstOffset: string | null, lastOffset: string) {
    const buffer = this.buffers.get(partition)
    const wanted = buffer?.end
    if (buffer === undefined || wanted === undefined) return
    // Without a first offset all of the fetch lay below what was wanted, and kafkajs goes on by one.
    const first = firstOffset === null ? BigInt(lastOffset) : BigInt(firstOffset)
    const isNext = first === wanted
    const begun = this.soughtAt.get(partition) ?? new Map<string, number>()
    const isOfThisSeek = Array.from(this.cycles).every(([node, cycle]) => cycle.begun > (begun.get(node) ?? 0))
    if (!isNext && (first < wanted || !isOfThisSeek)) {
      return this.consumer.seek({ topic: this.options.topic, partition, offset: String(wanted) })
    }
    buffer.add(BigInt(lastOffset) + 1n, Records.empty, !isNext)
    this.setActive()
    this.hint()
  }

  /** Answers whether every broker has ended a fetch that it began after this moment. */
  idleMark(): () => boolean {
    const marks = Array.from(this.cycles, ([node, { begun }]) => [node, begun] as const)
    return () => marks.every(([node, begun]) => (this.cycles.get(node)?.ended ?? 0) > begun)
  }
}

/** Joins the group for as long as the scope is open. A broker that is away is waited for; until then nothing is assigned. */
export const make = Effect.fn("KafkaReader.make")(function*(client: Kafka, options: Options) {
  const { topic } = options
  const grown = yield* PubSub.sliding<void>(hintsMax)
  let membership: Membership | undefined
  let consumer: Consumer | undefined
  let lastFault: EventLogError | undefined
  let announcedAtMs = 0

  const disconnect = (leaving: Consumer) =>
    Effect.promise(() => leaving.disconnect().catch(() => undefined)).pipe(Effect.interruptible, Effect.timeoutOption(leaveLimit))

  /** One consumer's life. Ends with what ended it. */
  const consume = Effect.gen(function*() {
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
          maxWaitTimeInMs: fetchWaitMs,
          maxBytes: fetchBytesMax,
          maxBytesPerPartition: fetchPartitionBytesMax,
          retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 3, restartOnFailure: () => Promise.resolve(false) }
        })
      ),
      (leaving) => Effect.zipRight(Effect.sync(() => membership?.leave()), disconnect(leaving))
    )
    consumer = own
    membership = new Membership(own, options, () => grown.unsafeOffer(undefined))
    const current = membership
    own.on(own.events.CRASH, ({ payload }) => Deferred.unsafeDone(crashed, failed("consume", topic, false)(payload.error)))
    yield* call("consume", topic, async () => {
      await own.connect()
      await own.subscribe({ topics: [topic], fromBeginning: true })
      await own.run({
        autoCommit: false,
        eachBatch: ({ batch }) => Promise.resolve(current.accept(batch as Fetched))
      })
    })
    lastFault = undefined
    return yield* Deferred.await(crashed)
  }).pipe(Effect.scoped)

  yield* consume.pipe(
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

  const assigned = Effect.suspend(() =>
    membership?.isJoined === true ? Effect.void : lastFault ?? Effect.void
  ).pipe(
    Effect.zipRight(options.bounds),
    Effect.map((bounds) =>
      bounds.flatMap((one) => {
        const buffer = membership?.buffers.get(one.partition)
        return buffer === undefined ? [] : [{ ...one, generation: buffer.generation }]
      })
    )
  )

  const boundsOf = ({ partition }: TopicPartition) =>
    Effect.flatMap(options.bounds, (all) => {
      const found = all.find((one) => one.partition === partition)
      return found === undefined ? new UnknownTopicPartition({ topic, partition }) : Effect.succeed(found)
    })

  /** Fails where the log does not hold the offset. */
  const checkRange = (tp: TopicPartition, offset: bigint) =>
    Effect.flatMap(boundsOf(tp), ({ end, first }) =>
      offset < first || offset > end
        ? new OffsetOutOfRange({ topic, partition: tp.partition, offset, first, end })
        : Effect.succeed({ first, end }))

  const notOurs = (partition: number) =>
    new EventLogError({
      operation: "read",
      topic,
      outcome: "NotApplied",
      retryable: true,
      reason: `partition ${partition} was given to another member of group ${options.group}`
    })

  /** Waits for what the partition's fetches bring: records up to the limit, or the sight that there are none for now. */
  const fill = (of: Membership, buffer: KafkaBuffer, end: bigint, limits: ReadLimits) =>
    Effect.scoped(Effect.gen(function*() {
      const hints = yield* PubSub.subscribe(grown)
      const start = buffer.end ?? 0n
      let isIdle = of.idleMark()
      let seen = start
      while (true) {
        const at = buffer.end
        const isEnough = buffer.bytes >= limits.bytesMax || at === undefined || at - start >= BigInt(limits.recordsMax)
        if (at === undefined || at >= end || (at > start && isEnough)) return
        if (at !== seen) {
          seen = at
          isIdle = of.idleMark()
        } else if (isIdle()) return
        yield* hints.take
      }
    })).pipe(Effect.timeoutOption(readLimit))

  const read: LogReader["read"] = Effect.fn("KafkaReader.read")(function*(tp, offset, limits) {
    const of = membership
    const buffer = of?.buffers.get(tp.partition)
    if (of === undefined || buffer === undefined) {
      yield* boundsOf(tp)
      return yield* notOurs(tp.partition)
    }
    let end: bigint | undefined
    if (!buffer.isAt(offset)) {
      end = (yield* checkRange(tp, offset)).end
      of.seek(tp.partition, buffer, offset)
    }
    if (buffer.isEmpty) {
      end ??= (yield* checkRange(tp, offset)).end
      yield* fill(of, buffer, end, limits)
    }
    if (buffer.isDoubtful || buffer.isEmpty) {
      yield* checkRange(tp, offset)
      buffer.confirm()
    }
    if (of.buffers.get(tp.partition) !== buffer || !buffer.isAt(offset)) return yield* notOurs(tp.partition)
    const batch = buffer.take(limits)
    of.taken()
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

  const reader: LogReader = { assigned, read, announce, arrivals: Stream.fromPubSub(grown) }
  return reader
})
