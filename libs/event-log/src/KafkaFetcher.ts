/**
 * Fetches ahead for the partitions of a reader, from the broker that leads each of them: one request at a time to a broker, for all of its partitions
 * that were asked for and have room. Requests go over kafkajs's connections; what comes back is decoded here, into columns.
 */
import { Cause, Duration, Effect, Either, FiberMap, Queue } from "effect"
import type { Kafka } from "kafkajs"
import { EventLogError } from "./EventLog.ts"
import type { KafkaBuffer } from "./KafkaBuffer.ts"
import { call, disconnect } from "./KafkaClient.ts"
import * as KafkaFetch from "./KafkaFetch.ts"
import * as KafkaInternals from "./KafkaInternals.ts"
import * as KafkaRecordBatch from "./KafkaRecordBatch.ts"

/** How long a broker waits for records. One that is asked for meanwhile waits as long at most. */
const waitMs = 100
/** Limits of an answer, and of a partition's part of it; a larger batch comes whole. */
const bytesMax = 8 * 1024 * 1024
const partitionBytesMax = 1024 * 1024
/** Of a partition's part, decompressed. */
const decodedBytesMax = 4 * 1024 * 1024
const requestTimeoutMs = 10_000
/** Leaders are asked for again at least as often. */
const metadataMaxAgeMs = 10_000
/** With connecting; a safety net above kafkajs's own limits. */
const fetchLimit = Duration.seconds(30)
const retryAfter = Duration.millis(250)

const offsetOutOfRange = 1
/** Another broker leads the partition now, or nobody does yet. */
const staleLeader = new Set([3, 5, 6, 74, 75])

export interface FetcherOptions {
  readonly topic: string
  /** Whether a buffer takes no more for now. */
  readonly isFull: (buffer: KafkaBuffer) => boolean
  /** By partition; others replace them when the partitions are shared out anew. */
  readonly buffers: () => ReadonlyMap<number, KafkaBuffer>
  /** Called after every fetch, with whether it brought anything. */
  readonly fetched: (hasGrown: boolean) => void
}

export interface Fetcher {
  /** Says that a buffer has moved or has room. */
  readonly wake: () => void
}

