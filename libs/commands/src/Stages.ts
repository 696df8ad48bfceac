/**
 * Runs bronze, silver and gold, each under a lock of its own, so that one process runs each stage over a lake: all in one, or one a process.
 * They share nothing but the ports: each reads what the one before committed. A stage that stops leaves the others running.
 */
import { Duration, Effect, Schedule, Schema } from "effect"
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

export interface Home extends Opened {
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

/**
 * Takes the lock again where the connection that held it was lost, and fails with `StageTaken` once somebody else has it. Commits are safe
 * meanwhile: each checks its own position.
 */
const keepLock = Effect.fnUntraced(function*({ lock, stage }: Acquired, home: Home) {
  let held = lock
  while (true) {
    yield* held.lost
    yield* Effect.logWarning("connection to PostgreSQL lost, taking the stage's lock again").pipe(Effect.annotateLogs({ stage }))
    const again = acquire(stage, home)
    held = (yield* Effect.retry(again, { while: (error) => error._tag === "SqlError", schedule: Schedule.spaced(relockEvery) })).lock
  }
})

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

/** Runs a stage whose lock is held, until interrupted. */
export const runLocked = (acquired: Acquired, home: Home) =>
  Effect.raceFirst(
    Effect.zipRight(runStage(acquired.stage, home), Effect.never),
    keepLock(acquired, home)
  )

/** Takes the lock and runs the stage, until interrupted. */
export const run = (stage: StageName, home: Home) =>
  Effect.scoped(Effect.flatMap(acquire(stage, home), (acquired) => runLocked(acquired, home)))
