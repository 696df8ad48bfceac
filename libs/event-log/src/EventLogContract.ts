/** What every EventLog must do: a suite to run over each adapter. */
import { describe, expect, layer as withLayer } from "@effect/vitest"
import { Chunk, Effect, type Layer, Ref, Schedule, type Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { EventLog, type Header, type NewRecord } from "./EventLog.ts"

const bytes = (text: string) => new TextEncoder().encode(text)

/** Recent: a broker may drop at any moment what is older than its retention. */
const sentMs = Date.now()

export const record = (
  value: string | null,
  key: string | null = "vehicle",
  headers: ReadonlyArray<Header> = []
): NewRecord => ({
  timestampMs: sentMs,
  key: key === null ? null : bytes(key),
  value: value === null ? null : bytes(value),
  headers
})

const plenty = { recordsMax: 1_000_000, bytesMax: 1_000_000_000 }

const text = (value: Uint8Array | null) => (value === null ? null : new TextDecoder().decode(value))

/** Opens a reader and waits until it has that many partitions, as many as the topic. */
export const openAll = (log: EventLog["Type"], topic: string, partitions: number) =>
  Effect.tap(log.open(topic, `group_of_${topic}`), (reader) =>
    reader.assigned.pipe(
      // A group that is being formed is waited for.
      Effect.orElseSucceed(() => []),
      Effect.repeat({ until: (assigned) => assigned.length === partitions, schedule: Schedule.spaced("20 millis") }),
      Effect.timeout("30 seconds")
    ))

/** Registers the suite. `layer` is shared by its tests, each of which uses a topic of its own. */
export const eventLogContract = (name: string, layer: Layer.Layer<EventLog, unknown>): void => {
  withLayer(layer, { excludeTestServices: true, timeout: 60_000 })(`EventLog contract: ${name}`, (it) => {
    const run = (title: string, body: (log: EventLog["Type"], topic: string) => Effect.Effect<void, unknown, Scope.Scope>) => {
      const topic = `${title.replaceAll(/[^a-z]+/g, "_")}_${randomUUID().slice(0, 8)}`
      it.scoped(title, () => Effect.flatMap(EventLog, (log) => body(log, topic)))
    }

    describe("topics", () => {
      run("adds partitions and never removes any", (log, topic) => Effect.gen(function*() {
        expect(yield* log.partitions(topic)).toEqual([])
        yield* log.ensureTopic(topic, 2)
        yield* log.append(topic, new Map([[1, [record("a")]]]))
        yield* log.ensureTopic(topic, 3)
        yield* log.ensureTopic(topic, 1)
        expect(yield* log.partitions(topic)).toEqual([
          { topic, partition: 0, first: 0n, end: 0n },
          { topic, partition: 1, first: 0n, end: 1n },
          { topic, partition: 2, first: 0n, end: 0n }
        ])
      }))

      run("refuses names and sizes that a topic cannot have", (log) => Effect.gen(function*() {
        const wrong = [["", 1], ["a b", 1], ["x".repeat(250), 1], ["fine", 0], ["fine", 1.5], ["fine", 1e6]] as const
        for (const [name, partitions] of wrong) {
          const error = yield* Effect.flip(log.ensureTopic(name, partitions))
          expect(error).toMatchObject({ _tag: "EventLogError", outcome: "NotApplied" })
        }
      }))

      run("knows a partition that does not exist", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        const missing = { _tag: "UnknownTopicPartition", topic, partition: 1 }
        const both = new Map([[0, [record("a")]], [1, [record("b")]]])
        expect(yield* Effect.flip(log.append(topic, both))).toMatchObject(missing)
        expect(yield* Effect.flip(reader.read({ topic, partition: 1 }, 0n, plenty))).toMatchObject(missing)
        expect(yield* Effect.flip(log.trim({ topic, partition: 1 }, 0n))).toMatchObject(missing)
        // All partitions or none.
        expect(yield* log.partitions(topic)).toEqual([{ topic, partition: 0, first: 0n, end: 0n }])
      }))
    })

    describe("records", () => {
      run("come back as they were given", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        const every = Uint8Array.from({ length: 256 }, (_, at) => at)
        const given: ReadonlyArray<NewRecord> = [
          record("value", "key"),
          record(null, "tombstone"),
          record("", ""),
          record("no key", null),
          record(null, null),
          { timestampMs: 0, key: every, value: every, headers: [] },
          {
            timestampMs: sentMs - 123_456,
            key: null,
            value: every,
            headers: [{ key: "", value: null }, { key: "ключ", value: every }]
          },
          record("two headers of one name", "k", [{ key: "a", value: bytes("") }, { key: "a", value: bytes("2") }])
        ]
        const ranges = yield* log.append(topic, new Map([[0, given]]))
        expect(ranges).toEqual([{ topic, partition: 0, start: 0n, end: 8n }])
        const batch = yield* reader.read({ topic, partition: 0 }, 0n, plenty)
        expect(batch).toMatchObject({ topic, partition: 0, start: 0n, end: 8n })
        const plain = (one: NewRecord) => ({
          timestampMs: one.timestampMs,
          key: one.key === null ? null : Array.from(one.key),
          value: one.value === null ? null : Array.from(one.value),
          headers: one.headers.map(({ key, value }) => ({ key, value: value === null ? null : Array.from(value) }))
        })
        expect([...batch.records].map(plain)).toEqual(given.map(plain))
        expect([...batch.records].map((one) => one.offset)).toEqual([0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n])
      }))

      run("go to several partitions at once, and empty lists do nothing", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 3)
        expect(yield* log.append(topic, new Map([[0, []]]))).toEqual([])
        const ranges = yield* log.append(topic, new Map([[2, [record("c")]], [0, [record("a"), record("b")]], [1, []]]))
        expect(ranges).toEqual([
          { topic, partition: 0, start: 0n, end: 2n },
          { topic, partition: 2, start: 0n, end: 1n }
        ])
      }))

      run("of a megabyte each fill several segments and read back", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        const megabyte = (fill: number) => new Uint8Array(1_000_000).fill(fill)
        const large = Array.from({ length: 12 }, (_, at) => ({ ...record(null), value: megabyte(at) }))
        yield* log.append(topic, new Map([[0, large]]))
        const seen: Array<number> = []
        for (let at = 0n; at < 12n; ) {
          const batch = yield* reader.read({ topic, partition: 0 }, at, { recordsMax: 100, bytesMax: 2_000_000 })
          expect(batch.records.length).toBeGreaterThan(0)
          expect(batch.records.length).toBeLessThan(12)
          for (const one of batch.records) {
            expect(one.value?.length).toBe(1_000_000)
            seen.push(one.value![999_999]!)
          }
          at = batch.end
        }
        expect(seen).toEqual(large.map((_, at) => at))
      }))
    })

    describe("reading", () => {
      run("begins in the middle and stops at the limit", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        for (let batch = 0; batch < 5; batch++) {
          yield* log.append(topic, new Map([[0, Array.from({ length: 10 }, (_, at) => record(`${batch * 10 + at}`))]]))
        }
        for (const [from, recordsMax] of [[0, 1], [7, 2], [7, 13], [9, 1], [10, 10], [15, 100], [49, 5]] as const) {
          const batch = yield* reader.read({ topic, partition: 0 }, BigInt(from), { ...plenty, recordsMax })
          const wanted = Math.min(recordsMax, 50 - from)
          const offsets = Array.from({ length: wanted }, (_, at) => from + at)
          expect([...batch.records].map((one) => text(one.value))).toEqual(offsets.map(String))
          expect([...batch.records].map((one) => Number(one.offset))).toEqual(offsets)
          expect([batch.start, batch.end]).toEqual([BigInt(from), BigInt(from + wanted)])
        }
        // Whatever the limit says, a reader gets on.
        expect((yield* reader.read({ topic, partition: 0 }, 3n, { recordsMax: 0, bytesMax: 0 })).records).toHaveLength(1)
      }))

      run("answers an empty range at the end and refuses offsets outside", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        const tp = { topic, partition: 0 }
        expect(yield* reader.read(tp, 0n, plenty)).toMatchObject({ ...tp, start: 0n, end: 0n, records: { length: 0 } })
        yield* log.append(topic, new Map([[0, [record("a"), record("b")]]]))
        expect(yield* reader.read(tp, 2n, plenty)).toMatchObject({ ...tp, start: 2n, end: 2n, records: { length: 0 } })
        for (const offset of [-1n, 3n]) {
          expect(yield* Effect.flip(reader.read(tp, offset, plenty)))
            .toMatchObject({ _tag: "OffsetOutOfRange", offset, first: 0n, end: 2n })
        }
      }))

      run("goes on behind what was trimmed", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        const tp = { topic, partition: 0 }
        for (const value of ["a", "b", "c"]) yield* log.append(topic, new Map([[0, [record(value), record(value)]]]))
        yield* log.trim(tp, 4n)
        yield* log.trim(tp, 2n)
        expect(yield* log.partitions(topic)).toEqual([{ ...tp, first: 4n, end: 6n }])
        const below = yield* Effect.flip(reader.read(tp, 3n, plenty))
        expect(below).toMatchObject({ _tag: "OffsetOutOfRange", first: 4n, end: 6n })
        expect([...(yield* reader.read(tp, 4n, plenty)).records].map((one) => text(one.value))).toEqual(["c", "c"])
        yield* log.trim(tp, 100n)
        expect(yield* log.partitions(topic)).toEqual([{ ...tp, first: 6n, end: 6n }])
        expect(yield* log.append(topic, new Map([[0, [record("d")]]]))).toEqual([{ ...tp, start: 6n, end: 7n }])
        expect([...(yield* reader.read(tp, 6n, plenty)).records].map((one) => text(one.value))).toEqual(["d"])
        expect((yield* Effect.flip(reader.read(tp, 5n, plenty)))._tag).toBe("OffsetOutOfRange")
      }))

      run("tells where records of a time begin", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 2)
        const day = Date.parse("2026-11-01T00:00:00Z")
        for (const hour of [1, 2, 3]) yield* log.append(topic, new Map([[0, [{ ...record("a"), timestampMs: day + hour * 3_600_000 }]]]))
        const at = (hour: number) => Effect.map(log.olderThan(topic, day + hour * 3_600_000), (all) => all.map(({ offset, partition }) => [partition, offset]))
        expect(yield* at(0)).toEqual([[0, 0n], [1, 0n]])
        expect(yield* at(2)).toEqual([[0, 1n], [1, 0n]])
        expect(yield* at(2.5)).toEqual([[0, 2n], [1, 0n]])
        expect(yield* at(4)).toEqual([[0, 3n], [1, 0n]])
      }))

      run("never sees a gap while eight append at once", (log, topic) => Effect.gen(function*() {
        const appenders = 8
        const appends = 25
        const partitions = [0, 1]
        yield* log.ensureTopic(topic, 2)
        const reader = yield* openAll(log, topic, 2)
        const total = appenders * appends * 3
        const appendOne = (who: number, which: number) => {
          const list = Array.from({ length: 3 }, (_, at) => record(`${who}/${which}/${at}`))
          // Half of them name the partitions the other way round.
          return log.append(topic, new Map(who % 2 === 0 ? [[0, list], [1, list]] : [[1, list], [0, list]]))
        }
        const seen = yield* Effect.forEach(partitions, () => Ref.make<ReadonlyArray<string>>([]))
        const follow = (partition: number) => Effect.gen(function*() {
          for (let at = 0n; at < BigInt(total); ) {
            const batch = yield* reader.read({ topic, partition }, at, { ...plenty, recordsMax: 40 })
            expect(batch.start).toBe(at)
            let next = at
            for (const one of batch.records) expect(one.offset).toBe(next++)
            expect(batch.end).toBe(at + BigInt(batch.records.length))
            yield* Ref.update(seen[partition]!, (all) => [...all, ...[...batch.records].map((one) => text(one.value) ?? "")])
            at = batch.end
            yield* Effect.yieldNow()
          }
        })
        const write = Effect.forEach(Array.from({ length: appenders }, (_, who) => who), (who) =>
          Effect.forEach(Array.from({ length: appends }, (_, which) => which), (which) =>
            Effect.zipRight(Effect.yieldNow(), appendOne(who, which)), { discard: true }),
          { concurrency: "unbounded", discard: true })
        yield* Effect.all([write, ...partitions.map(follow)], { concurrency: "unbounded", discard: true })
        for (const partition of partitions) {
          const all = yield* Ref.get(seen[partition]!)
          expect(all).toHaveLength(total)
          expect(new Set(all).size).toBe(total)
          // An appender's own appends keep their order.
          for (let who = 0; who < appenders; who++) {
            const own = all.filter((value) => value.startsWith(`${who}/`)).map((value) => Number(value.split("/")[1]))
            expect(own).toEqual([...own].sort((a, b) => a - b))
          }
        }
      }))
    })

    describe("hints", () => {
      run("tell that a topic may have grown, also before", (log, topic) => Effect.gen(function*() {
        yield* log.ensureTopic(topic, 1)
        const reader = yield* openAll(log, topic, 1)
        yield* log.append(topic, new Map([[0, [record("0")]]]))
        // A reader that polls on hints only gets everything, whenever it began to listen.
        const following = reader.arrivals.pipe(
          Stream.mapAccumEffect(0n, (at) =>
            Effect.map(reader.read({ topic, partition: 0 }, at, plenty), (batch) => [batch.end, [...batch.records]] as const)),
          Stream.flattenIterables,
          Stream.take(4),
          Stream.runCollect
        )
        const writer = Effect.forEach(["1", "2", "3"], (value) => log.append(topic, new Map([[0, [record(value)]]])))
        const [records] = yield* Effect.all([following, writer], { concurrency: 2 })
        expect(Chunk.toReadonlyArray(records).map((one) => text(one.value))).toEqual(["0", "1", "2", "3"])
      }))
    })
  })
}
