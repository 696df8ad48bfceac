/**
 * The event log in Apache Kafka, by kafkajs.
 *
 * Appends are idempotent and wait for all in-sync replicas. Offsets need not be dense: transactions leave markers, compaction leaves holes.
 */
import { Duration, Effect, Layer, Ref, Schedule } from "effect"
import kafkajs, { type Admin, type IHeaders, type Kafka, type Message, type Producer } from "kafkajs"
import type { OffsetRange, TopicPartition } from "@voltlake/domain/Position"
import { EventLog, EventLogError, type Header, type NewRecord, UnknownTopicPartition } from "./EventLog.ts"
import { call, disconnect, failed, make as makeClient, typeOf } from "./KafkaClient.ts"
import * as KafkaReader from "./KafkaReader.ts"
import type { KafkaSettings } from "./KafkaSettings.ts"
import { topicFault } from "./Topic.ts"

/** Of one request's records for a partition, about: brokers refuse more than 1 MiB in one batch unless told otherwise. */
const batchBytesMax = 900 * 1024
/** After this time a send is given up, its outcome unknown: Java's `delivery.timeout.ms`. */
const deliveryLimit = Duration.minutes(2)
/** At 2 s at most between two, fewer than fit the limit above: kafkajs goes on with a send that was given up. */
const sendRetries = 45
const bufferBytesMax = 32 * 1024 * 1024
/** A record's own fields beside key and value, at most. */
const recordOverhead = 70
const ensureSteps = 3
const sendTriesMax = 5

/** kafkajs writes bytes only where they are a Buffer, and anything else as text. */
const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const headersOf = (headers: ReadonlyArray<Header>): IHeaders => {
  const out: Record<string, Array<Buffer>> = {}
  for (const { key, value } of headers) (out[key] ??= []).push(bufferOf(value!))
  return out
}

const messageOf = (partition: number, { headers, key, timestampMs, value }: NewRecord): Message => ({
  partition,
  key: key === null ? null : bufferOf(key),
  value: value === null ? null : bufferOf(value),
  timestamp: String(timestampMs),
  ...(headers.length === 0 ? {} : { headers: headersOf(headers) })
})

const sizeOf = ({ headers, key, value }: NewRecord): number =>
  headers.reduce(
    (sum, header) => sum + header.key.length + (header.value?.length ?? 0) + 4,
    recordOverhead + (key?.length ?? 0) + (value?.length ?? 0)
  )

/** Cuts each partition's records into requests that a broker takes; the n-th request holds the n-th piece of every partition. */
const requestsOf = (records: ReadonlyMap<number, ReadonlyArray<NewRecord>>): ReadonlyArray<Array<Message>> => {
  const requests: Array<Array<Message>> = []
  for (const [partition, list] of records) {
    let at = 0
    let bytes = 0
    for (const record of list) {
      const size = sizeOf(record)
      if (bytes > 0 && bytes + size > batchBytesMax) {
        at += 1
        bytes = 0
      }
      bytes += size
      const request = requests[at] ??= []
      request.push(messageOf(partition, record))
    }
  }
  return requests
}

const compressionOf = (compression: KafkaSettings["compression"]) => {
  const { CompressionTypes } = kafkajs
  switch (compression) {
    case "none":
      return CompressionTypes.None
    case "gzip":
      return CompressionTypes.GZIP
    case "snappy":
      return CompressionTypes.Snappy
    case "lz4":
      return CompressionTypes.LZ4
  }
}

/**
 * A producer that connects when it is first needed. One that has failed is replaced: its unsent records must not come later, after the caller has
 * been told, and a number that the broker has not seen would be missing in its sequence for ever.
 */
