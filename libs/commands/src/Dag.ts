/** `voltlake dag …`: runs as an operator sees and asks for them. Works beside a running orchestrator; with `--wait` also without one. */
import { Console, Duration, Effect, Option, Schedule, Schema } from "effect"
import { parseCron } from "@voltlake/orchestration/Dag"
import * as Leadership from "@voltlake/orchestration/Leadership"
import * as RunReport from "@voltlake/orchestration/RunReport"
import * as RunStore from "@voltlake/orchestration/RunStore"
import * as Ticks from "@voltlake/orchestration/Ticks"
import * as Dags from "./Dags.ts"
import * as Lake from "./Lake.ts"
import * as Orchestrate from "./Orchestrate.ts"
import * as Output from "./Output.ts"

interface Common {
  readonly dataDir: string
  readonly json: boolean
}

interface OfDag extends Common {
  readonly name: string
}

interface OfRun extends Common {
  readonly run: string
}

export class DagNotFound extends Schema.TaggedError<DagNotFound>()("DagNotFound", { name: Schema.String, known: Schema.Array(Schema.String) }) {
  override get message() {
    return `there is no DAG ${this.name}; there are ${this.known.join(", ")}`
  }
}

/** Already told; the process ends with 1. */
export class RunDidNotSucceed extends Schema.TaggedError<RunDidNotSucceed>()("RunDidNotSucceed", { run: Schema.String, state: Schema.String }) {
  override get message() {
    return `the run ${this.state}; \`voltlake dag show ${this.run}\` says more`
  }
}

export class BackfillRefused extends Schema.TaggedError<BackfillRefused>()("BackfillRefused", { reason: Schema.String }) {
  override get message() {
    return `no run was asked for: ${this.reason}`
  }
}

const find = Effect.fnUntraced(function*(settings: Lake.Settings, name: string) {
  const all = yield* Dags.all(settings)
  const dag = all.find((one) => one.name === name)
  return dag ?? (yield* new DagNotFound({ name, known: all.map((one) => one.name) }))
})

export const list = ({ dataDir, json }: Common) =>
  Lake.use(dataDir, ({ settings }) =>
    Effect.gen(function*() {
      const all = yield* RunReport.dags(yield* Dags.all(settings), new Date())
      if (json) return yield* Output.json(all)
      yield* Output.table(["dag", "schedule", "next", "last run", "tasks", "description"], all.map((dag) => [
        dag.name,
        dag.schedule === null ? "by hand" : `${dag.schedule} ${dag.timeZone}`,
        dag.paused ? "paused" : dag.next,
        dag.lastRun === null ? "none" : `${dag.lastRun.state} ${dag.lastRun.logicalTime}`,
        dag.tasks.length,
        dag.description
      ]))
      const leader = yield* Leadership.leader
      yield* Console.log(
        leader === undefined
          ? "no orchestrator runs: `voltlake start` has one, and so has a process of `dist/orchestrator.mjs`"
          : `orchestrated by process ${leader.pid} on ${leader.host}`
      )
    }))

export const runs = ({ dataDir, json, limit, name }: Common & { readonly name: Option.Option<string>; readonly limit: number }) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const found = yield* RunReport.runs(Option.getOrUndefined(name), limit)
      if (json) return yield* Output.json(found)
      yield* Output.table(["run", "dag", "kind", "for", "state", "seconds", "why"], found.map((run) => [
        run.id, run.dag, run.kind, run.logicalTime, run.state, run.seconds, run.reason
      ]))
    }))

const print = Effect.fnUntraced(function*(json: boolean, id: string) {
  const found = yield* RunReport.run(id)
  if (json) return yield* Output.json(found)
  const { tasks, ...run } = found
  yield* Output.table(["", ""], Object.entries(run).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value]))
  yield* Output.table(["task", "state", "attempts", "seconds", "facts", "error"], tasks.map((task) => [
    task.task,
    task.state,
    task.attempts.length,
    task.attempts.at(-1)?.seconds ?? null,
    task.facts === null ? "" : JSON.stringify(task.facts),
    task.attempts.at(-1)?.error ?? null
  ]))
})

export const show = ({ dataDir, json, run }: OfRun) => Lake.use(dataDir, () => print(json, run))

