/**
 * Sends records to a topic: idempotent, acknowledged by all in-sync replicas. Batches are encoded here, and go over kafkajs's connections: one request
 * at a time to a broker, for all of its partitions that have something to send, so that appends that come meanwhile go together. What is sent again is
 * sent with the numbers it had, and is in the log once.
 *
 * kafkajs's own producer takes several times as long for a record, and returns as if all were well where a leader moves while a request is under way.
 */
import { Cause, Deferred, Duration, Effect, Either, Exit, FiberId, FiberSet, Schedule } from "effect"
import type { OffsetRange } from "@voltlake/domain/Position"
import { EventLogError, type NewRecord } from "./EventLog.ts"
import { call, disconnect, isLasting } from "./KafkaClient.ts"
import type { Codec } from "./KafkaCodecs.ts"
import type { Broker, Cluster } from "./KafkaInternals.ts"
import * as KafkaProduce from "./KafkaProduce.ts"
import { writeBody } from "./KafkaRecordBatchWriter.ts"
import { type Cut, type Fault, type Identity, KafkaSendQueue, Part } from "./KafkaSendQueue.ts"

/** After this time an append is given up, once the request under way has ended: Java's `delivery.timeout.ms`. */
const deliveryLimitMs = 120_000
/** How long a broker waits for its replicas. kafkajs waits longer for the answer. */
const replicationLimitMs = 15_000
/** With connecting; a safety net above kafkajs's own limits. */
const exchangeLimit = Duration.seconds(60)
/** Of one request; a larger batch goes alone. */
const requestBytesMax = 8 * 1024 * 1024
/** How often what waits is looked at again. */
const tick = Duration.millis(100)
const refreshEveryMs = 250

interface ProducerOptions {
  readonly topic: string
  readonly codec: Codec
}

interface Producer {
  /** As the log's own `append`; of lists that are not empty, in whose order it answers. */
  readonly append: (records: ReadonlyMap<number, ReadonlyArray<NewRecord>>) => Effect.Effect<ReadonlyArray<OffsetRange>, EventLogError>
}

const late: Fault = { outcome: "NotApplied", retryable: true, reason: `no broker acknowledged it within ${deliveryLimitMs / 60_000} minutes` }
const closed: Fault = { outcome: "NotApplied", retryable: true, reason: "the log is closed" }

/** Of one append: what one partition refuses, another may have taken. */
const outcomeOf = (failures: ReadonlyArray<EventLogError>, parts: number): EventLogError => {
  const error = failures.find(({ retryable }) => !retryable) ?? failures[0]!
  const isCertain = failures.length === parts && failures.every(({ outcome }) => outcome === "NotApplied")
  return new EventLogError({ ...error, outcome: isCertain ? "NotApplied" : "Unknown" })
}

