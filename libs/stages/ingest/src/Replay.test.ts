import { NodeContext } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Layer, TestClock } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as Ingest from "./Ingest.ts"
import * as Replay from "./Replay.ts"

const topic = "telemetry_raw"
const partitions = 3

const parts = Ingest.layer({ topic, partitions }).pipe(Layer.provideMerge(MemoryEventLog.layer), Layer.provideMerge(NodeContext.layer))

const replay = (files: ReadonlyArray<string>, options: Partial<Replay.ReplayOptions> = {}) =>
  Replay.run({ id: "replay-1", files, speed: "max", onProgress: () => Effect.void, ...options })

const all = Effect.gen(function*() {
  const log = yield* EventLog
  const reader = yield* log.open(topic, "test")
  return yield* Effect.forEach(yield* reader.assigned, (partition) =>
    Effect.map(reader.read(partition, partition.first, { recordsMax: 1e6, bytesMax: 1e9 }), (batch) => [...batch.records]))
}).pipe(Effect.scoped)

const text = (value: Uint8Array | null) => (value === null ? "null" : Buffer.from(value).toString("latin1"))
const values = Effect.map(all, (found) => found.flatMap((records) => records.map((one) => text(one.value))))

const line = (vehicle: string, at: number, time = "2025-03-01T08:00:00Z") => `{"event_id":"${at}","vehicle_id":"${vehicle}","event_time":"${time}"}`
const many = (count: number, from = 0) => Array.from({ length: count }, (_, at) => line(`v${(from + at) % 7}`, from + at))

/** Gives the test a way to write files, which go with it. */
const withFiles = <A, E, R>(use: (file: (name: string, content: string | Uint8Array) => Effect.Effect<string>, folder: string) => Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.flatMap(temporaryFolder, (folder) =>
    use((name, content) => Effect.as(Effect.promise(() => fs.writeFile(join(folder, name), content)), join(folder, name)), folder))).pipe(
      Effect.provide(Layer.fresh(parts))
    )

describe("Replay", () => {
  it.live("sends every line of every file once, each vehicle's in order, with the replay's id in a header", () =>
    withFiles((file) => Effect.gen(function*() {
      const lines = many(12_345)
      const first = yield* file("a.ndjson", lines.slice(0, 5000).map((one) => `${one}\n`).join(""))
      const second = yield* file("b.ndjson", lines.slice(5000).join("\r\n"))
      const progress: Array<Replay.Progress> = []
      const sent = yield* replay([first, second], { onProgress: (now) => Effect.sync(() => progress.push(now)) })
      expect(sent.events).toBe(lines.length)
      const found = yield* all
      expect(found.flat().map((one) => text(one.value)).toSorted()).toEqual(lines.toSorted())
      for (let vehicle = 0; vehicle < 7; vehicle++) {
        const mine = found.map((records) => records.map((one) => text(one.value)).filter((one) => one.includes(`"v${vehicle}"`)))
        expect(mine.filter((one) => one.length > 0)).toEqual([lines.filter((one) => one.includes(`"v${vehicle}"`))])
      }
      expect(new Set(found.flat().map((one) => one.headers.map(({ key, value }) => `${key}=${text(value)}`).join()))).toEqual(
        new Set([`${Replay.headerName}=replay-1`])
      )
      // The ranges of all sends are joined: one for each partition.
      expect(sent.ranges.toSorted((a, b) => a.partition - b.partition)).toEqual(
        found.map((records, partition) => ({ topic, partition, start: 0n, end: BigInt(records.length) })).filter(({ end }) => end > 0n)
      )
      const size = lines.join("\n").length + (lines.length - 5000 - 1)
      expect(progress.at(-1)).toEqual({ events: lines.length, bytes: size })
      expect(progress.map((one) => one.events)).toEqual(progress.map((one) => one.events).toSorted((a, b) => a - b))
    })))

  it.live("leaves apart what others sent between its own", () =>
    withFiles((file) => Effect.gen(function*() {
      const log = yield* EventLog
      const alone = yield* file("a", many(10).join("\n"))
      const before = yield* replay([alone])
      yield* log.append(topic, new Map([[0, [{ timestampMs: 0, key: null, value: null, headers: [] }]]]))
      const after = yield* replay([alone])
      for (const range of after.ranges) {
        const earlier = before.ranges.find((one) => one.partition === range.partition)!
        expect(range.start).toBe(earlier.end + (range.partition === 0 ? 1n : 0n))
      }
    })))

  it.live("tells gzip by content, whatever the name", () =>
    withFiles((file) => Effect.gen(function*() {
      const zipped = gzipSync(many(100).join("\n"))
      const odd = yield* file("zipped.ndjson", zipped)
      const plain = yield* file("plain.ndjson.gz", many(100, 100).join("\n"))
      // Several gzip members in one file are one stream (RFC 1952).
      const twice = yield* file("twice.gz", Buffer.concat([gzipSync(`${many(50, 200).join("\n")}\n`), gzipSync(many(50, 250).join("\n"))]))
      const sent = yield* replay([odd, plain, twice])
      expect(sent.events).toBe(300)
      expect((yield* values).toSorted()).toEqual(many(300).toSorted())
    })))

  it.live("keeps bytes that are no text, blank lines and empty files", () =>
    withFiles((file) => Effect.gen(function*() {
      const odd = Uint8Array.from([0xff, 0xfe, 0x00, 0x0a, 0x0a, 0x7b])
      const sent = yield* replay([yield* file("odd", odd), yield* file("empty", ""), yield* file("one byte", "x")])
      expect(sent.events).toBe(4)
      expect((yield* values).toSorted()).toEqual(["", "x", "{", "\xff\xfe\x00"].toSorted())
    })))

  it.live("names the file that cannot be read", () =>
    withFiles((file, folder) => Effect.gen(function*() {
      const damaged = gzipSync(many(1000).join("\n"))
      const broken = yield* file("broken.gz", damaged.subarray(0, damaged.length / 2))
      for (const path of [join(folder, "missing"), folder, broken]) {
        const error = yield* Effect.flip(replay([path]))
        expect(error).toMatchObject({ _tag: "ReplayFileError", file: path })
        expect(error.message).toContain(`cannot read ${path}`)
      }
    })))

  it.effect("paces events by their own times, at a multiple of real time", () =>
    withFiles((file) => Effect.gen(function*() {
      const at = (seconds: number) => line("v", seconds, new Date(Date.UTC(2025, 2, 1, 8, 0, seconds)).toISOString())
      // The one of second 5 is late, the one without a time is due at once.
      const path = yield* file("paced", [at(0), at(10), at(5), "{}", at(20), at(21)].join("\n"))
      const running = yield* Effect.fork(replay([path], { speed: 2 }))
      const count = Effect.map(values, (found) => found.length)
      const sleeping = Effect.raceFirst(Effect.repeat(TestClock.sleeps(), { until: Chunk.isNonEmpty }), Fiber.join(running))
      const seen: Array<readonly [number, number]> = []
      for (const [millis, after] of [[0, 0], [4999, 4999], [1, 5000], [4999, 9999], [1, 10_000], [499, 10_499], [1, 10_500]] as const) {
        yield* TestClock.adjust(millis)
        if (after < 10_500) yield* sleeping
        else yield* Fiber.join(running)
        seen.push([after, yield* count])
      }
      expect(seen).toEqual([[0, 1], [4999, 1], [5000, 4], [9999, 4], [10_000, 5], [10_499, 5], [10_500, 6]])
    })))
})
