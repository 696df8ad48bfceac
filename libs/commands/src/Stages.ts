/**
 * Runs bronze, silver and gold: all in one process, or in processes of their own. They share nothing but the ports: each reads what the one before
 * committed. A stage that stops leaves the others running.
 *
 * On the embedded log one process runs each stage, under a lock, and a second comer is refused. On Kafka any number may run: bronze's share the
 * partitions out by the consumer group and silver's by a membership in PostgreSQL, while of gold's one works under the lock and the others stand by.
 * Exactness rests on the commits, on neither lock nor share.
 *
 * Maintenance of the tables goes along with the stages: every process of one stands by for it, and one does it.
 */
import { Deferred, Duration, Effect, Option, Schedule, Schema } from "effect"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { lakeTables } from "@voltlake/domain/Tables"
import * as Gold from "@voltlake/gold/Gold"
import * as Cleaner from "@voltlake/maintenance/Cleaner"
import * as Compactor from "@voltlake/maintenance/Compactor"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Membership from "@voltlake/postgres/Membership"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as Silver from "@voltlake/silver/Silver"
import * as Stage from "@voltlake/stage-runner/Stage"
import type { Opened } from "./Lake.ts"
import { isPassing, patiently } from "./Patience.ts"
import { noted } from "./StageEvents.ts"

export type StageName = "bronze" | "silver" | "gold" | "maintenance"
/** An event's way. */
export const names = ["bronze", "silver", "gold"] as const satisfies ReadonlyArray<StageName>

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
const acquire = Effect.fn("Stages.acquire")(function*(stage: StageName, { dataDir, purpose }: Home) {
  const lock = yield* SessionLock.acquire(`voltlake ${stage}`, purpose).pipe(
    Effect.catchTag("LockHeld", ({ host, pid, purpose: held, startedAt }) =>
      new StageTaken({ stage, dataDir: dataDir.path, pid, host, startedAt, purpose: held }))
  )
  return { stage, lock }
})

type Acquired = Effect.Effect.Success<ReturnType<typeof acquire>>

const relockEvery = Duration.seconds(1)

const isSharedLog = ({ settings }: Home) => Option.isSome(settings.adapters.kafka)

const makeSilver = Effect.fnUntraced(function*(home: Home) {
  const { dataDir, settings } = home
  if (!isSharedLog(home)) return yield* Silver.make([dataDir.keyIndexes[0]], settings.silver)
  const membership = yield* Membership.join("silver")
  return yield* Silver.make(dataDir.keyIndexes, settings.silver, {
    of: (partitions) => Effect.map(membership.members, (members) => Membership.shareOf(partitions, members, membership.id)),
    changes: membership.changes
  })
})

/** Not a race: the first that stops ends the other, and waits for its end. */
const untilOneStops = <R1, R2, R3>(one: Effect.Effect<void, never, R1>, other: Effect.Effect<void, never, R2>, third: Effect.Effect<void, never, R3>) => {
  const failing = <R>(part: Effect.Effect<void, never, R>) => Effect.zipRight(part, Effect.fail("stopped"))
  return Effect.ignore(Effect.all([failing(one), failing(other), failing(third)], { concurrency: "unbounded", discard: true }))
}

const runOnce = Effect.fnUntraced(function*(stage: StageName, home: Home) {
  const { settings } = home
  switch (stage) {
    case "bronze":
      return yield* Stage.run(noted(yield* Bronze.make(settings.ingest.topic, settings.bronze)))
    case "silver":
      return yield* Stage.run(noted(yield* makeSilver(home)))
    case "gold":
      return yield* Stage.run(noted(yield* Gold.make(settings.gold)))
    case "maintenance":
      // As every stage does with its own: a new lake has none yet.
      yield* Effect.forEach(lakeTables, LakeTables.ensure, { discard: true })
      return yield* untilOneStops(
        Stage.run(noted(DayRetention.make(settings.retention)), DayRetention.runnerSettings),
        Stage.run(noted(yield* Cleaner.make(settings.cleaner)), Cleaner.runnerSettings),
        Stage.run(noted(yield* Compactor.make(lakeTables.map(LakeTables.identifier), settings.compaction)), Compactor.runnerSettings)
      )
  }
}, Effect.scoped)

/** Runs the stage until it is interrupted, or has stopped for good and the process was there for nothing else. Maintenance ends when it stops. */
const runStage = (stage: StageName, home: Home) =>
  Effect.flatMap(patiently(stage, runOnce(stage, home)), () => {
    if (stage === "maintenance") return Effect.void
    return home.whenStopped === "others go on" ? Effect.never : new StageEnded({ stage })
  })

