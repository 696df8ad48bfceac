import { NodeContext } from "@effect/platform-node"
import { expect, layer as withLayer } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Schedule, type Scope } from "effect"
import kafkajs from "kafkajs"
import { randomUUID } from "node:crypto"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import { EventLog, type LogReader, type RecordBatch } from "./EventLog.ts"
import { eventLogContract, openAll, record } from "./EventLogContract.ts"
import { layer } from "./KafkaEventLog.ts"
import type { KafkaSettings } from "./KafkaSettings.ts"

const settings: KafkaSettings = {
  bootstrapServers: (stackEnv?.kafka ?? "").split(","),
  protocol: "PLAINTEXT",
  mechanism: "PLAIN",
  username: Option.none(),
  password: Option.none(),
  caFile: Option.none(),
  certificateFile: Option.none(),
  keyFile: Option.none(),
  compression: "lz4"
}

const kafka = (compression: KafkaSettings["compression"] = "lz4") =>
  layer({ ...settings, compression }).pipe(Layer.provide(NodeContext.layer))

describeStack("kafka")("on a real broker", () => {
  eventLogContract("kafka", kafka())
})

/** Another producer on the same brokers: what it sends is not ours to choose. */
const client = new kafkajs.Kafka({ brokers: [...settings.bootstrapServers], logLevel: kafkajs.logLevel.NOTHING })

const withAdmin = <A>(run: (admin: kafkajs.Admin) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const admin = client.admin()
      await admin.connect()
      return admin
    }),
    (admin) => Effect.promise(() => run(admin)),
    (admin) => Effect.promise(() => admin.disconnect())
  )

const transactional = Effect.acquireRelease(
  Effect.promise(async () => {
    const producer = client.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    return producer
  }),
  (producer) => Effect.promise(() => producer.disconnect())
)

const begin = (producer: kafkajs.Producer, topic: string, values: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: values.map((value) => ({ value, partition: 0 })) })
    return transaction
  })

const plenty = { recordsMax: 1_000_000, bytesMax: 100_000_000 }
const text = (value: Uint8Array | null) => (value === null ? null : Buffer.from(value).toString())
const newTopic = () => `topic_${randomUUID().slice(0, 8)}`

/** Reads until `end`, as bronze does: each time from where the last read ended. */
const readUpTo = (reader: LogReader, topic: string, from: bigint, end: bigint) =>
  Effect.gen(function*() {
    const batches: Array<RecordBatch> = []
    for (let at = from; at < end; at = batches.at(-1)!.end) {
      batches.push(yield* reader.read({ topic, partition: 0 }, at, plenty))
      expect(batches.at(-1)!.start).toBe(at)
    }
    return batches.flatMap((batch) => [...batch.records].map((one) => [Number(one.offset), text(one.value)] as const))
  }).pipe(Effect.timeout(Duration.seconds(20)))

const endOf = (topic: string) =>
  Effect.flatMap(EventLog, (log) => Effect.map(log.partitions(topic), (partitions) => partitions[0]!.end))

