/** What the tables of runs are asked and told. Statements that change a run for the leader are made within `Leadership.fenced`. */
import { SqlClient } from "@effect/sql/SqlClient"
import { Effect, Schema } from "effect"
import { randomUUID } from "node:crypto"
import type { Facts } from "./Dag.ts"
import type { RunEnd, TaskState, TaskStatus } from "./RunPlan.ts"

export type RunState = "queued" | "running" | RunEnd | "skipped"

export interface Run {
  readonly id: string
  readonly dag: string
  readonly kind: "scheduled" | "manual" | "backfill"
  readonly logicalTime: Date
  readonly parameters: Readonly<Record<string, string>>
  readonly state: RunState
  readonly parallel: number
  readonly isCancelled: boolean
  readonly isReported: boolean
  readonly reason: string | null
  readonly createdAt: Date
  readonly startedAt: Date | null
  readonly endedAt: Date | null
}

export interface TaskRow {
  readonly task: string
  readonly state: TaskState
  readonly failures: number
  readonly readyAt: Date | null
  readonly facts: Facts | null
}

export interface Attempt {
  readonly task: string
  readonly attempt: number
  readonly commitId: string
  readonly state: "running" | "succeeded" | "failed" | "lost" | "cancelled"
  readonly startedAt: Date
  readonly endedAt: Date | null
  readonly error: string | null
}

export interface LogLine {
  readonly task: string
  readonly attempt: number
  readonly at: Date
  readonly level: string
  readonly message: string
}

/** Told when there may be something to do for the leader, and when a run has changed. */
export const channel = "voltlake_dag"

/** No such run, or DAG. */
export class RunNotFound extends Schema.TaggedError<RunNotFound>()("RunNotFound", { what: Schema.String }) {
  override get message() {
    return `there is no ${this.what}`
  }
}

const sqlOf = SqlClient
export const wake = Effect.flatMap(sqlOf, (sql) => sql`SELECT pg_notify(${channel}, '')`)

const runColumns = `id::text, dag, kind, logical_time AS "logicalTime", parameters, state, parallel, is_cancelled AS "isCancelled",
  is_reported AS "isReported", reason, created_at AS "createdAt", started_at AS "startedAt", ended_at AS "endedAt"`

/** Runs that have not come to their end, those that should begin first first. */
export const open = Effect.flatMap(sqlOf, (sql) =>
  sql.unsafe<Run>(`SELECT ${runColumns} FROM ops.dag_run WHERE state IN ('queued', 'running') ORDER BY logical_time, created_at`))

export const newest = (dag: string | undefined, max: number) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql.unsafe<Run>(`SELECT ${runColumns} FROM ops.dag_run WHERE $1::text IS NULL OR dag = $1 ORDER BY created_at DESC, logical_time DESC LIMIT $2`, [
      dag ?? null,
      max
    ]))

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export const find = Effect.fn("RunStore.find")(function*(id: string) {
  const sql = yield* sqlOf
  const [run] = uuid.test(id) ? yield* sql.unsafe<Run>(`SELECT ${runColumns} FROM ops.dag_run WHERE id = $1::uuid`, [id]) : []
  return run ?? (yield* new RunNotFound({ what: `run ${id}` }))
})

export interface NewRun extends Pick<Run, "dag" | "kind" | "logicalTime"> {
  readonly parameters?: Readonly<Record<string, string>>
  readonly parallel?: number
  /** Noted, but not run, and why. */
  readonly skipped?: string
}

/** Answers the id; none where the schedule's run of that time is there already. */
export const create = Effect.fn("RunStore.create")(function*(run: NewRun) {
  const sql = yield* sqlOf
  const id = yield* Effect.sync(() => randomUUID())
  const made = yield* sql`INSERT INTO ops.dag_run (id, dag, kind, logical_time, parameters, parallel, state, reason, ended_at)
    VALUES (${id}::uuid, ${run.dag}, ${run.kind}, ${run.logicalTime}, ${JSON.stringify(run.parameters ?? {})}::text::jsonb, ${run.parallel ?? 1},
      ${run.skipped === undefined ? "queued" : "skipped"}, ${run.skipped ?? null}, ${run.skipped === undefined ? null : sql`now()`})
    ON CONFLICT (dag, logical_time) WHERE kind = 'scheduled' DO NOTHING RETURNING id`
  yield* wake
  return made.length === 0 ? undefined : id
})

/** Asks for the end of a run. Answers whether there was anything to end. */
export const cancel = Effect.fn("RunStore.cancel")(function*(id: string) {
  const run = yield* find(id)
  const sql = yield* sqlOf
  const asked = yield* sql`UPDATE ops.dag_run SET is_cancelled = true WHERE id = ${run.id}::uuid AND state IN ('queued', 'running') RETURNING id`
  yield* wake
  return asked.length > 0
})

export interface DagRow {
  readonly name: string
  readonly isPaused: boolean
  readonly seen: Date
}

/** Of all DAGs that were ever known. */
export const dags = Effect.flatMap(sqlOf, (sql) => sql<DagRow>`SELECT name, is_paused AS "isPaused", seen FROM ops.dag`)

/** Makes the DAG known: its schedule counts from now on. */
export const know = (name: string, now: Date) =>
  Effect.flatMap(sqlOf, (sql) => sql`INSERT INTO ops.dag (name, seen) VALUES (${name}, ${now}) ON CONFLICT DO NOTHING`)

export const see = (name: string, seen: Date) => Effect.flatMap(sqlOf, (sql) => sql`UPDATE ops.dag SET seen = ${seen} WHERE name = ${name}`)

