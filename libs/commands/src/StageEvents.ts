/** Says in the event log that a stage has stopped, and that it goes on. */
import { Cause, Effect, Schedule } from "effect"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import { type Stage, StageStopped } from "@voltlake/stage-runner/Stage"

/** A stage that stops does not wait for PostgreSQL for longer: its log and its health say it too. */
const whileAway = Schedule.intersect(Schedule.spaced("1 second"), Schedule.recurs(5))

const orLog = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchAll(Effect.retry(effect, whileAway), (error) =>
    Effect.logWarning("the event log was not written").pipe(Effect.annotateLogs({ reason: error.message })))

const stopped = (stage: string, error: unknown) =>
  error instanceof StageStopped
    ? OpsEvents.stageStopped(stage, error.message, { stage, reason: error.reason, remedy: error.remedy })
    : OpsEvents.stageStopped(stage, `${stage} stopped by a bug: ${error instanceof Error ? error.message : String(error)}`, { stage })

/** The same stage, whose stops are events. */
export const noted = <E, R>(stage: Stage<E, R>) => {
  let isNoted = false
  const step = stage.step.pipe(
    Effect.tap(() => {
      if (isNoted) return Effect.void
      isNoted = true
      return orLog(OpsEvents.stageGoesOn(stage.name))
    }),
    Effect.tapErrorCause((cause) => {
      const error = Cause.squash(cause)
      const ends = !Cause.isInterruptedOnly(cause) && (error instanceof StageStopped || Cause.isDie(cause))
      return ends ? orLog(stopped(stage.name, error)) : Effect.void
    })
  )
  return { ...stage, step }
}
