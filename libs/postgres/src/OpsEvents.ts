/**
 * The event log of operations, `ops.events`: what happened to the lake that an operator, or what alarms one, should know. Rows are added and never changed.
 *
 * Ids follow the order in which events were noted, which is not quite that in which they become visible: each is of its own transaction. Who polls asks again
 * from a little before the last that it has seen ({@link overlap}).
 *
 * Commits to tables are most of what is here, several a second: they are kept for days, and left out where they are not asked for. All else is kept for months.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Duration, Effect } from "effect"
import { fromSql } from "./Migrations.ts"
import { transaction } from "./Transaction.ts"

/** A commit to one or several tables. */
export const commitKind = "table_committed"

/** What says no more than that all goes on. */
const routine = `(kind = '${commitKind}' AND severity = 'INFO')`

export const tableSql = `
    CREATE SCHEMA IF NOT EXISTS ops;
    CREATE TABLE IF NOT EXISTS ops.events (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT now(),
      severity text NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'ERROR')),
      kind text NOT NULL,
      subject text NOT NULL,
      message text NOT NULL,
      facts jsonb NOT NULL
    );
    CREATE INDEX IF NOT EXISTS events_at_idx ON ops.events (at);
    COMMENT ON TABLE ops.events IS 'What happened to the lake: commits, runs, differences found, breaches, late and stuck runs, stages that stopped';
    COMMENT ON COLUMN ops.events.kind IS 'What happened, as a name: run_failed, run_late, gold_differs';
    COMMENT ON COLUMN ops.events.subject IS 'What it happened to: a DAG with its run, a table'
  `

export const migrations = [
  fromSql("ops/events", tableSql),
  // Few among many commits: without an index of their own each look for them would read all.
  fromSql("ops/events-beside-commits", `
    CREATE INDEX events_beside_commits ON ops.events (id) WHERE NOT ${routine};
    CREATE INDEX events_of_stages ON ops.events (subject, id) WHERE kind IN ('stage_stopped', 'stage_goes_on');
    COMMENT ON TABLE ops.events IS 'What happened to the lake: commits, runs, differences found, breaches, late and stuck runs, stages that stopped'`)
]

export const severities = ["INFO", "WARNING", "ERROR"] as const
export type Severity = (typeof severities)[number]

export interface NewEvent {
  readonly severity: Severity
  readonly kind: string
  readonly subject: string
  /** One sentence for people. */
  readonly message: string
  /** JSON values. */
  readonly facts: Readonly<Record<string, unknown>>
}

export interface OpsEvent extends NewEvent {
  readonly id: string
  readonly at: Date
}

/** Told the id of the newest event. */
export const channel = "voltlake_events"

const longAsText = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value)

/** What else is told with an event, by the same statement. */
export interface Told {
  readonly channel: string
  readonly payload: string
}

/** In the caller's transaction, where there is one. */
export const add = (event: NewEvent, also?: Told): Effect.Effect<void, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) =>
    Effect.asVoid(sql`
      WITH added AS (
        INSERT INTO ops.events (severity, kind, subject, message, facts)
        VALUES (${event.severity}, ${event.kind}, ${event.subject}, ${event.message}, ${JSON.stringify(event.facts, longAsText)}::text::jsonb) RETURNING id
      ) SELECT pg_notify(${channel}, id::text)${also === undefined ? sql`` : sql`, pg_notify(${also.channel}, ${also.payload})`} FROM added`))

/** The newest of a stage's own events, under a lock that keeps another process from noting the same. */
const newestOfStage = Effect.fnUntraced(function*(stage: string) {
  const sql = yield* SqlClient
  yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`stage events of ${stage}`}, 0))`
  const [last] = yield* sql<{ readonly kind: string; readonly message: string }>`
    SELECT kind, message FROM ops.events WHERE subject = ${stage} AND kind IN ('stage_stopped', 'stage_goes_on') ORDER BY id DESC LIMIT 1`
  return last
})

/** A stage has stopped for an operator's decision. Noted once: whoever tries again and stops for the same adds nothing. */
export const stageStopped = (stage: string, message: string, facts: NewEvent["facts"]) =>
  transaction(Effect.flatMap(newestOfStage(stage), (last) =>
    last?.kind === "stage_stopped" && last.message === message
      ? Effect.void
      : add({ severity: "ERROR", kind: "stage_stopped", subject: stage, message, facts })))

/** A stage does its work. Noted where it had stopped. */
export const stageGoesOn = (stage: string) =>
  transaction(Effect.flatMap(newestOfStage(stage), (last) =>
    last?.kind === "stage_stopped"
      ? add({ severity: "INFO", kind: "stage_goes_on", subject: stage, message: `${stage} goes on`, facts: { stage } })
      : Effect.void))

/** Which events are asked for. */
export interface Wanted {
  /** This and what is worse; all where not given. */
  readonly severity?: Severity | undefined
  readonly kind?: string | undefined
  /** Also commits that say no more than that all goes on. Where a kind is given it alone decides. */
  readonly commits?: boolean | undefined
}

/** Text of ours, and values of the caller by number from `first` on. The index beside commits serves all but those. */
const wantedSql = ({ commits = false, kind, severity = "INFO" }: Wanted, first: number) => ({
  text: [
    `severity IN (${severities.slice(severities.indexOf(severity)).map((one) => `'${one}'`).join(", ")})`,
    ...((kind === undefined ? commits : kind === commitKind) ? [] : [`NOT ${routine}`]),
    ...(kind === undefined ? [] : [`kind = $${first}`])
  ].join(" AND "),
  values: kind === undefined ? [] : [kind]
})

const columns = "id::text, at, severity, kind, subject, message, facts"

/** Who polls sees an event again that was noted among so many before the last. */
export const overlap = 200

/** Events after an id, oldest first. */
export const after = (id: string, max: number, wanted: Wanted = {}): Effect.Effect<ReadonlyArray<OpsEvent>, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) => {
    const { text, values } = wantedSql(wanted, 3)
    return sql.unsafe<OpsEvent>(`SELECT ${columns} FROM ops.events WHERE id > $1::bigint AND ${text} ORDER BY events.id LIMIT $2`, [id, max, ...values])
  })

/** The newest events, oldest first. */
export const newest = (max: number, wanted: Wanted = {}): Effect.Effect<ReadonlyArray<OpsEvent>, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) => {
    const { text, values } = wantedSql(wanted, 2)
    return Effect.map(
      sql.unsafe<OpsEvent>(`SELECT ${columns} FROM ops.events WHERE ${text} ORDER BY events.id DESC LIMIT $1`, [max, ...values]),
      (found) => found.toReversed()
    )
  })

const commitsKept = Duration.days(7)
const othersKept = Duration.days(90)
/** So many are deleted by one statement. */
const sliceMax = 20_000

/** Deletes what is no longer kept at `now`. Answers how many. */
export const prune = Effect.fn("OpsEvents.prune")(function*(now: Date) {
  const sql = yield* SqlClient
  const before = (kept: Duration.Duration) => new Date(now.getTime() - Duration.toMillis(kept))
  let deleted = 0
  for (const [condition, end] of [[routine, before(commitsKept)], ["true", before(othersKept)]] as const) {
    while (true) {
      const gone = yield* sql.unsafe(`DELETE FROM ops.events WHERE id IN (
        SELECT id FROM ops.events WHERE at < $1 AND ${condition} ORDER BY at LIMIT ${sliceMax}) RETURNING id`, [end])
      deleted += gone.length
      if (gone.length < sliceMax) break
    }
  }
  return deleted
})
