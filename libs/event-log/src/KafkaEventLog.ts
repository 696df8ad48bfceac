/**
 * The event log in Apache Kafka. kafkajs connects, asks and takes part in groups; records are sent and fetched by our own requests.
 *
 * Appends are idempotent and wait for all in-sync replicas. Offsets need not be dense: transactions leave markers, compaction leaves holes.
 */
import { Duration, Effect, Layer, Schedule, Scope } from "effect"
import type { Admin } from "kafkajs"
import type { TopicPartition } from "@voltlake/domain/Position"
import { EventLog, EventLogError, type NewRecord, UnknownTopicPartition } from "./EventLog.ts"
import { call, disconnect, make as makeClient, typeOf } from "./KafkaClient.ts"
import { codecs } from "./KafkaCodecs.ts"
import * as KafkaInternals from "./KafkaInternals.ts"
import * as KafkaProducer from "./KafkaProducer.ts"
import * as KafkaReader from "./KafkaReader.ts"
import type { KafkaSettings } from "./KafkaSettings.ts"
import { topicFault } from "./Topic.ts"

const bufferBytesMax = 32 * 1024 * 1024
const ensureSteps = 3

const refused = (operation: string, topic: string, reason: string) =>
  new EventLogError({ operation, topic, outcome: "NotApplied", retryable: false, reason })

const make = Effect.fnUntraced(function*(settings: KafkaSettings) {
  const scope = yield* Effect.scope
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

  /** A topic's own: one that cannot be reached any more keeps no other waiting. */
  const producerOf = yield* Effect.cachedFunction((topic: string) =>
    Scope.extend(
      KafkaProducer.make(KafkaInternals.cluster(client, { allowAutoTopicCreation: false }), { topic, codec: codecs[settings.compression] }),
      scope
    ))

  const append = Effect.fn("KafkaEventLog.append")(function*(topic: string, records: ReadonlyMap<number, ReadonlyArray<NewRecord>>) {
    const filled = new Map(Array.from(records).filter(([, list]) => list.length > 0).sort(([a], [b]) => a - b))
    if (filled.size === 0) return []
    yield* checkPartitions(topic, filled.keys())
    return yield* Effect.flatMap(producerOf(topic), (producer) => producer.append(filled))
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
    olderThan: (topic, timestampMs) =>
      Effect.map(look("olderThan", topic, (own) => own.fetchTopicOffsetsByTimestamp(topic, timestampMs)), (found) =>
        found.map(({ offset, partition }) => ({ topic, partition, offset: BigInt(offset) })).sort((a, b) => a.partition - b.partition)),
    append,
    trim,
    open: (topic, group) => KafkaReader.make(client, { topic, group, bufferBytesMax, bounds: partitions(topic) })
  })
})

export const layer = (settings: KafkaSettings) => Layer.scoped(EventLog, make(settings))
