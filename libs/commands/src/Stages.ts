/**
 * Runs bronze, silver and gold, each under a lock of its own, so that one process runs each stage over a lake: all in one, or one a process.
 * They share nothing but the ports: each reads what the one before committed. A stage that stops leaves the others running.
 */
import { Deferred, Duration, Effect, Schedule, Schema } from "effect"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as Gold from "@voltlake/gold/Gold"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as Silver from "@voltlake/silver/Silver"
import * as Stage from "@voltlake/stage-runner/Stage"
import type { Opened } from "./Lake.ts"

export type StageName = "bronze" | "silver" | "gold"
export const names: ReadonlyArray<StageName> = ["bronze", "silver", "gold"]

/** Another process runs the stage over the same lake. */
export class StageTaken extends Schema.TaggedError<StageTaken>()("StageTaken", {
  stage: Schema.String,
  dataDir: Schema.String,
  pid: Schema.Number,
  host: Schema.String,
  startedAt: Schema.DateFromSelf,
  purpose: Schema.String
}) {
  override get message() {
    return `data directory ${this.dataDir} is in use: process ${this.pid} on ${this.host} (${this.purpose}) runs its ${this.stage} stage ` +
      `since ${this.startedAt.toISOString()}. Stop that process, or choose another directory with --data-dir.`
  }
}

/** A stage stopped for an operator's decision (its reason is logged), and the process was there for nothing else. */
export class StageEnded extends Schema.TaggedError<StageEnded>()("StageEnded", { stage: Schema.String }) {
  override get message() {
    return `the ${this.stage} stage stopped, see the error logged before`
  }
}

export interface Home extends Opened {
  /** What becomes of a stage that stopped: the other stages of the process go on, or the process ends. */
  readonly whenStopped: "others go on" | "process ends"
  /** What the process is, for the message to a second comer: `voltlake start`. */
  readonly purpose: string
}

/** Takes the stage's lock until the scope closes. */
export const acquire = Effect.fn("Stages.acquire")(function*(stage: StageName, { dataDir, purpose }: Home) {
  const lock = yield* SessionLock.acquire(`voltlake ${stage}`, purpose).pipe(
    Effect.catchTag("LockHeld", ({ host, pid, purpose: held, startedAt }) =>
      new StageTaken({ stage, dataDir: dataDir.path, pid, host, startedAt, purpose: held }))
  )
  return { stage, lock }
})

type Acquired = Effect.Effect.Success<ReturnType<typeof acquire>>

const relockEvery = Duration.seconds(1)

const runStage = Effect.fnUntraced(function*(stage: StageName, { dataDir, settings }: Home) {
  switch (stage) {
    case "bronze":
      return yield* Stage.run(yield* Bronze.make(settings.ingest.topic, settings.bronze))
    case "silver":
      return yield* Stage.run(yield* Silver.make(dataDir.keyIndex, settings.silver))
    case "gold":
      return yield* Stage.run(yield* Gold.make(settings.gold))
  }
}, Effect.scoped)

/**
 * Runs the stage while its lock is held; answers when the lock is lost, after the stage has ended. Forked into a scope rather than raced: a raced
 * fiber would go on while a failure elsewhere closes what it works with.
 */
const runWhileHeld = Effect.fnUntraced(function*({ lock, stage }: Acquired, home: Home) {
  const end = yield* Deferred.make<void, StageEnded | Effect.Effect.Error<ReturnType<typeof runStage>>>()
  const afterStop = home.whenStopped === "others go on" ? Effect.never : new StageEnded({ stage })
  yield* Effect.forkScoped(Effect.intoDeferred(Effect.zipRight(runStage(stage, home), afterStop), end))
  yield* Effect.forkScoped(Effect.intoDeferred(lock.lost, end))
  yield* Deferred.await(end)
}, Effect.scoped)

/** Runs a stage whose lock is held, until interrupted. Where the lock is lost the stage ends, and goes on once it has the lock again. */
export const runLocked = Effect.fn("Stages.runLocked")(function*(acquired: Acquired, home: Home) {
  const health = yield* Stage.StageHealth
  const { stage } = acquired
  yield* runWhileHeld(acquired, home)
  while (true) {
    yield* Effect.logWarning("the stage's lock is lost, it waits for it").pipe(Effect.annotateLogs({ stage }))
    yield* health.set(stage, "waiting", "its lock is lost: PostgreSQL is away, or another process runs the stage")
    yield* Effect.scoped(Effect.gen(function*() {
      const again = yield* acquire(stage, home).pipe(
        Effect.retry({ while: ({ _tag }) => _tag === "SqlError" || _tag === "StageTaken", schedule: Schedule.spaced(relockEvery) })
      )
      yield* runWhileHeld(again, home)
    }))
  }
})

/** Takes the lock and runs the stage, until interrupted. */
export const run = (stage: StageName, home: Home) =>
  Effect.scoped(Effect.flatMap(acquire(stage, home), (acquired) => runLocked(acquired, home)))
