/** DAGs and runs as they are told outside: by the command line with `--json`, and by the API. */
import { Duration, Effect, Either } from "effect"
import type * as OpsApi from "@voltlake/api/OpsApi"
import { type Dag, parseCron } from "./Dag.ts"
import * as RunStore from "./RunStore.ts"
import * as Ticks from "./Ticks.ts"

const time = (at: Date) => at.toISOString()
const timeOrNull = (at: Date | null) => at?.toISOString() ?? null
const seconds = (duration: Duration.Duration) => Duration.toSeconds(duration)
const between = (from: Date | null, to: Date | null) => (from === null || to === null ? null : (to.getTime() - from.getTime()) / 1000)

const ofDag = (dag: Dag<unknown, unknown>, isPaused: boolean, last: RunStore.Run | undefined, now: Date): typeof OpsApi.Dag.Type => {
  const cron = dag.schedule === undefined ? undefined : Either.getOrUndefined(parseCron(dag.name, dag.schedule))
  return {
    name: dag.name,
    description: dag.description,
    schedule: dag.schedule?.cron ?? null,
    timeZone: dag.schedule?.timeZone ?? null,
    catchUp: dag.schedule?.catchUp ?? null,
    overlap: dag.schedule?.overlap ?? null,
    maxActiveRuns: 1,
    paused: isPaused,
    next: isPaused || cron === undefined ? null : time(Ticks.decide(cron, "none", now, now).next),
    lastRun: last === undefined ? null : { id: last.id, state: last.state, logicalTime: time(last.logicalTime) },
    tasks: dag.tasks.map(({ after, name, retries, retryDelay, timeout }) => ({
      name, after, retries, retryDelaySeconds: seconds(retryDelay), timeoutSeconds: seconds(timeout)
    }))
  }
}

export const dags = Effect.fn("RunReport.dags")(function*(all: ReadonlyArray<Dag<unknown, unknown>>, now: Date) {
  const paused = new Set((yield* RunStore.dags).filter((row) => row.isPaused).map(({ name }) => name))
  return yield* Effect.forEach(all, (dag) =>
    Effect.map(RunStore.newest(dag.name, 1), ([last]) => ofDag(dag, paused.has(dag.name), last, now)))
})

const ofRun = (run: RunStore.Run): typeof OpsApi.Run.Type => ({
  id: run.id,
  dag: run.dag,
  kind: run.kind,
  logicalTime: time(run.logicalTime),
  state: run.state,
  reason: run.reason,
  parameters: run.parameters,
  createdAt: time(run.createdAt),
  startedAt: timeOrNull(run.startedAt),
  endedAt: timeOrNull(run.endedAt),
  seconds: between(run.startedAt, run.endedAt)
})

/** The newest first. */
export const runs = (dag: string | undefined, max: number) => Effect.map(RunStore.newest(dag, max), (found) => found.map(ofRun))

const ofAttempt = ({ attempt, endedAt, error, startedAt, state }: RunStore.Attempt): typeof OpsApi.Attempt.Type => ({
  attempt,
  state,
  startedAt: time(startedAt),
  endedAt: timeOrNull(endedAt),
  seconds: between(startedAt, endedAt),
  error
})

/** A run with its tasks and their attempts. */
export const run = Effect.fn("RunReport.run")(function*(id: string) {
  const found = yield* RunStore.find(id)
  const [tasks, attempts] = [yield* RunStore.tasks(id), yield* RunStore.attempts(id)]
  const details: typeof OpsApi.RunDetails.Type = {
    ...ofRun(found),
    tasks: tasks.map(({ facts, failures, readyAt, state, task }) => ({
      task,
      state,
      failures,
      readyAt: timeOrNull(readyAt),
      facts,
      attempts: attempts.filter((one) => one.task === task).map(ofAttempt)
    }))
  }
  return details
})

/** At most `max` lines after an id, oldest first; all where neither is given. */
export const logs = Effect.fn("RunReport.logs")(function*(id: string, after?: string, max?: number) {
  yield* RunStore.find(id)
  const lines = yield* RunStore.logs(id, after, max)
  return lines.map((line): typeof OpsApi.LogLine.Type => ({ ...line, at: time(line.at) }))
})
