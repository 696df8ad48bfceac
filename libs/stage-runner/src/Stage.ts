/**
 * What a stage is, and the loop that drives one: step while there is work, wait for a wake-up or the poll interval when there is none,
 * back off when the outside fails, stop when going on could damage data.
 *
 * A stage keeps no progress of its own: each step reads the position that its last commit stored beside the data, so a step may be
 * abandoned at any instruction and run again.
 */
import { Cause, Clock, Context, Duration, Effect, Exit, Fiber, HashMap, Layer, Queue, Ref, Schedule, Schema, Stream } from "effect"
import { EquationBreach } from "@voltlake/domain/Progress"
import * as StageMetrics from "./StageMetrics.ts"

/** Something only an operator can decide. The stage does nothing more until it is started anew; the other stages go on. */
export class StageStopped extends Schema.TaggedError<StageStopped>()("StageStopped", {
  stage: Schema.String,
  reason: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `${this.stage} stopped: ${this.reason}. ${this.remedy}`
  }
}

/** `advanced`: committed something and may find more at once. `idle`: nothing new. */
export type Outcome = "advanced" | "idle"

export interface Stage<E, R> {
  readonly name: string
  /** Reads, stages and commits one batch. Every failure but `StageStopped` is taken for a fault of the outside, and tried again. */
  readonly step: Effect.Effect<Outcome, E | StageStopped, R>
  /** Hints that there may be work; missing some costs at most the poll interval. */
  readonly wake: Stream.Stream<unknown, unknown, R>
  /** What keeps a part of the work waiting while the rest goes on, in words, as of the last step. */
  readonly hindrances: Effect.Effect<ReadonlyArray<string>>
}

/** A stage of these parts. */
export const make = <E, R>(
  name: string,
  step: Stage<E, R>["step"],
  wake: Stage<E, R>["wake"],
  hindrances: Stage<E, R>["hindrances"] = Effect.succeed([])
): Stage<E, R> => ({ name, step, wake, hindrances })

/** A step in which an equation does not hold has committed nothing; the stage stops, since a repetition would not hold either. */
export const stopOnBreach = (stage: string, remedy: string) =>
<A, E, R>(step: Effect.Effect<A, E, R>): Effect.Effect<A, Exclude<E, EquationBreach> | StageStopped, R> =>
  Effect.catchIf(
    step,
    (error: E | EquationBreach): error is EquationBreach => error instanceof EquationBreach,
    (breach) => new StageStopped({ stage, reason: breach.message, remedy })
  ) as Effect.Effect<A, Exclude<E, EquationBreach> | StageStopped, R>

export interface RunnerSettings {
  /** Longest wait for a wake-up that was missed. */
  readonly pollInterval: Duration.DurationInput
  readonly backoffMin: Duration.DurationInput
  readonly backoffMax: Duration.DurationInput
  /** How long a step under way may go on when the stage is to end: long enough to commit what it has staged. */
  readonly lastStepLimit: Duration.DurationInput
}

export const defaultSettings: RunnerSettings = {
  pollInterval: Duration.seconds(1),
  backoffMin: Duration.millis(100),
  // A server that is back should not be waited for any longer.
  backoffMax: Duration.seconds(2),
  lastStepLimit: Duration.seconds(5)
}

export interface Health {
  readonly stage: string
  /** `standby`: another process does the work, and this one takes over when that ends. */
  readonly state: "running" | "waiting" | "standby" | "stopped"
  /** Milliseconds since 1970 at which the state began. */
  readonly sinceMs: number
  /** Why the stage waits or stopped; empty while it runs. */
  readonly reason: string
}

/** The state of every stage that runs in this process. */
export class StageHealth extends Context.Tag("@voltlake/stage-runner/StageHealth")<StageHealth, {
  readonly set: (stage: string, state: Health["state"], reason: string) => Effect.Effect<void>
  readonly all: Effect.Effect<ReadonlyArray<Health>>
  /** Notes that a step begins, or that it has ended however it did. */
  readonly noteStep: (stage: string, isUnderWay: boolean) => Effect.Effect<void>
  /** When the step under way began, in milliseconds since 1970; undefined where none is. */
  readonly stepSinceMs: (stage: string) => Effect.Effect<number | undefined>
  /** Notes that a step came through: the stage can do its work here. */
  readonly noteSuccess: (stage: string) => Effect.Effect<void>
  /** Whether a step has come through since the process began. */
  readonly hasSucceeded: (stage: string) => Effect.Effect<boolean>
}>() {}

