/** Waiting for servers that are not there yet, or away for a while: a process says so, and goes on by itself when they are back. */
import { SqlError } from "@effect/sql/SqlError"
import { Duration, Effect, Schedule } from "effect"
import { faultOf } from "@voltlake/postgres/SqlFault"
import { StageHealth } from "@voltlake/stage-runner/Stage"

const waits = Schedule.exponential(Duration.millis(250)).pipe(
  Schedule.union(Schedule.spaced(Duration.seconds(5))),
  Schedule.jittered
)

/** Whether waiting can help. Every error of the outside says so itself; all others are for somebody to act on. */
export const isPassing = (error: unknown): boolean => {
  if (error instanceof SqlError) return faultOf(error).retryable
  return typeof error === "object" && error !== null && "retryable" in error && error.retryable === true
}

const reasonOf = (error: unknown): string =>
  error instanceof SqlError ? `PostgreSQL: ${faultOf(error).reason}` : error instanceof Error ? error.message : String(error)

/** Tries again while the failure is one that passes; meanwhile the health of `name` says what is waited for. */
export const patiently = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | StageHealth> =>
  Effect.gen(function*() {
    const health = yield* StageHealth
    let said = ""
    const say = Effect.fnUntraced(function*(error: E) {
      const reason = reasonOf(error)
      yield* health.set(name, "waiting", reason)
      if (reason === said) return
      said = reason
      yield* Effect.logWarning("cannot start yet, trying again").pipe(Effect.annotateLogs({ part: name, reason }))
    })
    return yield* effect.pipe(
      Effect.tapError((error) => (isPassing(error) ? say(error) : Effect.void)),
      Effect.retry({ while: isPassing, schedule: waits })
    )
  })