/** A paused DAG begins no run by its schedule. What it missed is passed over once it goes on, as its policy says. */
export const pause = Effect.fn("RunStore.pause")(function*(name: string, isPaused: boolean, now: Date) {
  const sql = yield* sqlOf
  yield* know(name, now)
  yield* sql`UPDATE ops.dag SET is_paused = ${isPaused} WHERE name = ${name}`
  yield* wake
})

export const tasks = (run: string) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql<TaskRow>`SELECT task, state, failures, ready_at AS "readyAt", facts FROM ops.dag_task WHERE run = ${run}::uuid ORDER BY task`)

export const attempts = (run: string) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql<Attempt>`SELECT task, attempt, commit_id::text AS "commitId", state, started_at AS "startedAt", ended_at AS "endedAt", error
      FROM ops.dag_attempt WHERE run = ${run}::uuid ORDER BY started_at, task, attempt`)

export interface NotedLine extends LogLine {
  readonly id: string
}

/** At most `max` lines after an id; all where neither is given. */
export const logs = (run: string, after = "0", max?: number) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql<NotedLine>`SELECT id::text, task, attempt, at, level, message FROM ops.dag_log
      WHERE run = ${run}::uuid AND id > ${after}::bigint ORDER BY dag_log.id LIMIT ${max ?? null}::bigint`)

export const start = (run: string, now: Date) =>
  Effect.flatMap(sqlOf, (sql) => sql`UPDATE ops.dag_run SET state = 'running', started_at = ${now} WHERE id = ${run}::uuid AND state = 'queued'`)

export const end = (run: string, state: RunEnd, reason: string | undefined, now: Date) =>
  Effect.flatMap(sqlOf, (sql) =>
    Effect.zipRight(
      sql`UPDATE ops.dag_run SET state = ${state}, reason = ${reason ?? null}, ended_at = ${now} WHERE id = ${run}::uuid`,
      wake
    ))

export const report = (run: string) => Effect.flatMap(sqlOf, (sql) => sql`UPDATE ops.dag_run SET is_reported = true WHERE id = ${run}::uuid`)

/** A task's status; what came of it is kept where not given. */
export const setTask = (run: string, task: string, { failures, readyAt, state }: TaskStatus, facts?: Facts) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql`INSERT INTO ops.dag_task (run, task, state, failures, ready_at, facts)
      VALUES (${run}::uuid, ${task}, ${state}, ${failures}, ${readyAt ?? null}, ${facts === undefined ? null : JSON.stringify(facts)}::text::jsonb)
      ON CONFLICT (run, task) DO UPDATE SET state = excluded.state, failures = excluded.failures, ready_at = excluded.ready_at,
        facts = coalesce(excluded.facts, dag_task.facts)`)

export interface BegunAttempt {
  readonly attempt: number
  readonly commitId: string
  readonly earlierCommitIds: ReadonlyArray<string>
}

export const beginAttempt = Effect.fn("RunStore.beginAttempt")(function*(run: string, task: string, term: bigint, now: Date) {
  const sql = yield* sqlOf
  const commitId = yield* Effect.sync(() => randomUUID())
  const before = yield* sql<{ readonly attempt: number; readonly commit_id: string; readonly state: string }>`
    SELECT attempt, commit_id::text, state FROM ops.dag_attempt WHERE run = ${run}::uuid AND task = ${task} ORDER BY attempt`
  const attempt = (before.at(-1)?.attempt ?? 0) + 1
  yield* sql`INSERT INTO ops.dag_attempt (run, task, attempt, commit_id, term, state, started_at)
    VALUES (${run}::uuid, ${task}, ${attempt}, ${commitId}::uuid, ${String(term)}::bigint, 'running', ${now})`
  return { attempt, commitId, earlierCommitIds: before.filter(({ state }) => state !== "succeeded").map((one) => one.commit_id) } satisfies BegunAttempt
})

export const endAttempt = (run: string, task: string, attempt: number, state: Attempt["state"], error: string | undefined, now: Date) =>
  Effect.flatMap(sqlOf, (sql) =>
    sql`UPDATE ops.dag_attempt SET state = ${state}, error = ${error ?? null}, ended_at = ${now}
      WHERE run = ${run}::uuid AND task = ${task} AND attempt = ${attempt}`)

/** Attempts that earlier terms left under way are lost, and their tasks wait to be run again. */
export const loseAttempts = Effect.fn("RunStore.loseAttempts")(function*(term: bigint, now: Date) {
  const sql = yield* sqlOf
  return yield* sql<{ readonly run: string; readonly task: string }>`
    WITH lost AS (
      UPDATE ops.dag_attempt SET state = 'lost', ended_at = ${now} WHERE state = 'running' AND term < ${String(term)}::bigint RETURNING run, task
    )
    UPDATE ops.dag_task SET state = 'waiting', ready_at = NULL FROM lost
    WHERE dag_task.run = lost.run AND dag_task.task = lost.task AND dag_task.state = 'running' RETURNING dag_task.run::text, dag_task.task`
})

export const addLogs = (run: string, lines: ReadonlyArray<LogLine>) =>
  lines.length === 0
    ? Effect.void
    : Effect.flatMap(sqlOf, (sql) =>
      Effect.asVoid(sql`INSERT INTO ops.dag_log (run, task, attempt, at, level, message)
        SELECT ${run}::uuid, l.task, l.attempt, l.at, l.level, l.message
        FROM json_to_recordset(${JSON.stringify(lines)}::text::json) AS l(task text, attempt int, at timestamptz, level text, message text)`))

/** Runs that ended before a time go, with all that is kept of them. */
export const prune = (before: Date) =>
  Effect.flatMap(sqlOf, (sql) => Effect.map(sql`DELETE FROM ops.dag_run WHERE ended_at < ${before} RETURNING id`, (rows) => rows.length))
