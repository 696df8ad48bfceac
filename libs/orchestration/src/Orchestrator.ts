/**
 * The orchestrator: begins runs by their schedules, takes each task in its turn, and notes all of it in PostgreSQL. It remembers nothing itself, so that
 * it goes on where it stood after whatever happened to it, here or in another process.
 *
 * Exactly once is what is noted: a task whose end is recorded is not run again. One that was under way when its process died is run once more; what it had
 * committed it finds, by the commit's id or by the state that it left.
 */
import { Cause, Clock, Deferred, Duration, Effect, Either, Exit, Fiber, FiberMap, HashMap, Logger, Option, Queue, Schedule, Schema, Stream } from "effect"
import { listen } from "@voltlake/postgres/Notifications"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import type { Dag, Facts, Task } from "./Dag.ts"
import { DagInvalid, order, parseCron } from "./Dag.ts"
import * as Leadership from "./Leadership.ts"
import * as RunPlan from "./RunPlan.ts"
import * as RunStore from "./RunStore.ts"
import * as Ticks from "./Ticks.ts"

/** Longest wait of the leader's loop: a retry or a tick is woken by no more than this too late. */
const pollEvery = Duration.seconds(1)
/** A run that has not begun so long after its tick is late. */
const lateAfterMs = 60_000
const logsEvery = Duration.seconds(1)
/** A leader whose renewals fail for longer no longer counts as one. */
const silentMax = Duration.seconds(5)
const historyKept = Duration.days(90)
const pruneEvery = Duration.hours(1)

const now = Effect.map(Clock.currentTimeMillis, (ms) => new Date(ms))

/** All that a DAG's tasks may fail with and need is the caller's. */
export type AnyDag<R> = Dag<unknown, R>

const validate = <R>(dags: ReadonlyArray<AnyDag<R>>) =>
  Effect.forEach(dags, (dag, index) =>
    Effect.gen(function*() {
      if (dags.findIndex(({ name }) => name === dag.name) !== index) return yield* new DagInvalid({ dag: dag.name, reason: "there are two of this name" })
      yield* order(dag)
      return { dag, cron: dag.schedule === undefined ? undefined : yield* parseCron(dag.name, dag.schedule) }
    }))

type Validated<R> = Effect.Effect.Success<ReturnType<typeof validate<R>>>[number]

const subject = ({ dag, id }: Pick<RunStore.Run, "dag" | "id">) => `${dag} ${id}`

const messageOf = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.failureOrCause(cause)
  const first = Either.match(failure, {
    onLeft: (error) => (error instanceof Error ? error.message : String(error)),
    onRight: (defect) => Cause.pretty(defect)
  })
  return first.slice(0, 4000)
}

/** Lines that a task's fibers log, until they are written. Mutable: the logger has no effects. */
const makeLog = (task: string, attempt: number) => {
  let lines: Array<RunStore.LogLine> = []
  const logger = Logger.make<unknown, void>(({ annotations, date, logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).map((part) => (typeof part === "string" ? part : JSON.stringify(part))).join(" ")
    const more = Array.from(HashMap.toEntries(annotations)).filter(([key]) => !["dag", "run", "task"].includes(key)).map(([key, value]) => ` ${key}=${String(value)}`)
    lines.push({ task, attempt, at: date, level: logLevel.label, message: (text + more.join("")).slice(0, 10_000) })
  })
  const taken = Effect.sync(() => {
    const all = lines
    lines = []
    return all
  })
  return { logger, taken }
}

/** An operator wants the run to end. */
class RunCancelled extends Schema.TaggedError<RunCancelled>()("RunCancelled", {}) {
  override get message() {
    return "the run was cancelled"
  }
}

class TaskTimedOut extends Schema.TaggedError<TaskTimedOut>()("TaskTimedOut", { limit: Schema.String }) {
  override get message() {
    return `it took longer than ${this.limit}`
  }
}

/** PostgreSQL may be away for a while; what is to be noted is not given up for that. */
const retryWhileAway = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { while: (error) => error._tag === "SqlError" || error._tag === "CommitUnknown", schedule: Schedule.spaced(Duration.seconds(1)) })

