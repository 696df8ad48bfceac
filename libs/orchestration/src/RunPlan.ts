/** What a run does next. Pure: it follows from the DAG, what is known of its tasks, and the time. */
import { Duration } from "effect"
import type { Dag, Task } from "./Dag.ts"

export type TaskState = "waiting" | "running" | "succeeded" | "failed" | "upstream_failed" | "cancelled"

export interface TaskStatus {
  readonly state: TaskState
  /** Attempts that failed. */
  readonly failures: number
  /** Not before this. */
  readonly readyAt: Date | undefined
}

export type RunEnd = "succeeded" | "failed" | "cancelled"

export interface Plan {
  readonly start: ReadonlyArray<string>
  /** Tasks that will never run, and what becomes of them. */
  readonly close: ReadonlyArray<{ readonly task: string; readonly state: "upstream_failed" | "cancelled" }>
  /** Present once every task has come to its end. */
  readonly end: RunEnd | undefined
  /** When something may be ready that is not now. */
  readonly wakeAt: Date | undefined
}

const initial: TaskStatus = { state: "waiting", failures: 0, readyAt: undefined }

const isOver = ({ state }: TaskStatus) => state !== "waiting" && state !== "running"

/** Tasks without a status have not been begun. A run that is to be cancelled begins nothing more. */
export const plan = (
  { tasks }: Pick<Dag<unknown, unknown>, "tasks">,
  statuses: ReadonlyMap<string, TaskStatus>,
  now: Date,
  isCancelled: boolean
): Plan => {
  const known = new Map(tasks.map(({ name }) => [name, statuses.get(name) ?? initial]))
  const close: Array<Plan["close"][number]> = []
  const shut = (task: string, state: "upstream_failed" | "cancelled") => {
    known.set(task, { ...known.get(task)!, state })
    close.push({ task, state })
  }
  // A task behind a failed one fails those behind it in turn: as often as there are tasks is enough.
  for (let round = 0; round < tasks.length; round++) {
    for (const { after, name } of tasks) {
      if (known.get(name)!.state !== "waiting") continue
      if (isCancelled) shut(name, "cancelled")
      else if (after.some((one) => ["failed", "upstream_failed", "cancelled"].includes(known.get(one)!.state))) shut(name, "upstream_failed")
    }
  }
  const open = tasks.filter(({ after, name }) => known.get(name)!.state === "waiting" && after.every((one) => known.get(one)!.state === "succeeded"))
  const readyAt = ({ name }: { readonly name: string }) => known.get(name)!.readyAt
  const later = open.flatMap((task) => readyAt(task) ?? []).filter((at) => at > now)
  const all = Array.from(known.values())
  const end: RunEnd | undefined = !all.every(isOver)
    ? undefined
    : all.every(({ state }) => state === "succeeded")
    ? "succeeded"
    : isCancelled && !all.some(({ state }) => state === "failed")
    ? "cancelled"
    : "failed"
  return {
    start: open.filter((task) => (readyAt(task) ?? now) <= now).map(({ name }) => name),
    close,
    end,
    wakeAt: later.length === 0 ? undefined : new Date(Math.min(...later.map((at) => at.getTime())))
  }
}

/** What a failed attempt leads to. */
export const afterFailure = (task: Pick<Task<unknown, unknown>, "retries" | "retryDelay">, failuresBefore: number, now: Date): TaskStatus => {
  const failures = failuresBefore + 1
  return failures <= task.retries
    ? { state: "waiting", failures, readyAt: new Date(now.getTime() + Duration.toMillis(task.retryDelay)) }
    : { state: "failed", failures, readyAt: undefined }
}