export const layerHealth: Layer.Layer<StageHealth> = Layer.effect(
  StageHealth,
  Effect.gen(function*() {
    const states = yield* Ref.make(HashMap.empty<string, Health>())
    const succeeded = new Set<string>()
    const begun = new Map<string, number>()
    return {
      set: (stage, state, reason) =>
        Effect.zipRight(
          StageMetrics.state(stage, state),
          Effect.flatMap(Clock.currentTimeMillis, (nowMs) =>
            Ref.update(states, (known) => {
              const current = HashMap.get(known, stage)
              const isSame = current._tag === "Some" && current.value.state === state
              if (isSame && current.value.reason === reason) return known
              // Another reason is no new beginning: a stage that fails now so, now otherwise, has been waiting all the time.
              return HashMap.set(known, stage, { stage, state, sinceMs: isSame ? current.value.sinceMs : nowMs, reason })
            }))
        ),
      all: Effect.map(Ref.get(states), (known) => Array.from(HashMap.values(known))),
      noteStep: (stage, isUnderWay) =>
        Effect.map(Clock.currentTimeMillis, (nowMs) => void (isUnderWay ? begun.set(stage, nowMs) : begun.delete(stage))),
      stepSinceMs: (stage) => Effect.sync(() => begun.get(stage)),
      noteSuccess: (stage) => Effect.sync(() => void succeeded.add(stage)),
      hasSucceeded: (stage) => Effect.sync(() => succeeded.has(stage))
    }
  })
)

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** The error's name: few there are, so they may be a label. */
const kindOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "_tag" in error && typeof error._tag === "string" ? error._tag : "defect"

/** Failures in a row after which a fault is no longer a hiccup but something that somebody must look at. */
const failuresUntilError = 10

/** Runs a step that, when interrupted, ends by itself where it can within the limit: its commit is not thrown away, nor left unknown. */
const untilItsEnd = <A, E, R>(step: Effect.Effect<A, E, R>, limit: Duration.DurationInput): Effect.Effect<Exit.Exit<A, E>, never, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDaemon(Effect.interruptible(step)), (fiber) =>
      Effect.onInterrupt(restore(Fiber.await(fiber)), () =>
        Fiber.await(fiber).pipe(Effect.interruptible, Effect.timeoutOption(limit), Effect.zipRight(Fiber.interrupt(fiber))))))

/** Drives the stage until it is interrupted (Exit by interruption) or stops by itself (returns). */
export const run = <E, R>(
  stage: Stage<E, R>,
  settings: RunnerSettings = defaultSettings
): Effect.Effect<void, never, R | StageHealth> =>
  drive(stage, settings).pipe(Effect.scoped, Effect.annotateLogs({ stage: stage.name }))

const drive = Effect.fnUntraced(function*<E, R>(stage: Stage<E, R>, settings: RunnerSettings) {
  const health = yield* StageHealth
  const wakeUps = yield* Queue.sliding<unknown>(1)
  yield* stage.wake.pipe(
    Stream.runForEach((hint) => Queue.offer(wakeUps, hint)),
    Effect.retry(Schedule.spaced(settings.backoffMax)),
    Effect.ignore,
    Effect.forkScoped
  )
  const waitForWork = Effect.race(Queue.take(wakeUps), Effect.sleep(settings.pollInterval))
  let failures = 0
  yield* health.set(stage.name, "running", "")
  while (true) {
    yield* health.noteStep(stage.name, true)
    const exit = yield* StageMetrics.timed(stage.name, untilItsEnd(stage.step, settings.lastStepLimit))
    yield* health.noteStep(stage.name, false)
    if (Exit.isSuccess(exit)) {
      yield* health.noteSuccess(stage.name)
      if (exit.value === "advanced") yield* StageMetrics.committed(stage.name)
      if (failures > 0) yield* Effect.logInfo("stage goes on")
      failures = 0
      const hindrances = yield* stage.hindrances
      yield* health.set(stage.name, hindrances.length === 0 ? "running" : "waiting", hindrances.join("; "))
      if (exit.value === "idle") yield* waitForWork
      continue
    }
    if (Cause.isInterruptedOnly(exit.cause)) return yield* Effect.interrupt
    const error = Cause.squash(exit.cause)
    yield* StageMetrics.failed(stage.name, kindOf(error))
    if (error instanceof StageStopped || Cause.isDie(exit.cause)) {
      yield* health.set(stage.name, "stopped", messageOf(error))
      return yield* Effect.logError("stage stopped", exit.cause)
    }
    failures += 1
    const reason = messageOf(error)
    yield* health.set(stage.name, "waiting", reason)
    const say = failures >= failuresUntilError ? Effect.logError : Effect.logWarning
    yield* say("step failed, trying again").pipe(Effect.annotateLogs({ reason, failures }))
    yield* Effect.sleep(backoff(settings, failures))
  }
})

/** Doubles from `backoffMin` with each failure in a row, up to `backoffMax`. */
export const backoff = (settings: RunnerSettings, failures: number): Duration.Duration =>
  Duration.min(
    Duration.times(settings.backoffMin, 2 ** Math.min(failures - 1, 30)),
    settings.backoffMax
  )