/** What this process has under way, by run and task. */
interface UnderWay {
  readonly fibers: FiberMap.FiberMap<string, void, unknown>
  readonly cancels: Map<string, Deferred.Deferred<never, RunCancelled>>
}

interface Attempt<R> {
  readonly run: RunStore.Run
  readonly task: Task<unknown, R>
  readonly begun: RunStore.BegunAttempt
  readonly failures: number
}

const noteEnd = <R>({ begun: { attempt }, failures, run, task }: Attempt<R>, exit: Exit.Exit<Facts, unknown>, at: Date) =>
  Effect.gen(function*() {
    const end = (state: RunStore.Attempt["state"], status: RunPlan.TaskStatus, error?: string, facts?: Facts) =>
      Effect.zipRight(RunStore.endAttempt(run.id, task.name, attempt, state, error, at), RunStore.setTask(run.id, task.name, status, facts))
    if (Exit.isSuccess(exit)) return yield* end("succeeded", { state: "succeeded", failures, readyAt: undefined }, undefined, exit.value)
    const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
    if (error instanceof RunCancelled) return yield* end("cancelled", { state: "cancelled", failures, readyAt: undefined }, error.message)
    const status = RunPlan.afterFailure(task, failures, at)
    const reason = messageOf(exit.cause)
    yield* end("failed", status, reason)
    const isLast = status.state === "failed"
    yield* OpsEvents.add({
      severity: isLast ? "ERROR" : "WARNING",
      kind: isLast ? "task_failed" : "task_retried",
      subject: subject(run),
      message: `task ${task.name} failed (attempt ${attempt}): ${reason}`,
      facts: { dag: run.dag, run: run.id, task: task.name, attempt, retryAt: status.readyAt?.toISOString() ?? null }
    })
  })

/** Runs one attempt and notes how it ended. Interrupted from outside it notes nothing: whoever leads next finds it under way. */
const runAttempt = Effect.fnUntraced(function*<R>(term: Leadership.Term, attempt: Attempt<R>, cancel: Deferred.Deferred<never, RunCancelled>) {
  const { begun, run, task } = attempt
  const log = makeLog(task.name, begun.attempt)
  const writeLogs = Effect.flatMap(log.taken, (lines) => RunStore.addLogs(run.id, lines)).pipe(Effect.catchAllCause(() => Effect.void))
  const writing = yield* Effect.forkScoped(Effect.repeat(writeLogs, Schedule.spaced(logsEvery)))
  const context = { dag: run.dag, runId: run.id, logicalTime: run.logicalTime, parameters: run.parameters, ...begun }
  const exit = yield* Effect.suspend(() => task.run(context)).pipe(
    Effect.timeoutFail({ duration: task.timeout, onTimeout: () => new TaskTimedOut({ limit: Duration.format(task.timeout) }) }),
    Effect.raceFirst(Deferred.await(cancel)),
    Effect.tapErrorCause((cause) => Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logError(messageOf(cause))),
    Effect.annotateLogs({ dag: run.dag, run: run.id, task: task.name }),
    Effect.provide(Logger.add(log.logger)),
    Effect.exit
  )
  yield* Fiber.interrupt(writing)
  yield* writeLogs
  const at = yield* now
  yield* retryWhileAway(Leadership.fenced(term, noteEnd(attempt, exit, at)))
}, Effect.scoped)

const keyOf = (run: string, task: string) => `${run} ${task}`

const beginTask = Effect.fnUntraced(function*<R>(term: Leadership.Term, underWay: UnderWay, run: RunStore.Run, task: Task<unknown, R>, failures: number) {
  const key = keyOf(run.id, task.name)
  if (yield* FiberMap.has(underWay.fibers, key)) return
  const at = yield* now
  // The task's row first, since the attempt's refers to it.
  const begun = yield* Leadership.fenced(term, Effect.zipRight(
    RunStore.setTask(run.id, task.name, { state: "running", failures, readyAt: undefined }),
    RunStore.beginAttempt(run.id, task.name, term.term, at)
  ))
  const cancel = yield* Deferred.make<never, RunCancelled>()
  underWay.cancels.set(key, cancel)
  const attempt = runAttempt(term, { run, task, begun, failures }, cancel).pipe(
    Effect.ensuring(Effect.sync(() => void underWay.cancels.delete(key))),
    // There may be something to do that waited for it.
    Effect.zipRight(Effect.ignore(RunStore.wake))
  )
  yield* FiberMap.run(underWay.fibers, key, attempt)
})

