import { describe, expect, it } from "@effect/vitest"
import { Chunk, Context, Deferred, Duration, Effect, Either, Fiber, Layer, TestClock } from "effect"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import { Records } from "@voltlake/event-log/Records"
import * as StageLake from "@voltlake/testing/StageLake"
import { resumeAt } from "./Bronze.ts"

const { bronze, drain, inProcess, query, record, send, stepOnce, topic } = StageLake

const lake = <A, E>(title: string, body: Effect.Effect<A, E, Layer.Layer.Success<typeof StageLake.durable>>) =>
  it.live(title, () => Effect.provide(body, StageLake.durable))

const offsets = Effect.map(
  query(({ bronze: rows }) => `SELECT "partition" AS p, "offset" AS o FROM ${rows} ORDER BY ALL`),
  (rows) => rows.map((row) => `${row["p"]}/${row["o"]}`)
)

const counters = Effect.map(StageLake.progress(telemetryRaw), (progress) => {
  expect(Progress.check(progress)).toEqual(Either.right(progress))
  return Object.fromEntries(Array.from(progress, ([key, { lost, position, rows, skipped, start }]) =>
    [key, { start, position, rows, skipped, lost }]))
})

const snapshots = Effect.map(StageLake.metadata(telemetryRaw), (metadata) => metadata.snapshots.length)

const every = Uint8Array.from({ length: 256 }, (_, at) => at)
const bytes = (text: string) => new TextEncoder().encode(text)
const hex = (value: Uint8Array | null) => (value === null ? null : Buffer.from(value).toString("hex").toUpperCase())

