import { describe, expect, it } from "@effect/vitest"
import { SqlError } from "@effect/sql/SqlError"
import { Duration, Effect, Fiber, Ref, TestClock } from "effect"
import { layerHealth, StageHealth } from "@voltlake/stage-runner/Stage"
import { isPassing, patiently } from "./Patience.ts"

const away = Object.assign(new Error("the store is away"), { retryable: true })
const refused = Object.assign(new Error("no such bucket"), { retryable: false })
const sql = (cause: object) => new SqlError({ cause: Object.assign(new Error("said"), cause), message: "Failed to execute statement" })

describe("patiently", () => {
  it.effect("waits while what is missing may come, says what that is, and goes on", () =>
    Effect.gen(function*() {
      const tries = yield* Ref.make(0)
      const connect = Effect.flatMap(Ref.updateAndGet(tries, (n) => n + 1), (n) => (n < 4 ? Effect.fail(away) : Effect.succeed("there")))
      const fiber = yield* Effect.fork(patiently("bronze", connect))
      yield* TestClock.adjust(Duration.millis(1))
      expect(yield* (yield* StageHealth).all).toMatchObject([{ stage: "bronze", state: "waiting", reason: "the store is away" }])
      yield* TestClock.adjust(Duration.seconds(30))
      expect(yield* Fiber.join(fiber)).toBe("there")
    }).pipe(Effect.provide(layerHealth)))

  it.effect("fails at once where somebody has to act", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(patiently("bronze", Effect.fail(refused)))).toBe(refused)
      expect(yield* (yield* StageHealth).all).toEqual([])
    }).pipe(Effect.provide(layerHealth)))
})

describe("isPassing", () => {
  it.each([
    ["a server that refuses connections", sql({ code: "ECONNREFUSED" }), true],
    ["a server that starts", sql({ code: "57P03", severity: "FATAL" }), true],
    ["a wrong password", sql({ code: "28P01", severity: "FATAL" }), false],
    ["a database that is not there", sql({ code: "3D000", severity: "FATAL" }), false],
    ["an error that says so", away, true],
    ["one that says otherwise", refused, false],
    ["any other", new Error("no"), false],
    ["nothing", undefined, false]
  ])("%s", (_, error, expected) => {
    expect(isPassing(error)).toBe(expected)
  })
})