const isOfSchedule = ({ kind }: RunStore.Run) => kind !== "backfill"

/** Notes a run for a tick that is due. */
const tick = Effect.fnUntraced(function*<R>(
  term: Leadership.Term,
  { cron, dag }: Validated<R>,
  row: RunStore.DagRow | undefined,
  open: ReadonlyArray<RunStore.Run>
) {
  const at = yield* now
  if (row === undefined) {
    yield* Leadership.fenced(term, RunStore.know(dag.name, at))
    return
  }
  if (cron === undefined || dag.schedule === undefined || row.isPaused) return
  const { missed, tick: due } = Ticks.decide(cron, dag.schedule.catchUp, row.seen, at)
  if (due === undefined && missed === 0) return
  const isBusy = open.some((run) => run.dag === dag.name && isOfSchedule(run))
  const skipped = isBusy && dag.schedule.overlap === "skip" ? { skipped: "the run before was still under way" } : {}
  yield* Leadership.fenced(term, Effect.gen(function*() {
    if (due !== undefined) yield* RunStore.create({ dag: dag.name, kind: "scheduled", logicalTime: due, ...skipped })
    yield* RunStore.see(dag.name, due ?? at)
    if (missed > 0) {
      yield* OpsEvents.add({
        severity: "WARNING",
        kind: "ticks_missed",
        subject: dag.name,
        message: `${missed} runs of ${dag.name} were passed over, since no orchestrator ran when they were due`,
        facts: { dag: dag.name, missed, since: row.seen.toISOString() }
      })
    }
  }))
})

/** Queued runs whose turn it is. */
const turns = (open: ReadonlyArray<RunStore.Run>): ReadonlyArray<RunStore.Run> => {
  const active = new Map<string, number>()
  const group = (run: RunStore.Run) => `${run.dag} ${isOfSchedule(run)}`
  for (const run of open) if (run.state === "running") active.set(group(run), (active.get(group(run)) ?? 0) + 1)
  return open.filter((run) => {
    if (run.state !== "queued") return false
    const count = active.get(group(run)) ?? 0
    if (count >= (isOfSchedule(run) ? 1 : run.parallel)) return false
    active.set(group(run), count + 1)
    return true
  })
}

const endRun = Effect.fnUntraced(function*(run: RunStore.Run, state: RunPlan.RunEnd, reason: string | undefined) {
  const at = yield* now
  yield* RunStore.end(run.id, state, reason, at)
  const ms = at.getTime() - (run.startedAt ?? at).getTime()
  yield* OpsEvents.add({
    severity: state === "failed" ? "ERROR" : "INFO",
    kind: `run_${state}`,
    subject: subject(run),
    message: `run of ${run.dag} for ${run.logicalTime.toISOString()} ${state}${reason === undefined ? "" : `: ${reason}`}`,
    facts: { dag: run.dag, run: run.id, kind: run.kind, logicalTime: run.logicalTime.toISOString(), ms }
  })
})

/** Does what is next in a run. */
const advance = Effect.fnUntraced(function*<R>(term: Leadership.Term, underWay: UnderWay, { dag }: Validated<R>, run: RunStore.Run) {
  const at = yield* now
  const rows = yield* RunStore.tasks(run.id)
  const statuses = new Map(rows.map(({ failures, readyAt, state, task }) => [task, { state, failures, readyAt: readyAt ?? undefined }]))
  const next = RunPlan.plan(dag, statuses, at, run.isCancelled)
  if (run.isCancelled) {
    for (const { name } of dag.tasks) {
      const cancel = underWay.cancels.get(keyOf(run.id, name))
      if (cancel !== undefined) yield* Deferred.fail(cancel, new RunCancelled())
    }
  }
  if (next.close.length > 0 || next.end !== undefined) {
    yield* Leadership.fenced(term, Effect.gen(function*() {
      for (const { state, task } of next.close) yield* RunStore.setTask(run.id, task, { state, failures: 0, readyAt: undefined })
      const failed = rows.filter(({ state }) => state === "failed").map(({ task }) => task)
      if (next.end !== undefined) yield* endRun(run, next.end, next.end === "failed" ? `failed: ${failed.join(", ")}` : undefined)
    }))
  }
  for (const name of next.start) {
    yield* beginTask(term, underWay, run, dag.tasks.find((task) => task.name === name)!, statuses.get(name)?.failures ?? 0)
  }
})

