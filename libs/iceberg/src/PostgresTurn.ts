/**
 * Turns between processes that commit to the same tables: an advisory lock for each table, held by a transaction that does nothing else, on a
 * connection of its own.
 *
 * Politeness, and nothing rests on it: who cannot have its turn goes on without one. A holder that is frozen loses the turn to PostgreSQL's own limit
 * for idle transactions, and one that is gone loses it with its connection.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import { Duration, Effect, type Redacted } from "effect"
import { connect } from "@voltlake/postgres/DedicatedConnection"
import type { CommitTurn } from "./Catalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

/** First part of the advisory key; the second is the hash of the table's name. Another than that of session locks. */
const lockClass = 1871
/** Longer than some attempts over a slow store take. */
const waitMax = Duration.seconds(5)
const holdMax = Duration.seconds(5)
/** For the connection besides. */
const limit = Duration.sum(waitMax, Duration.seconds(1))

/** Whether somebody has a turn or waits for one: a shared lock, given back at once, is refused then. */
const isContended = (sql: SqlClient, names: ReadonlyArray<string>) =>
  Effect.map(
    sql<{ readonly free: boolean }>`
      SELECT coalesce(bool_and(pg_try_advisory_xact_lock_shared(${lockClass}::int, hashtext(name))), true) AS free
      FROM (VALUES ${sql.csv(names.map((name) => sql`(${name}::text)`))}) AS wanted (name)`,
    (rows) => rows[0]?.free === false
  )

const wait = Effect.fnUntraced(function*(url: Redacted.Redacted, names: ReadonlyArray<string>) {
  const connection = yield* connect(url, "waits for its turn to commit")
  yield* connection.query(`BEGIN;
    SET LOCAL lock_timeout = ${Duration.toMillis(waitMax)};
    SET LOCAL idle_in_transaction_session_timeout = ${Duration.toMillis(holdMax)}`)
  for (const name of names) yield* connection.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [lockClass, name])
})

/** In the order of names, so that two commits of several tables never wait for each other. */
export const make = (sql: SqlClient, url: Redacted.Redacted): CommitTurn => (tables, hasLost) => {
  const names = Array.from(new Set(tables.map(TableIdentifier.render))).sort()
  return Effect.gen(function*() {
    if (hasLost || (yield* isContended(sql, names))) yield* wait(url, names)
  }).pipe(
    Effect.timeout(limit),
    Effect.catchAll((error) => Effect.logDebug("commits without a turn").pipe(Effect.annotateLogs({ tables: names.join(","), reason: error.message }))),
    Effect.withSpan("PostgresCatalog.turn")
  )
}