describeStack("kafka")("KafkaEventLog", () => {
  withLayer(kafka(), { excludeTestServices: true, timeout: 60_000 })((it) => {
    const lives = (title: string, body: (log: EventLog["Type"], topic: string) => Effect.Effect<void, unknown, EventLog | Scope.Scope>) =>
      it.scoped(title, () => Effect.flatMap(EventLog, (log) => body(log, newTopic())))

    lives("passes over aborted records and markers, and comes to the log's end", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const reader = yield* openAll(log, topic, 1)
      const producer = yield* transactional
      const committed = yield* begin(producer, topic, ["a", "b"])
      yield* Effect.promise(() => committed.commit())
      const aborted = yield* begin(producer, topic, ["x", "y", "z"])
      yield* Effect.promise(() => aborted.abort())
      yield* log.append(topic, new Map([[0, [record("c")]]]))
      const alone = yield* begin(producer, topic, ["v"])
      yield* Effect.promise(() => alone.abort())
      // a b marker x y z marker c v marker; the last comes after the broker's answer.
      yield* endOf(topic).pipe(Effect.repeat({ until: (end) => end === 10n, schedule: Schedule.spaced("20 millis") }), Effect.timeout("10 seconds"))
      const all = [[0, "a"], [1, "b"], [7, "c"]]
      expect(yield* readUpTo(reader, topic, 0n, 10n)).toEqual(all)
      // From any offset: also from the middle of what holds no record.
      for (const from of [1, 2, 3, 5, 6, 7, 8, 9]) {
        expect(yield* readUpTo(reader, topic, BigInt(from), 10n)).toEqual(all.filter(([offset]) => Number(offset) >= from))
      }
    }))

    lives("answers an empty range below the end while a transaction is open", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const reader = yield* openAll(log, topic, 1)
      const producer = yield* transactional
      yield* log.append(topic, new Map([[0, [record("a")]]]))
      const open = yield* begin(producer, topic, ["b"])
      yield* log.append(topic, new Map([[0, [record("c")]]]))
      expect(yield* endOf(topic)).toBe(3n)
      const tp = { topic, partition: 0 }
      expect((yield* reader.read(tp, 0n, plenty)).records).toHaveLength(1)
      expect(yield* reader.read(tp, 1n, plenty)).toMatchObject({ ...tp, start: 1n, end: 1n, records: { length: 0 } })
      yield* Effect.promise(() => open.commit())
      expect(yield* readUpTo(reader, topic, 1n, 3n)).toEqual([[1, "b"], [2, "c"]])
    }))

    lives("gives nothing of another place where the log has dropped what was asked for", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const reader = yield* openAll(log, topic, 1)
      const tp = { topic, partition: 0 }
      yield* log.append(topic, new Map([[0, [record("a")]]]))
      expect((yield* reader.read(tp, 0n, plenty)).end).toBe(1n)
      // The consumer waits at offset 1, which is gone before it fetches it: kafkajs then goes on at the log's first offset.
      yield* log.append(topic, new Map([[0, Array.from({ length: 9 }, (_, at) => record(`${at + 1}`))]]))
      yield* log.trim(tp, 5n)
      const outcome = yield* Effect.either(reader.read(tp, 1n, plenty))
      // What it had fetched before the trim it may still give.
      if (outcome._tag === "Right") expect([...outcome.right.records].map((one) => Number(one.offset))[0]).toBe(1)
      else expect(outcome.left).toMatchObject({ _tag: "OffsetOutOfRange", offset: 1n, first: 5n })
      expect(yield* readUpTo(reader, topic, 5n, 10n)).toEqual([[5, "5"], [6, "6"], [7, "7"], [8, "8"], [9, "9"]])
      expect(yield* Effect.flip(reader.read(tp, 4n, plenty))).toMatchObject({ _tag: "OffsetOutOfRange", first: 5n, end: 10n })
      expect(yield* Effect.flip(reader.read(tp, 11n, plenty))).toMatchObject({ _tag: "OffsetOutOfRange", first: 5n, end: 10n })
    }))

    lives("begins where it is told, whatever the group has announced", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      yield* log.append(topic, new Map([[0, Array.from({ length: 10 }, (_, at) => record(`${at}`))]]))
      const group = `group_of_${topic}`
      yield* Effect.scoped(Effect.gen(function*() {
        const first = yield* openAll(log, topic, 1)
        yield* readUpTo(first, topic, 0n, 10n)
        yield* first.announce(new Map([[`${topic}-0`, 8n]]))
        yield* withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [topic] })).pipe(
          Effect.repeat({ until: (offsets) => offsets[0]?.partitions[0]?.offset === "8", schedule: Schedule.spaced("50 millis") }),
          Effect.timeout("10 seconds")
        )
      }))
      const second = yield* openAll(log, topic, 1)
      expect((yield* readUpTo(second, topic, 3n, 10n))[0]).toEqual([3, "3"])
    }))

    lives("shares the partitions out among the group, and takes over those of one that leaves", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 4)
      const group = `group_of_${topic}`
      const partitionsOf = (reader: LogReader) => Effect.map(reader.assigned, (assigned) => assigned.map((one) => one.partition))
      const first = yield* openAll(log, topic, 4)
      const before = (yield* first.assigned).map((one) => one.generation)
      const settled = (readers: ReadonlyArray<LogReader>) =>
        Effect.forEach(readers, partitionsOf).pipe(
          Effect.repeat({ until: (all) => all.flat().length === 4 && all.every((own) => own.length > 0) }),
          Effect.timeout("30 seconds")
        )
      yield* Effect.scoped(Effect.gen(function*() {
        const second = yield* log.open(topic, group)
        const shares = yield* settled([first, second])
        expect(shares.map((own) => own.length)).toEqual([2, 2])
        expect(shares.flat().sort()).toEqual([0, 1, 2, 3])
        const [lost] = shares[1]!
        expect(yield* Effect.flip(first.read({ topic, partition: lost! }, 0n, plenty)))
          .toMatchObject({ _tag: "EventLogError", retryable: true, reason: expect.stringContaining("another member") })
      }))
      yield* settled([first])
      expect((yield* first.assigned)[0]!.generation).toBeGreaterThan(before[0]!)
    }))

    lives("takes in partitions that are added while it reads", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const reader = yield* openAll(log, topic, 1)
      yield* withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] }))
      yield* reader.assigned.pipe(
        Effect.repeat({ until: (assigned) => assigned.length === 3, schedule: Schedule.spaced("100 millis") }),
        Effect.timeout("40 seconds")
      )
    }))

    for (const codec of ["gzip", "snappy", "lz4", "zstd"]) {
      lives(`reads what a broker has compressed with ${codec}`, (log, topic) => Effect.gen(function*() {
        // The broker compresses anew, with the libraries of Java's own producer.
        yield* withAdmin((admin) =>
          admin.createTopics({ topics: [{ topic, numPartitions: 1, configEntries: [{ name: "compression.type", value: codec }] }], waitForLeaders: true }))
        const reader = yield* openAll(log, topic, 1)
        // More than one of snappy's blocks.
        const values = Array.from({ length: 200 }, (_, at) => `${at} ${"telemetry ".repeat(60)}`)
        yield* log.append(topic, new Map([[0, values.map((value) => record(value))]]))
        expect(yield* readUpTo(reader, topic, 0n, 200n)).toEqual(values.map((value, at) => [at, value]))
      }))
    }

    for (const compression of ["none", "gzip", "snappy", "lz4"] as const) {
      lives(`reads what it has sent itself with ${compression}`, (log, topic) =>
        Effect.gen(function*() {
          yield* log.ensureTopic(topic, 1)
          const values = Array.from({ length: 50 }, (_, at) => `${at} ${"telemetry ".repeat(20)}`)
          yield* Effect.provide(
            Effect.flatMap(EventLog, (own) => own.append(topic, new Map([[0, values.map((value) => record(value))]]))),
            Layer.fresh(kafka(compression))
          )
          expect(yield* readUpTo(yield* openAll(log, topic, 1), topic, 0n, 50n)).toEqual(values.map((value, at) => [at, value]))
        }))
    }

    lives("cuts what one request cannot hold, in order", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 2)
      const list = (of: string) => Array.from({ length: 40 }, (_, at) => record(`${of}${at}`.padEnd(100_000)))
      const ranges = yield* log.append(topic, new Map([[0, list("a")], [1, list("b")]]))
      expect(ranges).toEqual([0, 1].map((partition) => ({ topic, partition, start: 0n, end: 40n })))
      const read = yield* readUpTo(yield* openAll(log, topic, 2), topic, 0n, 40n)
      expect(read.map(([, value]) => value?.trim())).toEqual(Array.from({ length: 40 }, (_, at) => `a${at}`))
    }))

    lives("answers what it has where more is asked for than it may hold", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const reader = yield* openAll(log, topic, 1)
      const list = Array.from({ length: 90 }, (_, at) => ({ ...record(null), value: new Uint8Array(500_000).fill(at) }))
      yield* log.append(topic, new Map([[0, list]]))
      const batch = yield* reader.read({ topic, partition: 0 }, 0n, plenty).pipe(Effect.timeout("20 seconds"))
      expect(batch.records.length).toBeGreaterThan(50)
      expect(batch.records.length).toBeLessThan(90)
      const rest = yield* reader.read({ topic, partition: 0 }, batch.end, plenty)
      expect([...batch.records, ...rest.records].map((one) => one.value?.[0])).toEqual(list.map((_, at) => at))
    }))

    lives("says which record no broker takes", (log, topic) => Effect.gen(function*() {
      yield* log.ensureTopic(topic, 1)
      const large = { ...record(null), value: Buffer.from(Array.from({ length: 2_000_000 }, () => Math.trunc(Math.random() * 256))) }
      expect(yield* Effect.flip(log.append(topic, new Map([[0, [large]]]))))
        .toMatchObject({ _tag: "EventLogError", outcome: "NotApplied", retryable: false, reason: expect.stringContaining("MESSAGE_TOO_LARGE") })
      expect(yield* log.append(topic, new Map([[0, [record("a")]]]))).toEqual([{ topic, partition: 0, start: 0n, end: 1n }])
    }))
  })
})