/** Says once of a run that it is late, or stuck. */
const watch = Effect.fnUntraced(function*<R>(term: Leadership.Term, { dag }: Validated<R>, run: RunStore.Run) {
  if (run.isReported) return
  const at = yield* now
  const isLate = run.state === "queued" && run.kind === "scheduled" && at.getTime() - run.logicalTime.getTime() > lateAfterMs
  const isStuck = run.state === "running" && run.startedAt !== null && at.getTime() - run.startedAt.getTime() > Duration.toMillis(dag.stuckAfter)
  if (!isLate && !isStuck) return
  yield* Leadership.fenced(term, Effect.zipRight(
    RunStore.report(run.id),
    OpsEvents.add({
      severity: "ERROR",
      kind: isLate ? "run_late" : "run_stuck",
      subject: subject(run),
      message: isLate
        ? `run of ${dag.name} for ${run.logicalTime.toISOString()} has not begun: the run before is still under way`
        : `run of ${dag.name} takes longer than ${Duration.format(dag.stuckAfter)}; \`voltlake dag logs ${run.id}\` says what it does`,
      facts: { dag: dag.name, run: run.id, logicalTime: run.logicalTime.toISOString(), startedAt: run.startedAt?.toISOString() ?? null }
    })
  ))
})

/** The DAGs as they are now: the last that were right, where they cannot be told. */
type Current<R> = Effect.Effect<ReadonlyArray<Validated<R>>>

const current = Effect.fnUntraced(function*<R, E, R2>(dags: Effect.Effect<ReadonlyArray<AnyDag<R>>, E, R2>) {
  const validated = Effect.flatMap(dags, validate)
  let known = yield* validated
  let said = ""
  const context = yield* Effect.context<R2>()
  const now: Current<R> = validated.pipe(
    Effect.tap((found) => Effect.sync(() => void (known = found))),
    Effect.catchAllCause((cause) => {
      const reason = messageOf(cause)
      if (reason === said) return Effect.succeed(known)
      said = reason
      return Effect.as(Effect.logError("the DAGs cannot be read, those known go on").pipe(Effect.annotateLogs({ reason })), known)
    }),
    Effect.provide(context)
  )
  return now
})

/** One look at everything. */
const step = Effect.fn("Orchestrator.step")(function*<R>(term: Leadership.Term, underWay: UnderWay, current: Current<R>) {
  const dags = yield* current
  const rows = new Map((yield* RunStore.dags).map((row) => [row.name, row]))
  const before = yield* RunStore.open
  yield* Effect.forEach(dags, (one) => tick(term, one, rows.get(one.dag.name), before), { discard: true })
  for (const run of turns(yield* RunStore.open)) yield* Leadership.fenced(term, Effect.flatMap(now, (at) => RunStore.start(run.id, at)))
  for (const run of yield* RunStore.open) {
    const known = dags.find(({ dag }) => dag.name === run.dag)
    if (known === undefined) {
      yield* Leadership.fenced(term, endRun(run, "failed", "there is no DAG of this name"))
      continue
    }
    if (run.state === "running") yield* advance(term, underWay, known, run)
    else if (run.isCancelled) yield* Leadership.fenced(term, endRun(run, "cancelled", undefined))
    yield* watch(term, known, run)
  }
})

/** Renews the lead until that fails for so long that another may have it. */
const heartbeat = (term: Leadership.Term) =>
  Leadership.renew(term).pipe(
    Effect.timeout(Leadership.renewEvery),
    Effect.retry({
      while: (error) => error._tag !== "LeadershipLost",
      schedule: Schedule.spaced(Duration.millis(500)).pipe(Schedule.upTo(silentMax))
    }),
    Effect.mapError(() => new Leadership.LeadershipLost()),
    Effect.repeat(Schedule.spaced(Leadership.renewEvery))
  )

