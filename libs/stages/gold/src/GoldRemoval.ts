/**
 * Gold follows silver when rows are removed from it on purpose: what aggregates owe to rows that are gone is taken out of them, so that gold is always
 * what silver's rows lead to.
 *
 * Where silver's removal says what it touched, and is the one after that which gold followed last, only that is derived anew, from the rows that are
 * left below gold's position: all rows that gold has merged were read before the removal, since a merge in any other state of silver is refused.
 * Otherwise gold is filled again from its beginning.
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import type * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import { transaction } from "@voltlake/postgres/Transaction"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import * as GoldProgress from "./GoldProgress.ts"
import * as Partials from "./Partials.ts"

/** What of gold is derived anew, and from which of silver's rows. */
interface Correction {
  readonly progress: Progress.Progress
  readonly partials: Partials.Partials
  /** Takes out what gold has, and puts in what the partials say. */
  readonly apply: Effect.Effect<void, Effect.Effect.Error<ReturnType<typeof Partials.mergeAll>>>
}

interface Context {
  readonly sql: PgClient.PgClient
  readonly connection: Connection
  readonly gold: GoldProgress.GoldProgress
  readonly silver: LakeTables.Loaded
}

const below = ({ progress }: GoldProgress.GoldProgress) => Progress.covered(progress)

/** A relation of silver's rows that gold has read and that are left. */
const left = Effect.fnUntraced(function*({ gold, silver }: Context) {
  const all = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  return `(SELECT * FROM ${all} WHERE ${SnapshotSource.inRanges(below(gold))})`
})

const counted = Effect.fnUntraced(function*({ connection, gold }: Context, rows: string) {
  const counts = yield* Partials.countRanges(connection, rows, below(gold))
  return yield* Progress.advance(Progress.empty, counts)
})

/** Minutes before an instant go; late rows that came after the removal stay. */
const before = Effect.fnUntraced(function*(context: Context, time: string) {
  const { connection, gold, sql } = context
  const rows = yield* left(context)
  const partials = yield* Partials.reduce(connection, `(SELECT * FROM ${rows} WHERE event_ts < TIMESTAMPTZ ${literal(time)})`, below(gold))
  const apply = Effect.gen(function*() {
    yield* sql`DELETE FROM gold_vehicle_minute_metrics WHERE minute_ts < ${time}::timestamptz AT TIME ZONE 'UTC'`
    yield* sql`DELETE FROM gold_fleet_minute_metrics WHERE minute_ts < ${time}::timestamptz AT TIME ZONE 'UTC'`
    yield* sql`DELETE FROM vehicle_signal_latest WHERE event_ts < ${time}::timestamptz`
    yield* Partials.mergeAll(sql, partials)
  })
  const correction: Correction = { progress: yield* counted(context, rows), partials, apply }
  return correction
})

/** Vehicles of which gold has another number of events than silver has rows; nothing says which vehicle was to be forgotten. */
const differing = Effect.fnUntraced(function*({ connection, sql }: Context, rows: string) {
  const [held] = yield* sql<{ readonly counts: string }>`
    SELECT coalesce(json_agg(v), '[]')::text AS counts
    FROM (
      SELECT vehicle_id, sum(event_count)::text AS events FROM (
        SELECT vehicle_id, event_count FROM gold_vehicle_minute_metrics UNION ALL SELECT DISTINCT vehicle_id, 0 FROM vehicle_signal_latest
      ) AS held GROUP BY vehicle_id
    ) AS v`
  const found = yield* connection.rows(`
    WITH held AS (
      SELECT unnest(from_json(${literal(held?.counts ?? "[]")}, '[{"vehicle_id": "VARCHAR", "events": "BIGINT"}]'), recursive := true)
    ), there AS (
      SELECT vehicle_id, count(*) AS events FROM ${rows} GROUP BY vehicle_id
    )
    SELECT vehicle_id FROM held LEFT JOIN there USING (vehicle_id) WHERE held.events IS DISTINCT FROM there.events`)
  return found.map((row) => String(row["vehicle_id"]))
})