export const logs = ({ dataDir, json, run }: OfRun) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const lines = yield* RunReport.logs(run)
      if (json) return yield* Output.json(lines)
      for (const { at, attempt, level, message, task } of lines) yield* Console.log(`${at} ${level} ${task}#${attempt} ${message}`)
    }))

const isOver = ({ state }: RunStore.Run) => state !== "queued" && state !== "running"

/** Waits for the end of runs, and orchestrates meanwhile where nobody else does. */
const untilEnded = Effect.fnUntraced(function*(opened: Lake.Opened, ids: ReadonlyArray<string>) {
  yield* Effect.forkScoped(Orchestrate.run(opened))
  const all = Effect.forEach(ids, RunStore.find)
  return yield* Effect.repeat(all, { until: (found) => found.every(isOver), schedule: Schedule.spaced(Duration.millis(200)) }).pipe(Effect.zipRight(all))
}, Effect.scoped)

const failUnless = (found: ReadonlyArray<RunStore.Run>) => {
  const failed = found.find(({ state }) => state !== "succeeded")
  return failed === undefined ? Effect.void : new RunDidNotSucceed({ run: failed.id, state: failed.state })
}

export interface TriggerOptions extends OfDag {
  readonly wait: boolean
  readonly parameters: ReadonlyArray<readonly [string, string]>
}

export const trigger = ({ dataDir, json, name, parameters, wait }: TriggerOptions) =>
  Lake.use(dataDir, (opened) =>
    Effect.gen(function*() {
      const { settings } = opened
      yield* find(settings, name)
      const id = (yield* RunStore.create({ dag: name, kind: "manual", logicalTime: new Date(), parameters: Object.fromEntries(parameters) }))!
      if (!wait) {
        if (json) return yield* Output.json({ run: id, dag: name, state: "queued" })
        return yield* Console.log(`run ${id} of ${name} is queued`)
      }
      const found = yield* untilEnded(opened, [id])
      yield* print(json, id)
      yield* failUnless(found)
    }))

const setPaused = (isPaused: boolean) => ({ dataDir, json, name }: OfDag) =>
  Lake.use(dataDir, ({ settings }) =>
    Effect.gen(function*() {
      yield* find(settings, name)
      yield* RunStore.pause(name, isPaused, new Date())
      if (json) return yield* Output.json({ dag: name, paused: isPaused })
      yield* Console.log(isPaused ? `${name} begins no run by its schedule until it is resumed` : `${name} runs by its schedule again`)
    }))

export const pause = setPaused(true)
export const resume = setPaused(false)

export const cancel = ({ dataDir, json, run }: OfRun) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const wasOpen = yield* RunStore.cancel(run)
      if (json) return yield* Output.json({ run, cancelled: wasOpen })
      yield* Console.log(wasOpen ? `run ${run} is to end; what of it runs is stopped within a second or two` : `run ${run} had ended already`)
    }))

/** More would fill the table of runs by a slip of the hand. */
const backfillMax = 10_000

export interface BackfillOptions extends OfDag {
  readonly from: Date
  readonly to: Date
  readonly parallel: number
  readonly wait: boolean
}

export const backfill = ({ dataDir, from, json, name, parallel, to, wait }: BackfillOptions) =>
  Lake.use(dataDir, (opened) =>
    Effect.gen(function*() {
      const { schedule } = yield* find(opened.settings, name)
      if (schedule === undefined) return yield* new BackfillRefused({ reason: `${name} has no schedule` })
      const { isAll, ticks } = Ticks.between(yield* parseCron(name, schedule), from, to, backfillMax)
      if (!isAll) return yield* new BackfillRefused({ reason: `that is more than ${backfillMax} runs; choose a shorter time` })
      if (ticks.length === 0) return yield* new BackfillRefused({ reason: `${name} has no tick from ${from.toISOString()} to ${to.toISOString()}` })
      const ids = yield* Effect.forEach(ticks, (logicalTime) => RunStore.create({ dag: name, kind: "backfill", logicalTime, parallel }))
      const found = wait ? yield* untilEnded(opened, ids.flatMap((id) => id ?? [])) : []
      if (json) yield* Output.json({ dag: name, runs: ids, ended: found.map(({ id, state }) => ({ id, state })) })
      else yield* Console.log(`${ids.length} runs of ${name} ${wait ? "have ended" : `are queued, ${parallel} at a time`}`)
      yield* failUnless(found)
    }))