/** Runs and events go that are no longer kept. What fails now is tried again the next time. */
const prune = (term: Leadership.Term) =>
  Effect.flatMap(now, (at) =>
    Effect.zipRight(
      Leadership.fenced(term, RunStore.prune(new Date(at.getTime() - Duration.toMillis(historyKept)))),
      OpsEvents.prune(at)
    )).pipe(
      Effect.catchAll((error) => Effect.logWarning("what is no longer kept was not deleted").pipe(Effect.annotateLogs({ reason: error.message })))
    )

/** Leads until that is lost. */
const lead = Effect.fn("Orchestrator.lead")(function*<R>(term: Leadership.Term, dags: Current<R>, woken: Queue.Dequeue<unknown>) {
  const at = yield* now
  yield* Effect.logInfo("orchestrates").pipe(Effect.annotateLogs({ term: term.term }))
  const lost = yield* Leadership.fenced(term, RunStore.loseAttempts(term.term, at))
  for (const { run, task } of lost) {
    yield* Effect.logWarning("goes on with a task whose process is gone").pipe(Effect.annotateLogs({ run, task }))
  }
  yield* Effect.forkScoped(Effect.repeat(prune(term), Schedule.spaced(pruneEvery)))
  const underWay: UnderWay = { fibers: yield* FiberMap.make<string, void, unknown>(), cancels: new Map() }
  const loop = step(term, underWay, dags).pipe(
    Effect.catchIf((error) => error._tag === "SqlError" || error._tag === "CommitUnknown", (error) =>
      Effect.logWarning("PostgreSQL is away, the orchestrator waits").pipe(Effect.annotateLogs({ reason: error.message }))),
    Effect.zipRight(Queue.take(woken).pipe(Effect.timeoutOption(pollEvery))),
    Effect.forever
  )
  // The first that fails ends all: the others are interrupted with this scope.
  yield* Effect.raceFirst(Effect.raceFirst(loop, heartbeat(term)), FiberMap.join(underWay.fibers).pipe(Effect.zipRight(Effect.never)))
}, Effect.scoped)

export const standbyEvery = Duration.seconds(1)

/**
 * Runs these DAGs until interrupted: at once where no other process does, else as soon as that one ends or says nothing more. `onState` is told which.
 * What the DAGs are is asked again and again, so that they may change while it runs.
 */
export const run = Effect.fn("Orchestrator.run")(function*<R, E, R2>(
  dags: Effect.Effect<ReadonlyArray<AnyDag<R>>, E, R2>,
  onState: (state: "leading" | "standby") => Effect.Effect<void> = () => Effect.void
) {
  const validated = yield* current(dags)
  const woken = yield* Queue.sliding<unknown>(1)
  yield* Effect.forkScoped(Stream.runForEach(listen(RunStore.channel), () => Queue.offer(woken, undefined)))
  const once = Effect.gen(function*() {
    const term = yield* Leadership.take()
    if (term === undefined) {
      yield* onState("standby")
      return yield* Effect.sleep(standbyEvery)
    }
    yield* onState("leading")
    yield* lead(term, validated, woken).pipe(
      Effect.ensuring(Effect.ignore(Leadership.giveUp(term))),
      Effect.catchAllCause((cause) => Cause.isInterruptedOnly(cause)
        ? Effect.failCause(cause as Cause.Cause<never>)
        : Effect.logWarning("no longer orchestrates").pipe(Effect.annotateLogs({ reason: messageOf(cause) }), Effect.zipRight(Effect.sleep(standbyEvery))))
    )
  })
  return yield* once.pipe(
    Effect.catchTag("SqlError", (error) =>
      Effect.logWarning("PostgreSQL is away, the orchestrator waits").pipe(Effect.annotateLogs({ reason: error.message }), Effect.zipRight(Effect.sleep(standbyEvery)))),
    Effect.forever
  )
}, Effect.scoped)