describe("Bronze", () => {
  lake("keeps every record byte for byte, with its time, headers and offset", Effect.gen(function*() {
    const given = [
      record("{\"a\":1}", { key: bytes("v1") }),
      record(null, { key: bytes("tombstone") }),
      record("", { key: bytes("") }),
      record(every, { key: null }),
      record(null),
      record("two of one name", { headers: [{ key: "a", value: null }, { key: "a", value: bytes("") }, { key: "", value: every }] }),
      record("late", { timestampMs: 0 }),
      record("far", { timestampMs: 4_102_444_800_123, headers: [{ key: "ключ'", value: bytes("x") }] })
    ]
    yield* send(0, given)
    yield* inProcess(drain(bronze()))
    const rows = yield* query(({ bronze: all }) => `
      SELECT topic, "partition" AS p, "offset" AS o, epoch_ms("timestamp") AS ms, hex("key") AS k, hex("value") AS v, len(headers) AS headers,
        list_transform(headers, lambda h: h.key || '=' || coalesce(hex(h.value), 'null'))::VARCHAR AS texts
      FROM ${all} ORDER BY "offset"`)
    expect(rows).toEqual(given.map((one, at) => ({
      topic,
      p: 0,
      o: BigInt(at),
      ms: BigInt(one.timestampMs),
      k: hex(one.key),
      v: hex(one.value),
      headers: BigInt(one.headers.length),
      texts: `[${one.headers.map(({ key, value }) => `${key === "" ? "" : key}=${hex(value) ?? "null"}`).map(quoted).join(", ")}]`
    })))
    expect(yield* counters).toEqual({ "telemetry_raw-0": { start: 0n, position: 8n, rows: 8n, skipped: 0n, lost: 0n } })
  }))

  lake("goes on from the table's position, whichever process reads", Effect.gen(function*() {
    yield* send(0, ["a", "b", "c"])
    yield* send(1, ["d"])
    expect(yield* stepOnce(bronze({ batchRowsMax: 2 }))).toBe("advanced")
    expect(yield* offsets).toEqual(["0/0", "1/0"])
    expect(yield* stepOnce(bronze())).toBe("advanced")
    expect(yield* offsets).toEqual(["0/0", "0/1", "0/2", "1/0"])
    yield* send(1, ["e"])
    yield* inProcess(drain(bronze()))
    expect(yield* offsets).toEqual(["0/0", "0/1", "0/2", "1/0", "1/1"])
    expect(yield* snapshots).toBe(3)
  }))

  lake("reads on in small bites where a batch may hold few bytes", Effect.gen(function*() {
    yield* send(0, Array.from({ length: 20 }, (_, at) => `${at}`.padEnd(1000)))
    yield* inProcess(drain(bronze({ batchBytesMax: 3000 })))
    expect(yield* offsets).toHaveLength(20)
    expect(yield* snapshots).toBeGreaterThan(5)
  }))

  lake("makes no commit where nothing is new", Effect.gen(function*() {
    expect(yield* stepOnce(bronze())).toBe("idle")
    yield* send(0, [])
    expect(yield* stepOnce(bronze())).toBe("idle")
    yield* send(0, ["a"])
    yield* inProcess(drain(bronze()))
    expect(yield* stepOnce(bronze())).toBe("idle")
    expect(yield* snapshots).toBe(1)
  }))

  lake("takes in a partition that was added later", Effect.gen(function*() {
    yield* send(0, ["a"])
    yield* inProcess(drain(bronze()))
    const log = yield* EventLog
    yield* log.ensureTopic(topic, 3)
    yield* send(2, ["b"])
    yield* inProcess(drain(bronze()))
    expect(yield* offsets).toEqual(["0/0", "2/0"])
    expect((yield* counters)["telemetry_raw-2"]).toEqual({ start: 0n, position: 1n, rows: 1n, skipped: 0n, lost: 0n })
  }))

  lake("lets one of two processes that read the same offsets commit, and the other give up", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    const log = yield* EventLog
    const hasRead = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const slowLog = EventLog.of({
      ...log,
      open: (...args) =>
        Effect.map(log.open(...args), (reader) => ({
          ...reader,
          read: (...range) =>
            Effect.tap(reader.read(...range), () => Effect.zipRight(Deferred.succeed(hasRead, undefined), Deferred.await(mayGoOn)))
        }))
    })
    const slow = yield* Effect.fork(Effect.flip(stepOnce(bronze()).pipe(Effect.provideService(EventLog, slowLog))))
    yield* Deferred.await(hasRead)
    yield* send(0, ["c"])
    expect(yield* stepOnce(bronze())).toBe("advanced")
    yield* Deferred.succeed(mayGoOn, undefined)
    expect(yield* Fiber.join(slow)).toMatchObject({ _tag: "OffsetOverlap", position: 3n, start: 0n })
    expect(yield* offsets).toEqual(["0/0", "0/1", "0/2"])
    expect((yield* counters)["telemetry_raw-0"]).toMatchObject({ position: 3n, rows: 3n })
  }))

  lake("stops where the log dropped records before they were read, and says what to do", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    yield* inProcess(drain(bronze()))
    yield* send(0, ["c", "d", "e"])
    const log = yield* EventLog
    yield* log.trim({ topic, partition: 0 }, 4n)
    const stopped = yield* Effect.flip(stepOnce(bronze()))
    expect(stopped).toMatchObject({ _tag: "StageStopped", stage: "bronze" })
    expect(stopped.message).toContain("dropped 2 records of telemetry_raw-0 (offsets 2 to 4)")
    expect(stopped.message).toContain("BRONZE_ACCEPT_LOSS=true")
    expect(yield* snapshots).toBe(1)

    yield* inProcess(drain(bronze({ acceptLoss: true })))
    expect(yield* offsets).toEqual(["0/0", "0/1", "0/4"])
    expect((yield* counters)["telemetry_raw-0"]).toEqual({ start: 0n, position: 5n, rows: 3n, skipped: 0n, lost: 2n })
  }))

  lake("counts a loss where the log has dropped everything, too", Effect.gen(function*() {
    yield* send(0, ["a"])
    yield* inProcess(drain(bronze()))
    yield* send(0, ["b", "c"])
    yield* (yield* EventLog).trim({ topic, partition: 0 }, 3n)
    yield* inProcess(drain(bronze({ acceptLoss: true })))
    expect((yield* counters)["telemetry_raw-0"]).toEqual({ start: 0n, position: 3n, rows: 1n, skipped: 0n, lost: 2n })
  }))

  lake("begins a log that was trimmed before at its first offset, without calling that a loss", Effect.gen(function*() {
    yield* send(0, ["a", "b", "c"])
    yield* (yield* EventLog).trim({ topic, partition: 0 }, 2n)
    yield* inProcess(drain(bronze()))
    expect((yield* counters)["telemetry_raw-0"]).toEqual({ start: 2n, position: 3n, rows: 1n, skipped: 0n, lost: 0n })
  }))

  const hindrances = Effect.flatMap(bronze(), (stage) => Effect.zipRight(stage.step, stage.hindrances))

  lake("reads a log no further that is shorter than what it has read, and the other partitions on", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    yield* inProcess(drain(bronze()))
    const found = yield* Effect.provide(
      Effect.zipRight(Effect.all([send(0, ["other"]), send(1, ["c"])]), inProcess(hindrances)),
      Layer.fresh(MemoryEventLog.layer)
    )
    expect(found).toHaveLength(1)
    expect(found[0]).toContain("LogReplaced: telemetry_raw-0 is not read any further, it ends at offset 1, but bronze has read up to 2")
    expect(found[0]).toContain("voltlake log adopt")
    expect(yield* offsets).toEqual(["0/0", "0/1", "1/0"])
  }))

  lake("knows another log by its identity, however long it is", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    yield* inProcess(drain(bronze()))
    const found = yield* Effect.provide(
      Effect.zipRight(send(0, ["a", "b", "c"]), inProcess(hindrances)),
      Layer.fresh(MemoryEventLog.layer)
    )
    expect(found[0]).toMatch(/it is of log memory-\S+, but bronze has read log memory-/)
    expect(yield* offsets).toEqual(["0/0", "0/1"])
  }))

  lake("knows a topic that was made anew by its last record", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    yield* inProcess(drain(bronze()))
    const identity = yield* (yield* EventLog).identity
    const anew = Layer.map(Layer.fresh(MemoryEventLog.layer), (context) =>
      Context.make(EventLog, { ...Context.get(context, EventLog), identity: Effect.succeed(identity) }))
    const found = yield* Effect.provide(Effect.zipRight(send(0, ["a", "x", "c"]), inProcess(hindrances)), anew)
    expect(found[0]).toContain("its record at offset 1 is another than the one bronze has read")
    expect(yield* offsets).toEqual(["0/0", "0/1"])
    // The same records again are the same log, as after a copy to other disks.
    expect(yield* Effect.provide(Effect.zipRight(send(0, ["a", "b", "c"]), inProcess(hindrances)), Layer.fresh(anew))).toEqual([])
    expect(yield* offsets).toEqual(["0/0", "0/1", "0/2"])
  }))

  lake("names an open transaction that holds a partition back, and reads the others on", Effect.gen(function*() {
    yield* send(0, ["a", "b"])
    yield* send(1, ["c"])
    const log = yield* EventLog
    // A log that holds offset 1 of partition 0 and gives nothing of it yet.
    const holding = EventLog.of({
      ...log,
      open: (...args) =>
        Effect.map(log.open(...args), (reader) => ({
          ...reader,
          read: (tp, offset, limits) =>
            reader.read(tp, offset, tp.partition === 0 && offset === 0n ? { ...limits, recordsMax: 1 } : limits).pipe(
              Effect.map((batch) => tp.partition === 0 && offset > 0n ? { ...batch, end: offset, records: Records.empty } : batch)
            )
        }))
    })
    const found = yield* inProcess(Effect.gen(function*() {
      const stage = yield* bronze()
      const outcomes = yield* Effect.all([stage.step, stage.step])
      return { outcomes, hindrances: yield* stage.hindrances }
    })).pipe(Effect.provideService(EventLog, holding))
    expect(found.outcomes).toEqual(["advanced", "idle"])
    expect(found.hindrances).toEqual([expect.stringContaining("telemetry_raw-0 is held back at offset 1 by an open transaction (its log ends at 2)")])
    expect(yield* offsets).toEqual(["0/0", "1/0"])
    yield* inProcess(drain(bronze()))
    expect(yield* offsets).toEqual(["0/0", "0/1", "1/0"])
  }))

  it.effect("waits for more records until the commit interval is over", () =>
    Effect.gen(function*() {
      const interval = Duration.seconds(5)
      const stage = yield* bronze({ commitInterval: interval, batchRowsMax: 100 })
      yield* send(0, ["a"])
      yield* stage.step
      const step = yield* Effect.fork(Effect.zipRight(send(0, ["b"]), stage.step))
      yield* Effect.raceFirst(Effect.repeat(TestClock.sleeps(), { until: Chunk.isNonEmpty }), Fiber.join(step))
      yield* send(0, ["c"])
      yield* TestClock.adjust(interval)
      expect(yield* Fiber.join(step)).toBe("advanced")
      expect(yield* snapshots).toBe(2)
      expect(yield* offsets).toEqual(["0/0", "0/1", "0/2"])
      // A full batch waits for nothing: the clock stands still.
      yield* send(0, Array.from({ length: 100 }, () => "full"))
      expect(yield* stage.step).toBe("advanced")
      expect(yield* offsets).toHaveLength(103)
    }).pipe(inProcess, Effect.provide(StageLake.durable)))

  it.effect("stops where the log dropped records while it waited for more", () =>
    Effect.gen(function*() {
      const interval = Duration.seconds(5)
      const stage = yield* bronze({ commitInterval: interval })
      yield* send(0, ["a"])
      yield* stage.step
      const step = yield* Effect.fork(Effect.zipRight(send(0, ["b", "c"]), Effect.flip(stage.step)))
      yield* Effect.raceFirst(Effect.repeat(TestClock.sleeps(), { until: Chunk.isNonEmpty }), Fiber.join(step))
      yield* (yield* EventLog).trim({ topic, partition: 0 }, 2n)
      yield* TestClock.adjust(interval)
      const stopped = yield* Fiber.join(step)
      expect(stopped).toMatchObject({ _tag: "StageStopped", stage: "bronze" })
      expect(stopped.message).toContain("dropped 1 records of telemetry_raw-0 (offsets 1 to 2)")
      expect(yield* offsets).toEqual(["0/0"])
    }).pipe(inProcess, Effect.provide(StageLake.durable)))
})

const quoted = (text: string) => (/['=\s]/.test(text) ? `'${text.replaceAll("'", "\\'")}'` : text)

describe("resumeAt", () => {
  const at = (position: bigint) =>
    new Map([["t-0", new Progress.PartitionProgress({
      start: 0n,
      position,
      rows: position,
      skipped: 0n,
      lost: 0n,
      rejected: 0n,
      duplicates: 0n
    })]])
  it.each([
    ["an unknown partition begins at the log's first offset", Progress.empty, 5n, { start: 5n, lost: 0n }],
    ["a known one goes on", at(7n), 5n, { start: 7n, lost: 0n }],
    ["at the log's first offset nothing is lost", at(5n), 5n, { start: 5n, lost: 0n }],
    ["what the log dropped is counted", at(2n), 5n, { start: 2n, lost: 3n }]
  ])("%s", (_, progress, first, expected) => {
    expect(resumeAt(progress, { topic: "t", partition: 0, first, end: 9n })).toEqual(expected)
  })
})
