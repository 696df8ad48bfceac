/** DAGs as values: tasks with what they wait for, and when and how a run of them begins. */
import { Cron, type Duration, Either, Schema } from "effect"
import type { Effect } from "effect"

/** What a task knows of the attempt that it is. */
export interface TaskContext {
  readonly dag: string
  readonly runId: string
  /** The time that the run stands for: the tick of a schedule, or when somebody asked for it. */
  readonly logicalTime: Date
  readonly parameters: Readonly<Record<string, string>>
  /** 1 for the first. */
  readonly attempt: number
  /** For the commit of this attempt. */
  readonly commitId: string
  /** Of attempts that did not come to their end: what a process committed that was killed before it could say so has one of them. */
  readonly earlierCommitIds: ReadonlyArray<string>
}

/** What came of a task, for people: shown with the run. */
export type Facts = Readonly<Record<string, string | number | boolean | null>>

export interface Task<out E, out R> {
  readonly name: string
  /** Tasks that must have succeeded. */
  readonly after: ReadonlyArray<string>
  /** How often it is tried again after a failure. */
  readonly retries: number
  readonly retryDelay: Duration.Duration
  /** An attempt that takes longer has failed. */
  readonly timeout: Duration.Duration
  /** May be run more often than once for one attempt that counts: a process may die before it could note the end. */
  readonly run: (context: TaskContext) => Effect.Effect<Facts, E, R>
}

export interface Schedule {
  /** Five fields, or six with seconds. */
  readonly cron: string
  /** IANA name, such as `UTC`. */
  readonly timeZone: string
  /** Of ticks that passed while nobody looked: none is run, or the latest. */
  readonly catchUp: "none" | "latest"
  /** A tick while a run is under way: it is skipped, or waits for its turn. */
  readonly overlap: "skip" | "wait"
}

export interface Dag<out E, out R> {
  readonly name: string
  readonly description: string
  /** Without one it runs when somebody asks for it. */
  readonly schedule: Schedule | undefined
  /** A run that takes longer is stuck, and reported. */
  readonly stuckAfter: Duration.Duration
  readonly tasks: ReadonlyArray<Task<E, R>>
}

/** A DAG that cannot be run as it is written. */
export class DagInvalid extends Schema.TaggedError<DagInvalid>()("DagInvalid", { dag: Schema.String, reason: Schema.String }) {
  override get message() {
    return `DAG ${this.dag}: ${this.reason}`
  }
}

export const parseCron = (dag: string, { cron, timeZone }: Pick<Schedule, "cron" | "timeZone">): Either.Either<Cron.Cron, DagInvalid> =>
  Either.mapLeft(Cron.parse(cron, timeZone), (error) => new DagInvalid({ dag, reason: `schedule "${cron}" in ${timeZone}: ${error.message}` }))

/** The tasks in an order in which each comes after those that it waits for; or why there is none. */
export const order = ({ name: dag, tasks }: Pick<Dag<unknown, unknown>, "name" | "tasks">): Either.Either<ReadonlyArray<string>, DagInvalid> => {
  const invalid = (reason: string) => Either.left(new DagInvalid({ dag, reason }))
  const names = tasks.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) return invalid(`it has two tasks ${twice}`)
  for (const { after, name } of tasks) {
    const unknown = after.find((one) => !names.includes(one))
    if (unknown !== undefined) return invalid(`task ${name} comes after ${unknown}, which is none of its tasks`)
  }
  const done: Array<string> = []
  while (done.length < tasks.length) {
    const next = tasks.filter(({ after, name }) => !done.includes(name) && after.every((one) => done.includes(one)))
    if (next.length === 0) return invalid(`tasks wait for each other: ${names.filter((name) => !done.includes(name)).join(", ")}`)
    done.push(...next.map(({ name }) => name))
  }
  return Either.right(done)
}
