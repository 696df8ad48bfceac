import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import * as Partitioner from "@voltlake/event-log/Partitioner"
import * as Ingest from "./Ingest.ts"

const topic = "telemetry_raw"
const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | null) => (value === null ? null : new TextDecoder().decode(value))

const records = Effect.gen(function*() {
  const log = yield* EventLog
  const reader = yield* log.open(topic, "test")
  return yield* Effect.forEach(yield* reader.assigned, (partition) =>
    Effect.map(reader.read(partition, partition.first, { recordsMax: 1e6, bytesMax: 1e9 }), (batch) => [...batch.records]))
}).pipe(Effect.scoped)

describe("Ingest", () => {
  it.effect("keeps a vehicle's messages in one partition, that of Kafka's partitioner, and in order", () =>
    Effect.gen(function*() {
      const ingest = yield* Ingest.make({ topic, partitions: 5 })
      const vehicles = Array.from({ length: 20 }, (_, at) => `vehicle-${at}`)
      for (let round = 0; round < 3; round++) {
        yield* ingest.send(vehicles.map((vehicle) => ({ key: bytes(vehicle), value: bytes(`${vehicle} ${round}`) })), [])
      }
      const found = yield* records
      for (const vehicle of vehicles) {
        const at = Partitioner.partitionOf(bytes(vehicle), 5)
        const values = found.map((list) => list.filter((one) => text(one.key) === vehicle).map((one) => text(one.value)))
        expect(values[at]).toEqual([`${vehicle} 0`, `${vehicle} 1`, `${vehicle} 2`])
        expect(values.flat()).toHaveLength(3)
      }
    }).pipe(Effect.provide(MemoryEventLog.layer)))

  it.effect("spreads messages without a key over all partitions", () =>
    Effect.gen(function*() {
      const ingest = yield* Ingest.make({ topic, partitions: 3 })
      for (let at = 0; at < 30; at++) yield* ingest.send([{ key: null, value: bytes(`${at}`) }], [])
      expect((yield* records).map((list) => list.length)).toEqual([10, 10, 10])
    }).pipe(Effect.provide(MemoryEventLog.layer)))

  it.effect("answers the ranges that the messages got, and hands on headers, nulls and the time of sending", () =>
    Effect.gen(function*() {
      const ingest = yield* Ingest.make({ topic, partitions: 1 })
      const headers = [{ key: "h", value: bytes("v") }]
      expect(yield* ingest.send([], headers)).toEqual([])
      expect(yield* ingest.send([{ key: null, value: null }, { key: null, value: bytes("") }], headers)).toEqual([
        { topic, partition: 0, start: 0n, end: 2n }
      ])
      expect((yield* records)[0]).toEqual([
        { offset: 0n, timestampMs: 0, key: null, value: null, headers },
        { offset: 1n, timestampMs: 0, key: null, value: bytes(""), headers }
      ])
    }).pipe(Effect.provide(MemoryEventLog.layer)))

  it.effect("uses all partitions of a topic that has more than it was told to make", () =>
    Effect.gen(function*() {
      yield* (yield* EventLog).ensureTopic(topic, 6)
      const ingest = yield* Ingest.make({ topic, partitions: 2 })
      yield* ingest.send(Array.from({ length: 60 }, (_, at) => ({ key: bytes(`v${at}`), value: null })), [])
      const found = yield* records
      expect(found.map((list) => list.length).every((length) => length > 0)).toBe(true)
    }).pipe(Effect.provide(MemoryEventLog.layer)))
})
