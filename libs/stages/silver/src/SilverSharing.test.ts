// Several silver processes over one lake, each with its share of the partitions, their commits interleaved by force.
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, type Layer, Stream } from "effect"
import { join } from "node:path"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as StageLake from "@voltlake/testing/StageLake"
import type { Share } from "./Silver.ts"

const { bronze, drain, event, inProcess, query, send } = StageLake

type DurableParts = Layer.Layer.Success<typeof StageLake.durable>

const lake = <A, E>(title: string, body: Effect.Effect<A, E, DurableParts>) => it.live(title, () => Effect.provide(body, StageLake.durable))

const only = (partition: number): Share => ({
  of: (partitions) => Effect.succeed(partitions.filter((key) => key.endsWith(`-${partition}`))),
  changes: Stream.empty
})

/** The silver process that works the partition. */
const silverOf = (partition: number) =>
  Effect.flatMap(StageLake.Folder, (folder) => StageLake.silverAt(join(folder, `keys-${partition}.duckdb`), only(partition)))

const step = (partition: number) => inProcess(Effect.flatMap(silverOf(partition), (stage) => stage.step))

/** Runs the effect after the process of `partition` has compared its batch with silver, and before it commits. Answers what became of its step. */
const stepAround = <A, E, R>(partition: number, between: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const store = yield* ObjectStore
    const hasCompared = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const slow = ObjectStore.of({
      ...store,
      putFile: (key, path) =>
        Effect.zipRight(Effect.zipRight(Deferred.succeed(hasCompared, undefined), Deferred.await(mayGoOn)), store.putFile(key, path))
    })
    const fiber = yield* Effect.fork(Effect.either(step(partition).pipe(Effect.provideService(ObjectStore, slow))))
    yield* Deferred.await(hasCompared)
    yield* between
    yield* Deferred.succeed(mayGoOn, undefined)
    return yield* Fiber.join(fiber)
  })

const kept = Effect.map(
  query(({ clean }) => `SELECT event_id || ' at ' || "partition" || '/' || "offset" AS row FROM ${clean} ORDER BY ALL`),
  (rows) => rows.map(({ row }) => row)
)

const counters = Effect.map(StageLake.progress(telemetryClean), (progress) =>
  Object.fromEntries(Array.from(progress, ([key, { duplicates, position, rows }]) => [key, { position, rows, duplicates }])))

describe("Silver in several processes", () => {
  lake("works its own partitions only", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* send(1, [event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    expect(yield* step(1)).toBe("advanced")
    expect(yield* kept).toEqual(["b at 1/0"])
    expect(yield* step(1)).toBe("idle")
    expect(yield* step(0)).toBe("advanced")
    expect(yield* kept).toEqual(["a at 0/0", "b at 1/0"])
  }))

  lake("commits a batch as it is where others committed other events since it was compared", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), event({ id: "a" })])
    yield* send(1, [event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    const others = Effect.gen(function*() {
      yield* step(1)
      yield* send(1, [event({ id: "c" })])
      yield* inProcess(drain(bronze()))
      yield* step(1)
    })
    expect(yield* stepAround(0, others)).toMatchObject({ _tag: "Right", right: "advanced" })
    expect(yield* kept).toEqual(["a at 0/0", "b at 1/0", "c at 1/1"])
    expect(yield* counters).toEqual({
      "telemetry_raw-0": { position: 2n, rows: 1n, duplicates: 1n },
      "telemetry_raw-1": { position: 2n, rows: 2n, duplicates: 0n }
    })
  }))

  lake("leaves out what others committed of its batch since it was compared, and keeps that event once", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), event({ id: "both" })])
    yield* send(1, [event({ id: "both" }), event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    expect(yield* stepAround(0, step(1))).toMatchObject({ _tag: "Right", right: "advanced" })
    expect(yield* kept).toEqual(["a at 0/0", "b at 1/1", "both at 1/0"])
    expect((yield* counters)["telemetry_raw-0"]).toEqual({ position: 2n, rows: 1n, duplicates: 1n })
    expect(yield* step(0)).toBe("idle")
  }))

  lake("has nothing left to write where others committed all of its batch", Effect.gen(function*() {
    yield* send(0, [event({ id: "both" }), event({ id: "both" })])
    yield* send(1, [event({ id: "both" })])
    yield* inProcess(drain(bronze()))
    expect(yield* stepAround(0, step(1))).toMatchObject({ _tag: "Right", right: "advanced" })
    expect(yield* kept).toEqual(["both at 1/0"])
    expect((yield* counters)["telemetry_raw-0"]).toEqual({ position: 2n, rows: 0n, duplicates: 2n })
  }))

  lake("compares later batches with what came in between, and with its own batch", Effect.gen(function*() {
    const twice = Effect.gen(function*() {
      yield* send(0, [event({ id: "a" })])
      yield* send(1, [event({ id: "b" })])
      yield* inProcess(drain(bronze()))
      // One process for both steps: its key index is the one that was brought up between two tries.
      const store = yield* ObjectStore
      const hasCompared = yield* Deferred.make<void>()
      const mayGoOn = yield* Deferred.make<void>()
      const gate = Effect.zipRight(Deferred.succeed(hasCompared, undefined), Deferred.await(mayGoOn))
      const slow = ObjectStore.of({ ...store, putFile: (key, path) => Effect.zipRight(gate, store.putFile(key, path)) })
      const process = yield* Effect.fork(inProcess(Effect.gen(function*() {
        const stage = yield* silverOf(0)
        yield* stage.step
        yield* send(0, [event({ id: "b" }), event({ id: "a" }), event({ id: "c" })])
        yield* inProcess(drain(bronze()))
        return yield* stage.step
      })).pipe(Effect.provideService(ObjectStore, slow)))
      yield* Deferred.await(hasCompared)
      yield* step(1)
      yield* Deferred.succeed(mayGoOn, undefined)
      return yield* Fiber.join(process)
    })
    expect(yield* twice).toBe("advanced")
    expect(yield* kept).toEqual(["a at 0/0", "b at 1/0", "c at 0/3"])
    const progress = yield* StageLake.progress(telemetryClean)
    expect(Progress.total(progress, "duplicates")).toBe(2n)
  }))
})