/** Fetches until the scope closes. */
export const make = Effect.fn("KafkaFetcher.make")(function*(client: Kafka, { buffers, fetched, isFull, topic }: FetcherOptions) {
  const cluster = KafkaInternals.cluster(client, { metadataMaxAge: metadataMaxAgeMs, allowAutoTopicCreation: false })
  yield* Effect.addFinalizer(() => disconnect(cluster))
  const bells = new Map<number, Queue.Queue<void>>()
  const loops = yield* FiberMap.make<number>()
  const wake = () => {
    for (const bell of bells.values()) bell.unsafeOffer(undefined)
  }

  /** None where they are not known yet, which kafkajs says by throwing. */
  const leaders = (): ReadonlyMap<number, number> => {
    try {
      return new Map(cluster.findTopicPartitionMetadata(topic).map(({ leader, partitionId }) => [partitionId, leader] as const))
    } catch {
      return new Map()
    }
  }

  let turn = 0
  const wantedOf = (node: number) => {
    const led = leaders()
    const held = Array.from(buffers())
    // A broker fills its answer in the order that was asked: everybody is the first in turn.
    turn += 1
    const first = held.length === 0 ? 0 : turn % held.length
    return [...held.slice(first), ...held.slice(0, first)].flatMap(([partition, buffer]) => {
      const offset = buffer.end
      if (offset === undefined || buffer.isLost || isFull(buffer) || led.get(partition) !== node) return []
      buffer.begun += 1
      return [{ partition, offset, bytesMax: partitionBytesMax, buffer, number: buffer.begun }]
    })
  }
  type Wanted = ReturnType<typeof wantedOf>[number]

  const faulty = (reason: string) => new EventLogError({ operation: "read", topic, outcome: "NotApplied", retryable: true, reason })

  const accept = Effect.fnUntraced(function*({ buffer, number, offset, partition }: Wanted, found: KafkaFetch.FetchedPartition) {
    if (staleLeader.has(found.errorCode)) return yield* faulty(`the leader of partition ${partition} has changed (error ${found.errorCode})`)
    // Whoever reads finds out where the log is.
    if (found.errorCode === offsetOutOfRange && buffer.end === offset) buffer.isLost = true
    const nothing = found.errorCode === offsetOutOfRange || found.bytes.length === 0
    if (found.errorCode !== 0 && !nothing) return yield* faulty(`partition ${partition} answers error ${found.errorCode}`)
    const decoded = nothing ? undefined : yield* Effect.tryPromise({
      try: () => KafkaRecordBatch.decode(found.bytes, offset, found.aborted, decodedBytesMax),
      catch: (cause) => faulty(`partition ${partition}: what came from offset ${offset} on cannot be read: ${String(cause)}`)
    }).pipe(Effect.flatMap(Either.mapLeft((reason) => faulty(`partition ${partition}: ${reason}`))))
    if (found.errorCode === 0) {
      buffer.logEnd = found.highWatermark
      buffer.lastStable = found.lastStable
    }
    buffer.fault = undefined
    // The answer was full before its turn came.
    if (decoded === undefined && found.errorCode === 0 && found.lastStable > offset) return false
    const isUsed = decoded !== undefined && buffer.end === offset
    if (isUsed) buffer.add(decoded.end, decoded.records)
    buffer.over = number
    return isUsed
  })

  const fail = ({ buffer, number }: Wanted, error: EventLogError) =>
    Effect.sync(() => {
      buffer.fault = error
      buffer.over = number
    })

  /** Each partition has its own luck: what one of them answers keeps none of the others waiting. Fails with the first fault. */
  const fetchFrom = Effect.fnUntraced(function*(node: number, wanted: ReadonlyArray<Wanted>) {
    const answer = yield* call("read", topic, async () => {
      const broker = await cluster.findBroker({ nodeId: node })
      return await broker.connectionPool.send({
        request: KafkaFetch.request({ topic, waitMs, bytesMax, wanted }),
        response: KafkaFetch.response,
        requestTimeout: requestTimeoutMs
      })
    }).pipe(
      Effect.timeoutFail({ duration: fetchLimit, onTimeout: () => faulty(`broker ${node} does not answer`) }),
      Effect.filterOrFail(({ errorCode }) => errorCode === 0, ({ errorCode }) => faulty(`broker ${node} answers error ${errorCode}`)),
      Effect.tapError((error) =>
        Effect.zipRight(Effect.forEach(wanted, (one) => fail(one, error), { discard: true }), Effect.sync(() => fetched(false))))
    )
    const outcomes = yield* Effect.forEach(wanted, (one) => {
      const found = answer.partitions.find(({ partition }) => partition === one.partition)
      const accepted = found === undefined ? faulty(`broker ${node} does not answer for partition ${one.partition}`) : accept(one, found)
      return Effect.catchAll(accepted, (fault) => Effect.as(fail(one, fault), fault))
    })
    fetched(outcomes.includes(true))
    const fault = outcomes.find((one) => typeof one !== "boolean")
    if (fault !== undefined) return yield* fault
  })

  const loop = (node: number, bell: Queue.Queue<void>) =>
    Effect.gen(function*() {
      const wanted = wantedOf(node)
      if (wanted.length === 0) return yield* Queue.take(bell)
      yield* fetchFrom(node, wanted)
    }).pipe(
      Effect.catchAllCause((cause) =>
        // What is no failure but a bug must not end the loop unseen either.
        (Cause.isDie(cause) ? Effect.logError("fetching failed, trying again", cause) : Effect.void).pipe(
          Effect.zipRight(Effect.sleep(retryAfter)),
          Effect.zipRight(Effect.ignore(call("read", topic, () => cluster.refreshMetadata())))
        )),
      Effect.forever
    )

  /** A loop for every broker that leads one of the partitions. */
  const supervise = Effect.gen(function*() {
    yield* call("read", topic, async () => {
      await cluster.connect()
      await cluster.addTargetTopic(topic)
      await cluster.refreshMetadataIfNecessary()
    })
    for (const node of new Set(leaders().values())) {
      if (bells.has(node)) continue
      const bell = yield* Queue.sliding<void>(1)
      bells.set(node, bell)
      yield* FiberMap.run(loops, node, loop(node, bell))
    }
    wake()
  })

  yield* Effect.ignore(supervise).pipe(Effect.zipRight(Effect.sleep(Duration.seconds(1))), Effect.forever, Effect.forkScoped)
  const fetcher: Fetcher = { wake }
  return fetcher
})