const producers = Effect.fnUntraced(function*(client: Kafka) {
  const current = yield* Ref.make<Producer | undefined>(undefined)
  yield* Effect.addFinalizer(() =>
    Effect.flatMap(Ref.get(current), (producer) => (producer === undefined ? Effect.void : disconnect(producer))))
  const gate = yield* Effect.makeSemaphore(1)
  const get = gate.withPermits(1)(Effect.flatMap(Ref.get(current), (producer) => {
    if (producer !== undefined) return Effect.succeed(producer)
    const next = client.producer({
      idempotent: true,
      maxInFlightRequests: 5,
      allowAutoTopicCreation: false,
      retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: sendRetries }
    })
    return call("append", "", () => next.connect()).pipe(Effect.zipRight(Ref.set(current, next)), Effect.as(next))
  }))
  const replace = (producer: Producer) =>
    Effect.zipRight(
      Ref.update(current, (now) => (now === producer ? undefined : now)),
      Effect.forkDaemon(disconnect(producer))
    )
  return { get, replace }
})

const refused = (operation: string, topic: string, reason: string) =>
  new EventLogError({ operation, topic, outcome: "NotApplied", retryable: false, reason })

const make = Effect.fnUntraced(function*(settings: KafkaSettings) {
  const { adminClient, client } = yield* makeClient(settings)
  let admin = adminClient.admin()
  yield* Effect.addFinalizer(() => disconnect(admin))
  /** kafkajs believes in a connection that it has lost, and in partitions that it has seen five minutes ago. */
  const renew = Effect.suspend(() => {
    const old = admin
    admin = adminClient.admin()
    return Effect.forkDaemon(disconnect(old))
  })
  const ask = <A>(operation: string, topic: string, run: (admin: Admin) => Promise<A>) =>
    Effect.suspend(() => {
      const own = admin
      return call(operation, topic, async () => {
        await own.connect()
        return await run(own)
      })
    }).pipe(Effect.tapError(() => renew))
  /** As {@link ask}, for what changes nothing: just after a topic was made, brokers answer that they do not know it. */
  const look = <A>(operation: string, topic: string, run: (admin: Admin) => Promise<A>) =>
    Effect.retry(ask(operation, topic, run), { while: (error) => error.retryable, times: 4, schedule: Schedule.exponential(Duration.millis(50)) })

  /** How many partitions the topic has; none where there is no such topic, which must not be asked for its offsets: kafkajs asks on for ever. */
  const partitionCount = (topic: string) =>
    look("partitions", topic, (own) =>
      own.fetchTopicMetadata({ topics: [topic] }).then(
        ({ topics }) => topics[0]?.partitions.length ?? 0,
        (error: unknown) => {
          if (typeOf(error) === "UNKNOWN_TOPIC_OR_PARTITION") return 0
          throw error
        }
      ))

  const partitions = Effect.fn("KafkaEventLog.partitions")(function*(topic: string) {
    const count = yield* partitionCount(topic)
    if (count === 0) return []
    const fetchOffsets = look("partitions", topic, (own) => own.fetchTopicOffsets(topic))
    const seen = yield* fetchOffsets
    const found = seen.length < count ? yield* Effect.zipRight(renew, fetchOffsets) : seen
    return found
      .map(({ high, low, partition }) => ({ topic, partition, first: BigInt(low), end: BigInt(high) }))
      .sort((a, b) => a.partition - b.partition)
  })

  const ensureTopic = Effect.fn("KafkaEventLog.ensureTopic")(function*(topic: string, wanted: number) {
    const reason = topicFault(topic, wanted)
    if (reason !== undefined) return yield* refused("ensureTopic", topic, reason)
    // The broker's own default of replicas.
    const topics = [{ topic, numPartitions: wanted, replicationFactor: -1 }]
    // Another process may be about the same.
    for (let step = 0; step < ensureSteps; step++) {
      const held = yield* partitionCount(topic)
      if (held >= wanted) return
      if (held === 0) yield* ask("ensureTopic", topic, (own) => own.createTopics({ topics, waitForLeaders: true }))
      else yield* ask("ensureTopic", topic, (own) => own.createPartitions({ topicPartitions: [{ topic, count: wanted }] }))
    }
  })

  const known = new Map<string, number>()
  const checkPartitions = Effect.fnUntraced(function*(topic: string, wanted: Iterable<number>) {
    for (const partition of wanted) {
      if (partition < (known.get(topic) ?? 0)) continue
      known.set(topic, yield* partitionCount(topic))
      if (partition >= (known.get(topic) ?? 0)) return yield* new UnknownTopicPartition({ topic, partition })
    }
  })

  const { get: producer, replace } = yield* producers(client)
  const compression = compressionOf(settings.compression)

  const unknown = (topic: string, reason: string) => new EventLogError({ operation: "append", topic, outcome: "Unknown", retryable: true, reason })

  const send = (topic: string, messages: Array<Message>) =>
    Effect.flatMap(producer, (own) =>
      Effect.tryPromise({
        try: () => own.send({ topic, acks: -1, compression, messages }),
        catch: failed("append", topic, true)
      }).pipe(
        Effect.timeoutFail({
          duration: deliveryLimit,
          onTimeout: () => unknown(topic, "no broker acknowledged it within 2 minutes")
        }),
        Effect.tapErrorCause(() => replace(own))
      ))

  /**
   * Sends until every partition is acknowledged; answers where each one's records begin. Where a leader moves while a request is under way, kafkajs
   * returns as if all were well with what the other brokers took (sendMessages asks no broker twice that has answered).
   */
  const sendAll = Effect.fnUntraced(function*(topic: string, request: Array<Message>) {
    const bases = new Map<number, bigint>()
    let left = request
    for (let tries = 0; left.length > 0; tries++) {
      if (tries === sendTriesMax) return yield* unknown(topic, `partition ${left[0]!.partition} was not acknowledged`)
      for (const { baseOffset, partition } of yield* send(topic, left)) {
        const base = BigInt(baseOffset ?? -1)
        if (base >= 0n && !bases.has(partition)) bases.set(partition, base)
      }
      left = left.filter(({ partition }) => !bases.has(partition!))
    }
    return bases
  })

  const append = Effect.fn("KafkaEventLog.append")(function*(topic: string, records: ReadonlyMap<number, ReadonlyArray<NewRecord>>) {
    const filled = new Map(Array.from(records).filter(([, list]) => list.length > 0).sort(([a], [b]) => a - b))
    yield* checkPartitions(topic, filled.keys())
    for (const list of filled.values()) {
      const unsendable = list.find(({ headers }) => headers.some(({ value }) => value === null))
      if (unsendable !== undefined) return yield* refused("append", topic, "kafkajs cannot send a header without a value; give it an empty one")
    }
    const starts = new Map<number, bigint>()
    const ends = new Map<number, bigint>()
    for (const request of requestsOf(filled)) {
      const counts = new Map<number, number>()
      for (const { partition } of request) counts.set(partition!, (counts.get(partition!) ?? 0) + 1)
      const bases = yield* sendAll(topic, request).pipe(
        // What one broker refuses another may have taken, and earlier requests are in.
        Effect.mapError((error) => filled.size === 1 && starts.size === 0 ? error : new EventLogError({ ...error, outcome: "Unknown" }))
      )
      for (const [partition, base] of bases) {
        if (!starts.has(partition)) starts.set(partition, base)
        ends.set(partition, base + BigInt(counts.get(partition)!))
      }
    }
    return Array.from(filled.keys(), (partition): OffsetRange => ({ topic, partition, start: starts.get(partition)!, end: ends.get(partition)! }))
  })

  const trim = Effect.fn("KafkaEventLog.trim")(function*(tp: TopicPartition, offset: bigint) {
    const bounds = (yield* partitions(tp.topic)).find((one) => one.partition === tp.partition)
    if (bounds === undefined) return yield* new UnknownTopicPartition({ topic: tp.topic, partition: tp.partition })
    const kept = offset > bounds.end ? bounds.end : offset
    if (kept <= bounds.first) return
    yield* ask("trim", tp.topic, (own) =>
      own.deleteTopicRecords({ topic: tp.topic, partitions: [{ partition: tp.partition, offset: String(kept) }] }))
  })

  return EventLog.of({
    identity: Effect.map(look("identity", "of the cluster", (own) => own.describeCluster()), ({ clusterId }) => clusterId),
    ensureTopic,
    partitions,
    append,
    trim,
    open: (topic, group) => KafkaReader.make(client, { topic, group, bufferBytesMax, bounds: partitions(topic) })
  })
})

export const layer = (settings: KafkaSettings) => Layer.scoped(EventLog, make(settings))