/**
 * Runs the stage while its lock is held; answers when the lock is lost, after the stage has ended, or when the stage stopped. Forked into a scope
 * rather than raced: a raced fiber would go on while a failure elsewhere closes what it works with.
 */
const runWhileHeld = Effect.fnUntraced(function*({ lock, stage }: Acquired, home: Home) {
  const end = yield* Deferred.make<"stopped" | "lost", Effect.Effect.Error<ReturnType<typeof runStage>>>()
  yield* Effect.forkScoped(Effect.intoDeferred(Effect.as(runStage(stage, home), "stopped" as const), end))
  yield* Effect.forkScoped(Effect.intoDeferred(Effect.as(lock.lost, "lost" as const), end))
  return yield* Deferred.await(end)
}, Effect.scoped)

/** What tells its health by itself. */
const partsOf = (stage: StageName): ReadonlyArray<string> => (stage === "maintenance" ? [stage, "compaction", "retention"] : [stage])

/** Takes the lock as soon as it is free. */
const acquireWhenFree = Effect.fnUntraced(function*(stage: StageName, home: Home) {
  const health = yield* Stage.StageHealth
  let holder = ""
  const say = Effect.fnUntraced(function*(error: Effect.Effect.Error<ReturnType<typeof acquire>>) {
    const set = (state: Stage.Health["state"], reason: string) => Effect.forEach(partsOf(stage), (part) => health.set(part, state, reason), { discard: true })
    if (error._tag === "SqlError") return yield* set("waiting", `PostgreSQL is away: ${error.message}`)
    const running = `process ${error.pid} on ${error.host} runs the stage`
    yield* set("standby", running)
    if (running === holder) return
    holder = running
    yield* Effect.logInfo("stands by").pipe(Effect.annotateLogs({ stage, pid: error.pid, host: error.host }))
  })
  return yield* acquire(stage, home).pipe(
    Effect.tapError(say),
    Effect.retry({ while: (error) => error._tag === "StageTaken" || isPassing(error), schedule: Schedule.spaced(relockEvery) }),
    Effect.tap(() => holder === "" ? Effect.void : Effect.annotateLogs(Effect.logInfo("takes over"), { stage }))
  )
})

/** Runs the stage whenever its lock is free. */
const standBy = (stage: StageName, home: Home) =>
  Effect.forever(Effect.flatMap(
    Effect.scoped(Effect.flatMap(acquireWhenFree(stage, home), (acquired) => runWhileHeld(acquired, home))),
    (end) => (end === "lost" ? sayLost(stage) : rest(stage))
  ))

const restAfterStop = Duration.minutes(1)

/** A stage that stopped, by a bug, gives its lock to whoever stands by, and begins anew after a while. The process has other work: it is not sick. */
const rest = Effect.fnUntraced(function*(stage: StageName) {
  const health = yield* Stage.StageHealth
  const pause = Duration.format(restAfterStop)
  for (const part of yield* health.all) {
    if (!partsOf(stage).includes(part.stage)) continue
    const reason = part.state === "stopped" ? `it stopped, and begins anew after ${pause}: ${part.reason}` : `it begins anew after ${pause}`
    yield* health.set(part.stage, "waiting", reason)
  }
  yield* Effect.logWarning("the stage rests, another process may take over").pipe(Effect.annotateLogs({ stage, pause }))
  yield* Effect.sleep(restAfterStop)
})

const sayLost = Effect.fnUntraced(function*(stage: StageName) {
  yield* Effect.logWarning("the stage's lock is lost, it waits for it").pipe(Effect.annotateLogs({ stage }))
  yield* (yield* Stage.StageHealth).set(stage, "waiting", "its lock is lost: PostgreSQL is away, or another process runs the stage")
})

/** Runs a stage whose lock is held, until interrupted. Where the lock is lost the stage ends, and goes on once it has the lock again. */
const runLocked = (acquired: Acquired, home: Home) =>
  runWhileHeld(acquired, home).pipe(Effect.zipRight(sayLost(acquired.stage)), Effect.zipRight(standBy(acquired.stage, home)))

/**
 * Makes sure that this process may run the stage, until the scope closes, and answers the effect that does so until interrupted. Fails with `StageTaken`
 * where another process runs it and the two cannot share it.
 */
export const claim = Effect.fn("Stages.claim")(function*(stage: StageName, home: Home) {
  if (stage === "maintenance") return standBy(stage, home)
  if (!isSharedLog(home)) {
    const acquired = yield* patiently(stage, acquire(stage, home))
    return runLocked(acquired, home)
  }
  return stage === "gold" ? standBy(stage, home) : runStage(stage, home)
})

/** Claims the stage and runs it, until interrupted. */
export const run = (stage: StageName, home: Home) => Effect.scoped(Effect.flatten(claim(stage, home)))
