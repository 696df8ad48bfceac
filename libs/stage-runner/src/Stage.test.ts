import { describe, expect, it } from "@effect/vitest"
import { Data, Deferred, Duration, Effect, Fiber, Metric, Queue, Ref, Stream, TestClock } from "effect"
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

  it.effect("lets the step under way come to its end when it is interrupted, and begins no other", () =>
    Effect.gen(function*() {
      const begun = yield* Ref.make(0)
      const ended = yield* Ref.make(0)
      const isUnderWay = yield* Deferred.make<void>()
      const step = Ref.update(begun, (n) => n + 1).pipe(
        Effect.zipRight(Deferred.succeed(isUnderWay, undefined)),
        Effect.zipRight(Effect.sleep(Duration.seconds(3))),
        Effect.zipRight(Ref.update(ended, (n) => n + 1)),
        Effect.as("advanced" as const)
      )
      const fiber = yield* Effect.fork(run({ name: "s", hindrances: none, step, wake: Stream.never }))
      yield* Deferred.await(isUnderWay)
      const end = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust(Duration.seconds(4))
      yield* Fiber.join(end)
      expect([yield* Ref.get(begun), yield* Ref.get(ended)]).toEqual([1, 1])
    }).pipe(Effect.provide(layerHealth)))

  it.effect("interrupts the step under way where it takes too long", () =>
    Effect.gen(function*() {
      const isUnderWay = yield* Deferred.make<void>()
      const wasInterrupted = yield* Ref.make(false)
      const step = Effect.zipRight(Deferred.succeed(isUnderWay, undefined), Effect.never).pipe(Effect.onInterrupt(() => Ref.set(wasInterrupted, true)))
      const fiber = yield* Effect.fork(run({ name: "s", hindrances: none, step, wake: Stream.never }))
      yield* Deferred.await(isUnderWay)
      const end = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust(Duration.seconds(4))
      expect(yield* Ref.get(wasInterrupted)).toBe(false)
      yield* TestClock.adjust(Duration.seconds(2))
      yield* Fiber.join(end)
      expect(yield* Ref.get(wasInterrupted)).toBe(true)
    }).pipe(Effect.provide(layerHealth)))

  it.effect("counts what a stage does, and says when its state began whatever reason it gives", () =>
    Effect.gen(function*() {
      const outcomes = yield* Ref.make(0)
      const step = Ref.updateAndGet(outcomes, (n) => n + 1).pipe(
        Effect.flatMap((n): Effect.Effect<"advanced" | "idle", Away> => n <= 2 ? Effect.succeed("advanced") : n <= 4 ? Effect.fail(new Away()) : Effect.succeed("idle"))
      )
      const fiber = yield* Effect.fork(run({ name: "counted", hindrances: none, step, wake: Stream.never }))
      yield* TestClock.adjust(Duration.millis(150))
      expect(yield* stateOf("counted")).toMatchObject({ state: "waiting", sinceMs: 0 })
      yield* TestClock.adjust(Duration.millis(500))
      yield* Fiber.interrupt(fiber)
      const found = (yield* Metric.snapshot).flatMap(({ metricKey, metricState }) => {
        const tags = metricKey.tags.map(({ value }) => value)
        return tags.includes("counted") ? [[`${metricKey.name} ${tags.join(" ")}`, metricState] as const] : []
      })
      const byName = new Map(found)
      expect(byName.get("lake_stage_commits_total counted")).toMatchObject({ count: 2 })
      expect(byName.get("lake_stage_failures_total counted Away")).toMatchObject({ count: 2 })
      expect(byName.get("lake_stage_step_duration_seconds counted")).toMatchObject({ count: 5 })
      expect(byName.get("lake_stage_state counted running")).toMatchObject({ value: 1 })
      expect(byName.get("lake_stage_state counted waiting")).toMatchObject({ value: 0 })
    }).pipe(Effect.provide(layerHealth)))
})

describe("backoff", () => {
  it.each([[1, 100], [2, 200], [5, 1600], [6, 2000], [8, 2000], [1000, 2000]])("after %i failures waits %i ms", (failures, ms) => {
    expect(Duration.toMillis(backoff(defaultSettings, failures))).toBe(ms)
  })
})
