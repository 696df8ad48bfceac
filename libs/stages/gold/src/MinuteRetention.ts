/**
 * Tables of minutes in PostgreSQL are kept for a number of days; Iceberg has all of them. First it is noted from which day on there are rows, under gold's
 * lock: from then on nobody writes earlier ones. Then those that are there go, a day at a time.
 */
import { PgClient } from "@effect/sql-pg"
import { Clock, Effect, Either } from "effect"
import { transaction } from "@voltlake/postgres/Transaction"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { days } from "@voltlake/stage-runner/DaysConfig"
import * as GoldModels from "./GoldModels.ts"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldTable from "./GoldTable.ts"
import { dayLength } from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"

export const settingsConfig = days(
  "GOLD_MINUTES_DAYS",
  "Whole UTC days that tables of minutes are kept in PostgreSQL besides today, Iceberg keeping all; for ever where not set"
)

const dayMs = 86_400_000

/** Moves the first day on. It never moves back: earlier rows are gone, and a longer time counts from what is there. */
const moveTo = Effect.fnUntraced(function*(day: number) {
  const sql = yield* PgClient.PgClient
  return yield* transaction(Effect.gen(function*() {
    const gold = yield* GoldProgress.lock(sql)
    const minutesFrom = Math.max(gold.minutesFrom ?? day, day)
    if (minutesFrom !== gold.minutesFrom) yield* GoldProgress.write(sql, { ...gold, minutesFrom })
    return minutesFrom
  }))
})

/** Removes rows before a day; answers how many. */
const removeBefore = Effect.fnUntraced(function*(table: string, time: string, day: number) {
  const sql = yield* PgClient.PgClient
  const end = RowsBetween.pgInstant(BigInt(day) * dayLength)
  let removed = 0
  while (true) {
    const [oldest] = yield* sql.unsafe<{ readonly next: string | null }>(
      `SELECT (date_trunc('day', min(${quoted(time)})) + interval '1 day')::text AS next FROM ${table} WHERE ${quoted(time)} < ${end}`
    )
    if (oldest === undefined || oldest.next === null) return removed
    const [gone] = yield* sql.unsafe<{ readonly n: number }>(
      `WITH gone AS (DELETE FROM ${table} WHERE ${quoted(time)} < least($1::timestamp, ${end}) RETURNING 1) SELECT count(*)::int AS n FROM gone`,
      [oldest.next]
    )
    removed += gone!.n
  }
})

/** Keeps the day that is now and `kept` before it. Answers how many rows of each table went. */
export const run = Effect.fn("MinuteRetention.run")(function*(kept: number) {
  const sql = yield* PgClient.PgClient
  const day = yield* moveTo(Math.floor((yield* Clock.currentTimeMillis) / dayMs) - kept)
  const removed: Record<string, number> = {}
  for (const { model } of yield* GoldModels.all) {
    if (Either.isLeft(model) || model.right.grain !== "minute") continue
    // A table that is not there, or of an earlier model that had another time, is made by the batch, of the days that are kept.
    const [there] = yield* sql<{ readonly is: boolean }>`SELECT EXISTS (SELECT 1 FROM pg_attribute
      WHERE attrelid = to_regclass(${GoldTable.qualified(model.right)}) AND attname = ${model.right.time} AND NOT attisdropped) AS is`
    if (there?.is === true) removed[GoldTable.tableName(model.right)] = yield* removeBefore(GoldTable.qualified(model.right), model.right.time, day)
  }
  return removed
})
