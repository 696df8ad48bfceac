/**
 * Schema changes, given by several libraries, applied once each and in the order given.
 *
 * Not @effect/sql's Migrator, which numbers migrations in one sequence and runs those above the highest one recorded:
 * with several libraries giving their own, a new one of the first would never run. Here a migration is known by name,
 * `<library>/<what it does>`.
 *
 * All pending ones run in one transaction under an advisory lock, so that processes starting together are safe and a
 * failed set leaves nothing.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect, Schema } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import { faultOf } from "./SqlFault.ts"
import { transaction } from "./Transaction.ts"

export interface Migration {
  /** Unique and for ever, such as `event-log/create`. */
  readonly name: string
  readonly apply: Effect.Effect<unknown, SqlError, SqlClient>
}

/** A migration given as SQL text, of one or more statements. */
export const fromSql = (name: string, text: string): Migration => ({
  name,
  apply: Effect.flatMap(SqlClient, (sql) => sql.unsafe(text))
})

/** The database has seen migrations that this program does not know: a newer version's data, better left alone. */
export class UnknownMigrations extends Schema.TaggedError<UnknownMigrations>()("UnknownMigrations", {
  names: Schema.Array(Schema.String)
}) {
  override get message() {
    const names = this.names.join(", ")
    return `the database was used by a newer version of Voltlake, which applied ${names}; run that version`
  }
}

/**
 * Nothing was applied (or, where the connection was lost, everything may have been: running again finds out and is
 * safe).
 */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  name: Schema.String,
  reason: Schema.String,
  /** Whether waiting can help: the server went away. */
  retryable: Schema.Boolean
}) {
  override get message() {
    return `migration ${this.name} failed: ${this.reason}`
  }
}

/** Two-part advisory key. */
const migrationsLock = "1869, 2"

const failed = (name: string, error: SqlError) => {
  const { reason, retryable } = faultOf(error)
  return new MigrationFailed({ name, reason, retryable })
}

const applyOne = Effect.fnUntraced(function*(migration: Migration) {
  const sql = yield* SqlClient
  yield* Effect.mapError(
    migration.apply,
    (error) => failed(migration.name, error)
  )
  yield* sql`insert into lake.migration (name) values (${migration.name})`
})

const applyPending = Effect.fnUntraced(function*(migrations: ReadonlyArray<Migration>) {
  const sql = yield* SqlClient
  yield* sql.unsafe(`select pg_advisory_xact_lock(${migrationsLock})`)
  yield* sql.unsafe(`
    set local client_min_messages = warning;
    create schema if not exists lake;
    create table if not exists lake.migration (name text primary key, applied_at timestamptz not null default now())
  `)
  const rows = yield* sql<{ readonly name: string }>`select name from lake.migration order by applied_at, name`
  const applied = new Set(rows.map((row) => row.name))
  const known = new Set(migrations.map((migration) => migration.name))
  const names = rows.map((row) => row.name).filter((name) => !known.has(name))
  if (names.length > 0) return yield* new UnknownMigrations({ names })
  const pending = migrations.filter((migration) => !applied.has(migration.name))
  yield* Effect.forEach(pending, applyOne, { discard: true })
  return pending.map((migration) => migration.name)
})

/**
 * Applies what is pending, and answers the names. Give every library's migrations in one call: others count as unknown.
 */
export const run = Effect.fn("Migrations.run")(function*(migrations: ReadonlyArray<Migration>) {
  invariant(new Set(migrations.map((one) => one.name)).size === migrations.length, "two migrations have the same name")
  return yield* transaction(applyPending(migrations)).pipe(
    Effect.catchTags({
      SqlError: (error) => failed("bookkeeping", error),
      CommitUnknown: (error) => new MigrationFailed({ name: "commit", reason: error.reason, retryable: true })
    })
  )
})