/** What some vehicles have goes and is made anew from their rows that are left; the fleet's minutes with them, from all vehicles' minutes. */
const vehicles = Effect.fnUntraced(function*(context: Context) {
  const { connection, gold, sql } = context
  const rows = yield* left(context)
  const ids = yield* differing(context, rows)
  const list = ids.length === 0 ? "NULL" : ids.map(literal).join(", ")
  const partials = yield* Partials.reduce(connection, `(SELECT * FROM ${rows} WHERE vehicle_id IN (${list}))`, below(gold))
  const apply = Effect.gen(function*() {
    yield* sql`CREATE TEMP TABLE touched_minute ON COMMIT DROP AS
      SELECT DISTINCT minute_ts FROM gold_vehicle_minute_metrics WHERE vehicle_id = ANY(${ids})`
    yield* sql`DELETE FROM gold_vehicle_minute_metrics WHERE vehicle_id = ANY(${ids})`
    yield* sql`DELETE FROM vehicle_signal_latest WHERE vehicle_id = ANY(${ids})`
    yield* Partials.mergeVehicles(sql, partials)
    yield* sql`DELETE FROM gold_fleet_minute_metrics WHERE minute_ts IN (SELECT minute_ts FROM touched_minute)`
    yield* sql`INSERT INTO gold_fleet_minute_metrics (minute_ts, min_battery_percent_fleet, total_events, speed_sum, speed_count)
      SELECT minute_ts, min(min_battery_percent), sum(event_count), sum(speed_sum), sum(speed_count)
      FROM gold_vehicle_minute_metrics JOIN touched_minute USING (minute_ts) GROUP BY minute_ts`
  })
  const correction: Correction = { progress: yield* counted(context, rows), partials, apply }
  return correction
})

const correctionFor = (context: Context) => {
  const { gold, silver: { removals } } = context
  if (removals.previous !== gold.silverRemoval) return Effect.succeed(undefined)
  switch (removals.scope.type) {
    case "before":
      return before(context, removals.scope.time)
    case "vehicle":
      return vehicles(context)
    case "any":
      return Effect.succeed(undefined)
  }
}

/** Empties gold, to be filled again from silver's beginning. Until it has caught up, whoever asks sees what has been read so far. */
export const restart = Effect.fn("GoldRemoval.restart")(function*(
  sql: PgClient.PgClient,
  gold: GoldProgress.GoldProgress,
  next: Pick<GoldProgress.GoldProgress, "silverEpoch" | "silverRemoval">,
  reason: string
) {
  if (gold.progress.size > 0) yield* Effect.logWarning(`${reason}: gold is filled again from its beginning`).pipe(Effect.annotateLogs(next))
  yield* transaction(Effect.gen(function*() {
    if (!GoldProgress.equals(yield* GoldProgress.lock(sql), gold)) return
    yield* sql`TRUNCATE gold_vehicle_minute_metrics, gold_fleet_minute_metrics, vehicle_signal_latest`
    yield* GoldProgress.write(sql, { ...next, progress: Progress.empty })
  }))
})

/** Brings gold to silver's last removal. Does nothing where another process moved gold meanwhile. */
export const follow = Effect.fn("GoldRemoval.follow")(function*(context: Context) {
  const { gold, silver, sql } = context
  const next = { silverEpoch: gold.silverEpoch, silverRemoval: silver.removals.id }
  const correction = gold.progress.size === 0 ? undefined : yield* correctionFor(context)
  if (correction === undefined) return yield* restart(sql, gold, next, "rows were removed from silver")
  yield* transaction(Effect.gen(function*() {
    if (!GoldProgress.equals(yield* GoldProgress.lock(sql), gold)) return
    yield* correction.apply
    yield* GoldProgress.write(sql, { ...next, progress: correction.progress })
  }))
  yield* Effect.logInfo("rows were removed from silver, and what gold had of them from gold").pipe(Effect.annotateLogs({ removal: silver.removals.id }))
})
