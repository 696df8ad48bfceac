/** Gold's progress: a row in PostgreSQL that the transaction of the upserts locks, compares and moves. */
import type { SqlClient, SqlError } from "@effect/sql"
import { Effect, Either } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import * as Progress from "@voltlake/domain/Progress"

export interface GoldProgress {
  readonly progress: Progress.Progress
  /** Silver's epoch that it counts in: what was read before silver was rewound is no part of it. */
  readonly silverEpoch: number
  /** Silver's last removal that it has followed (`Removals.id`): rows of silver before it count no more. */
  readonly silverRemoval: string
  /** The first day (since 1970) of which tables of minutes have rows in PostgreSQL; undefined: all days. */
  readonly minutesFrom: number | undefined
  /** Of live tables' rows: another one where rows were mended since. */
  readonly revision: bigint
}

interface Row {
  readonly progress: string
  readonly silver_epoch: number
  readonly silver_removal: string
  readonly minutes_from: number | null
  readonly revision: string | number | bigint
}

const decode = (rows: ReadonlyArray<Row>): GoldProgress => {
  const row = rows[0]
  invariant(row !== undefined, "the migrations make gold's row")
  return {
    progress: Either.getOrThrow(Progress.decode(row.progress)),
    silverEpoch: row.silver_epoch,
    silverRemoval: row.silver_removal,
    minutesFrom: row.minutes_from ?? undefined,
    revision: BigInt(row.revision)
  }
}

export const read = (sql: SqlClient.SqlClient): Effect.Effect<GoldProgress, SqlError.SqlError> =>
  Effect.map(sql<Row>`SELECT progress, silver_epoch, silver_removal, minutes_from, revision FROM lake.gold_progress`, decode)

/** Locks the row until the transaction ends: of two gold processes one waits here, and then finds its range taken. */
export const lock = (sql: SqlClient.SqlClient): Effect.Effect<GoldProgress, SqlError.SqlError> =>
  Effect.map(sql<Row>`SELECT progress, silver_epoch, silver_removal, minutes_from, revision FROM lake.gold_progress FOR UPDATE`, decode)

/** The same: nobody has moved gold meanwhile. */
export const equals = (a: GoldProgress, b: GoldProgress): boolean =>
  a.silverEpoch === b.silverEpoch && a.silverRemoval === b.silverRemoval && a.minutesFrom === b.minutesFrom && a.revision === b.revision &&
  Progress.encode(a.progress) === Progress.encode(b.progress)

export const write = (
  sql: SqlClient.SqlClient,
  { minutesFrom, progress, revision, silverEpoch, silverRemoval }: GoldProgress
): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql`UPDATE lake.gold_progress
    SET progress = ${Progress.encode(progress)}, silver_epoch = ${silverEpoch}, silver_removal = ${silverRemoval}, minutes_from = ${minutesFrom ?? null},
      revision = ${String(revision)}::bigint`)
