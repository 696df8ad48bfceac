import { describe, expect, it } from "@effect/vitest"
import { Data, Duration, Effect, Fiber, Queue, Ref, Stream, TestClock } from "effect"
import { backoff, defaultSettings, layerHealth, run, StageHealth, StageStopped } from "./Stage.ts"

class Away extends Data.TaggedError("Away") {
  override readonly message = "the store is away"
}

const none = Effect.succeed([])

const stateOf = (name: string) =>
  Effect.gen(function*() {
    const states = yield* (yield* StageHealth).all
    return states.find((health) => health.stage === name)
  })

describe("Stage.run", () => {
  it.effect("steps on without waiting while there is work, then waits for a wake-up", () =>
    Effect.gen(function*() {
      const steps = yield* Ref.make(0)
      const wakeUps = yield* Queue.unbounded<void>()
      const stage = {
        name: "s",
        hindrances: none,
        step: Ref.updateAndGet(steps, (n) => n + 1).pipe(Effect.map((n) => n === 3 || n > 4 ? "idle" as const : "advanced" as const)),
        wake: Stream.fromQueue(wakeUps)
      }
      const fiber = yield* Effect.fork(run(stage))
      yield* TestClock.adjust(Duration.millis(1))
      expect(yield* Ref.get(steps)).toBe(3)
      yield* Queue.offer(wakeUps, undefined)
      yield* TestClock.adjust(Duration.millis(1))
      expect(yield* Ref.get(steps)).toBe(5)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(layerHealth)))

  it.effect("polls where a wake-up was missed", () =>
    Effect.gen(function*() {
      const steps = yield* Ref.make(0)
      const stage = { name: "s", hindrances: none, step: Ref.update(steps, (n) => n + 1).pipe(Effect.as("idle" as const)), wake: Stream.never }
      const fiber = yield* Effect.fork(run(stage))
      yield* TestClock.adjust(Duration.seconds(5))
      expect(yield* Ref.get(steps)).toBe(6)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(layerHealth)))

  it.effect("waits with backoff while the outside is away, says so, and goes on by itself", () =>
    Effect.gen(function*() {
      const steps = yield* Ref.make(0)
      const stage = {
        name: "s",
        hindrances: none,
        step: Ref.updateAndGet(steps, (n) => n + 1).pipe(
          Effect.flatMap((n) => (n <= 3 ? Effect.fail(new Away()) : Effect.succeed("idle" as const)))
        ),
        wake: Stream.never
      }
      const fiber = yield* Effect.fork(run(stage))
      yield* TestClock.adjust(Duration.millis(1))
      expect(yield* stateOf("s")).toMatchObject({ state: "waiting", reason: "the store is away" })
      yield* TestClock.adjust(Duration.millis(700))
      expect(yield* stateOf("s")).toMatchObject({ state: "running", reason: "" })
      expect(yield* Ref.get(steps)).toBe(4)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(layerHealth)))

  it.effect("stops for good when going on could damage data", () =>
    Effect.gen(function*() {
      const steps = yield* Ref.make(0)
      const stage = {
        name: "s",
        hindrances: none,
        step: Ref.update(steps, (n) => n + 1).pipe(
          Effect.zipRight(new StageStopped({ stage: "s", reason: "offsets are missing", remedy: "Look." }))
        ),
        wake: Stream.never
      }
      yield* run(stage)
      expect(yield* Ref.get(steps)).toBe(1)
      expect(yield* stateOf("s")).toMatchObject({ state: "stopped", reason: "s stopped: offsets are missing. Look." })
    }).pipe(Effect.provide(layerHealth)))
})

describe("backoff", () => {
  it.each([[1, 100], [2, 200], [5, 1600], [7, 6400], [8, 10_000], [1000, 10_000]])("after %i failures waits %i ms", (failures, ms) => {
    expect(Duration.toMillis(backoff(defaultSettings, failures))).toBe(ms)
  })
})
