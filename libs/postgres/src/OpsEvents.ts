/**
 * The event log of operations, `ops.events`: what happened to the lake that an operator, or what alarms one, should know, in the order in which it became
 * known. Rows are added and never changed.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import { fromSql } from "./Migrations.ts"

export const migrations = [
  fromSql("ops/events", `
    CREATE SCHEMA IF NOT EXISTS ops;
    CREATE TABLE ops.events (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT now(),
      severity text NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'ERROR')),
      kind text NOT NULL,
      subject text NOT NULL,
      message text NOT NULL,
      facts jsonb NOT NULL
    );
    CREATE INDEX ON ops.events (at);
    COMMENT ON TABLE ops.events IS 'What happened to the lake: runs, differences found, breaches, late and stuck runs';
    COMMENT ON COLUMN ops.events.kind IS 'What happened, as a name: run_failed, run_late, gold_differs';
    COMMENT ON COLUMN ops.events.subject IS 'What it happened to: a DAG with its run, a table'
  `)
]

export type Severity = "INFO" | "WARNING" | "ERROR"

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

/** In the caller's transaction, where there is one. */
export const add = (event: NewEvent): Effect.Effect<void, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) =>
    Effect.asVoid(sql`
      WITH added AS (
        INSERT INTO ops.events (severity, kind, subject, message, facts)
        VALUES (${event.severity}, ${event.kind}, ${event.subject}, ${event.message}, ${JSON.stringify(event.facts, longAsText)}::text::jsonb) RETURNING id
      ) SELECT pg_notify(${channel}, id::text) FROM added`))

/** Events after an id, oldest first. */
export const after = (id: string, max: number): Effect.Effect<ReadonlyArray<OpsEvent>, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) =>
    sql<OpsEvent>`SELECT id::text, at, severity, kind, subject, message, facts FROM ops.events WHERE id > ${id}::bigint ORDER BY id LIMIT ${max}`)

/** The newest events, oldest first. */
export const newest = (max: number): Effect.Effect<ReadonlyArray<OpsEvent>, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) =>
    sql<OpsEvent>`SELECT * FROM (
      SELECT id::text, at, severity, kind, subject, message, facts FROM ops.events ORDER BY events.id DESC LIMIT ${max}) AS e ORDER BY id::bigint`)
