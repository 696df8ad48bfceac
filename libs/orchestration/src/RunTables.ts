/** Runs, their tasks, attempts and logs in PostgreSQL (schema `ops`): the only memory that the orchestrator has. */
import { fromSql } from "@voltlake/postgres/Migrations"

export const migrations = [
  fromSql("ops/runs", `
    CREATE SCHEMA IF NOT EXISTS ops;

    CREATE TABLE ops.leader (
      id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
      holder uuid NOT NULL,
      host text NOT NULL,
      pid int NOT NULL,
      term bigint NOT NULL,
      until timestamptz NOT NULL
    );
    COMMENT ON TABLE ops.leader IS 'The orchestrator that works, for as long as it renews this; every change that it makes to a run asks for it';

    CREATE TABLE ops.dag (
      name text PRIMARY KEY,
      is_paused boolean NOT NULL DEFAULT false,
      seen timestamptz NOT NULL
    );
    COMMENT ON COLUMN ops.dag.seen IS 'Ticks up to this have been dealt with';

    CREATE TABLE ops.dag_run (
      id uuid PRIMARY KEY,
      dag text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('scheduled', 'manual', 'backfill')),
      logical_time timestamptz NOT NULL,
      parameters jsonb NOT NULL DEFAULT '{}',
      state text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
      parallel int NOT NULL DEFAULT 1,
      is_cancelled boolean NOT NULL DEFAULT false,
      is_reported boolean NOT NULL DEFAULT false,
      reason text,
      created_at timestamptz NOT NULL DEFAULT now(),
      started_at timestamptz,
      ended_at timestamptz
    );
    CREATE UNIQUE INDEX dag_run_tick ON ops.dag_run (dag, logical_time) WHERE kind = 'scheduled';
    CREATE INDEX dag_run_open ON ops.dag_run (dag) WHERE state IN ('queued', 'running');
    CREATE INDEX dag_run_newest ON ops.dag_run (dag, created_at);
    COMMENT ON COLUMN ops.dag_run.parallel IS 'Runs of a backfill that may be under way at once';

    CREATE TABLE ops.dag_task (
      run uuid NOT NULL REFERENCES ops.dag_run ON DELETE CASCADE,
      task text NOT NULL,
      state text NOT NULL CHECK (state IN ('waiting', 'running', 'succeeded', 'failed', 'upstream_failed', 'cancelled')),
      failures int NOT NULL DEFAULT 0,
      ready_at timestamptz,
      facts jsonb,
      PRIMARY KEY (run, task)
    );

    CREATE TABLE ops.dag_attempt (
      run uuid NOT NULL,
      task text NOT NULL,
      attempt int NOT NULL,
      commit_id uuid NOT NULL,
      term bigint NOT NULL,
      state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'lost', 'cancelled')),
      started_at timestamptz NOT NULL,
      ended_at timestamptz,
      error text,
      PRIMARY KEY (run, task, attempt),
      FOREIGN KEY (run, task) REFERENCES ops.dag_task ON DELETE CASCADE
    );
    COMMENT ON COLUMN ops.dag_attempt.state IS 'lost: its process died before it could say how it ended; it counts as no failure';

    CREATE TABLE ops.dag_log (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      run uuid NOT NULL REFERENCES ops.dag_run ON DELETE CASCADE,
      task text NOT NULL,
      attempt int NOT NULL,
      at timestamptz NOT NULL,
      level text NOT NULL,
      message text NOT NULL
    );
    CREATE INDEX ON ops.dag_log (run, id);
  `)
]
