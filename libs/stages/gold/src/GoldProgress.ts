/** Gold's progress: a row in PostgreSQL that the transaction of the upserts locks, compares and moves. */
import type { SqlClient, SqlError } from "@effect/sql"
import { Effect, Either } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import * as Progress from "@voltlake/domain/Progress"

const decode = (rows: ReadonlyArray<{ readonly progress: string }>): Progress.Progress => {
  const row = rows[0]
  invariant(row !== undefined, "the migrations make gold's row")
  return Either.getOrThrow(Progress.decode(row.progress))
}

export const read = (sql: SqlClient.SqlClient): Effect.Effect<Progress.Progress, SqlError.SqlError> =>
  Effect.map(sql<{ readonly progress: string }>`SELECT progress FROM lake.gold_progress`, decode)

/** Locks the row until the transaction ends: of two gold processes one waits here, and then finds its range taken. */
export const lock = (sql: SqlClient.SqlClient): Effect.Effect<Progress.Progress, SqlError.SqlError> =>
  Effect.map(sql<{ readonly progress: string }>`SELECT progress FROM lake.gold_progress FOR UPDATE`, decode)

export const write = (sql: SqlClient.SqlClient, progress: Progress.Progress): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql`UPDATE lake.gold_progress SET progress = ${Progress.encode(progress)}`)