/** Sends until the scope closes. The cluster's connections are the producer's own, and are made when they are first needed. */
export const make = Effect.fn("KafkaProducer.make")(function*(cluster: Cluster, { codec, topic }: ProducerOptions) {
  const clock = yield* Effect.clock
  yield* Effect.addFinalizer(() => disconnect(cluster))
  const run = yield* FiberSet.makeRuntime<never>()
  const queues = new Map<number, KafkaSendQueue>()
  /** Brokers with a request under way. */
  const busy = new Set<number>()
  let identity: Identity | undefined
  let isConnected = false
  let isClosed = false
  let isRefreshing = false
  let refreshedMs = 0
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      for (const queue of queues.values()) queue.close(closed)
    })
  )

  const now = () => clock.unsafeCurrentTimeMillis()
  const failedWith = ({ outcome, reason, retryable }: Fault) => new EventLogError({ operation: "append", topic, outcome, retryable, reason })

  const connecting = yield* Effect.makeSemaphore(1)
  const connect = connecting.withPermits(1)(Effect.suspend(() =>
    isConnected ? Effect.void : call("append", topic, async () => {
      await cluster.connect()
      await cluster.addTargetTopic(topic)
      isConnected = true
    })
    // Just after a topic was made, brokers answer that they do not know it.
  ).pipe(Effect.retry({ while: (error) => error.retryable, times: 4, schedule: Schedule.exponential(Duration.millis(50)) })))

  /** By partition. None where they are not known yet, which kafkajs says by throwing. */
  const leaders = (): ReadonlyMap<number, number> => {
    try {
      return new Map(cluster.findTopicPartitionMetadata(topic).map(({ leader, partitionId }) => [partitionId, leader] as const))
    } catch {
      return new Map()
    }
  }

  const refresh = () => {
    if (isRefreshing || now() < refreshedMs + refreshEveryMs) return
    isRefreshing = true
    run(Effect.ensuring(
      Effect.ignore(call("append", topic, () => cluster.refreshMetadata())),
      Effect.sync(() => {
        isRefreshing = false
        refreshedMs = now()
        pump()
      })
    ))
  }

  const drop = (left: Identity | undefined) => {
    if (left !== undefined && left === identity) identity = undefined
  }

  /** Any broker gives one. */
  const identify = Effect.fnUntraced(function*(broker: Broker) {
    if (identity !== undefined) return identity
    const { errorCode, producerEpoch, producerId } = yield* call("append", topic, () =>
      broker.connectionPool.send({ request: KafkaProduce.initProducerId, response: KafkaProduce.initProducerIdResponse }))
    const reason = KafkaProduce.nameOf(errorCode)
    if (errorCode !== 0) return yield* failedWith({ outcome: "NotApplied", retryable: !isLasting(reason), reason })
    identity = { producerId, producerEpoch }
    return identity
  })

  /** A request and its answer, for queues of one broker. */
  const exchange = Effect.fnUntraced(function*(node: number, sending: ReadonlyArray<KafkaSendQueue>) {
    let isSent = false
    let isOver = false
    const answer = yield* Effect.gen(function*() {
      const broker = yield* call("append", topic, () => cluster.findBroker({ nodeId: node }))
      const own = yield* identify(broker)
      const batches = sending.map((queue) => queue.begin(topic, codec.number, own))
      const request = KafkaProduce.request(batches, replicationLimitMs, () => {
        // kafkajs goes on with what was given up.
        if (isOver) throw new Error("given up")
        isSent = true
      })
      return yield* call("append", topic, () => broker.connectionPool.send({ request, response: KafkaProduce.response }))
    }).pipe(
      Effect.timeoutFail({ duration: exchangeLimit, onTimeout: () => failedWith({ ...late, reason: `broker ${node} does not answer` }) }),
      Effect.sandbox,
      Effect.either
    )
    isOver = true
    busy.delete(node)
    const nowMs = now()
    if (Either.isLeft(answer)) {
      const failure = Cause.failureOption(answer.left)
      const fault: Fault = failure._tag === "Some" ? failure.value : { ...late, reason: Cause.pretty(answer.left) }
      for (const queue of sending) drop(queue.lost(isSent, { outcome: "NotApplied", retryable: fault.retryable, reason: fault.reason }, nowMs))
      refresh()
    } else {
      for (const queue of sending) {
        const found = answer.right.partitions.find(({ partition }) => partition === queue.partition)
        if (found === undefined) drop(queue.lost(true, { ...late, reason: `broker ${node} does not answer for partition ${queue.partition}` }, nowMs))
        else drop(queue.answered(found.errorCode, found.baseOffset, nowMs))
        if (found?.errorCode !== 0) refresh()
      }
    }
    pump()
  })

  const makeBatch = (queue: KafkaSendQueue, cut: Cut) => {
    run(Effect.tryPromise({
      try: async () => {
        const body = writeBody(cut.spans, cut.bytes)
        return { ...body, bytes: await codec.compress(body.bytes) }
      },
      catch: (cause): Fault => ({ outcome: "NotApplied", retryable: false, reason: `its records cannot be encoded: ${String(cause)}` })
    }).pipe(
      Effect.merge,
      Effect.map((result) => {
        queue.made(cut, result)
        pump()
      })
    ))
  }

  const send = (node: number, led: ReadonlyArray<KafkaSendQueue>) => {
    // Those that are about to be ready go in the same request.
    if (busy.has(node) || led.some((queue) => !queue.isReady)) return
    const sending: Array<KafkaSendQueue> = []
    let bytes = 0
    for (const queue of led) {
      if (sending.length > 0 && bytes + queue.bytes > requestBytesMax) continue
      bytes += queue.bytes
      sending.push(queue)
    }
    for (const queue of sending) {
      queue.isUnderWay = true
      // The others come first in turn.
      queues.delete(queue.partition)
      queues.set(queue.partition, queue)
    }
    busy.add(node)
    run(exchange(node, sending))
  }

  /** Does what can be done: called after all that happens. */
  const pump = (): void => {
    if (isClosed) return
    for (const queue of queues.values()) {
      const cut = queue.cut()
      if (cut !== undefined) makeBatch(queue, cut)
    }
    const nowMs = now()
    const due = Array.from(queues.values()).filter((queue) => queue.isDue(nowMs))
    if (due.length === 0) return
    const known = leaders()
    const led = new Map<number, Array<KafkaSendQueue>>()
    for (const queue of due) {
      const leader = known.get(queue.partition) ?? -1
      const own = led.get(leader)
      if (leader < 0) refresh()
      else if (own === undefined) led.set(leader, [queue])
      else own.push(queue)
    }
    for (const [node, own] of led) send(node, own)
  }

  yield* Effect.sync(() => {
    const nowMs = now()
    for (const queue of queues.values()) drop(queue.expire(nowMs, late))
    pump()
  }).pipe(Effect.zipRight(Effect.sleep(tick)), Effect.forever, Effect.forkScoped)

  const add = (partition: number, records: ReadonlyArray<NewRecord>) => {
    const done = Deferred.unsafeMake<OffsetRange, EventLogError>(FiberId.none)
    const part = new Part(records, now() + deliveryLimitMs, (result) =>
      Deferred.unsafeDone(done, "reason" in result ? Exit.fail(failedWith(result)) : Exit.succeed({ topic, partition, ...result })))
    let queue = queues.get(partition)
    if (queue === undefined) queues.set(partition, queue = new KafkaSendQueue(partition))
    queue.add(part)
    return { done, part }
  }

  const append: Producer["append"] = Effect.fnUntraced(function*(records) {
    yield* connect
    if (isClosed) return yield* failedWith(closed)
    const added = Array.from(records, ([partition, list]) => add(partition, list))
    pump()
    const results = yield* Effect.forEach(added, ({ done }) => Effect.either(Deferred.await(done))).pipe(
      // What is not under way yet is not sent.
      Effect.onInterrupt(() => Effect.sync(() => added.forEach(({ part }) => (part.isOver = true))))
    )
    const failures = results.filter(Either.isLeft).map(({ left }) => left)
    return failures.length > 0 ? yield* outcomeOf(failures, added.length) : results.filter(Either.isRight).map(({ right }) => right)
  })

  const producer: Producer = { append }
  return producer
})
