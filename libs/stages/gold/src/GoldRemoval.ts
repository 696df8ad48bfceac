/**
 * Gold follows silver when rows are removed from it on purpose: what aggregates owe to rows that are gone is taken out of them, so that gold is always
 * what silver's rows lead to.
 *
 * Where silver's removal says what it touched, and is the one after that which gold followed last, only that is derived anew, from the rows that are
 * left below gold's position: all rows that gold has merged were read before the removal, since a merge in any other state of silver is refused.
 * Otherwise gold is filled again from its beginning.
 */
import { SqlClient, type SqlError } from "@effect/sql"
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import type * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { type GoldModel, grainLength } from "@voltlake/domain/GoldModel"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import { transaction } from "@voltlake/postgres/Transaction"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldTable from "./GoldTable.ts"
import * as LatestValues from "./LatestValues.ts"
import * as LiveModels from "./LiveModels.ts"
import * as LiveRows from "./LiveRows.ts"
import { boundSql, sourceName } from "./ModelCheck.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"
import { countRanges } from "./SilverCounts.ts"

export interface Live {
  readonly models: ReadonlyArray<LiveModels.LiveModel>
  readonly states: LiveModels.States
}

interface Context {
  readonly sql: PgClient.PgClient
  readonly connection: Connection
  readonly gold: GoldProgress.GoldProgress
  readonly silver: LakeTables.Loaded
  readonly live: Live
}

/** Takes out of PostgreSQL what it has, and puts in what silver's rows give. */
type Change = Effect.Effect<void, SqlError.SqlError | LiveRows.LiveModelFailed>

const below = ({ progress }: GoldProgress.GoldProgress) => Progress.covered(progress)

/** A relation of silver's rows that gold has read and that are left. */
const left = Effect.fnUntraced(function*({ gold, silver }: Context) {
  const all = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  return `(SELECT * FROM ${all} WHERE ${SnapshotSource.inRanges(below(gold))})`
})

const counted = Effect.fnUntraced(function*({ connection, gold }: Context, rows: string) {
  const counts = yield* countRanges(connection, rows, below(gold))
  return yield* Progress.advance(Progress.empty, counts)
})

/** Replaces the rows under a condition on `g` by those that the model gives of some of silver's rows, as far as another condition on `r` holds of them. */
const replace = Effect.fnUntraced(function*(
  { connection, gold, sql }: Context,
  { checked }: LiveModels.LiveModel,
  { gone, kept, rows }: { readonly rows: string; readonly gone: string; readonly kept: string }
) {
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${ModelUnits.sourceRows(rows)}`)
  const slices = yield* LiveRows.keptSlices(connection, checked, `(SELECT * FROM (${boundSql(checked.model)}) AS r WHERE ${kept})`, gold)
  const change: Change = Effect.zipRight(
    sql.unsafe(`DELETE FROM ${GoldTable.qualified(checked.model)} AS g WHERE ${gone}`),
    LiveRows.ofRows(checked)(GoldTable.upsert(sql, checked, slices))
  )
  return change
}, (effect, _, { checked }) => LiveRows.failing(checked)(effect))

/** What cannot be told apart goes as a whole, and the next run of the batch fills it. */
const empty = ({ sql }: Context, model: GoldModel): Change =>
  Effect.asVoid(Effect.zipRight(LiveModels.end(sql, model.name), sql.unsafe(`TRUNCATE ${GoldTable.qualified(model)}`))).pipe(
    // It takes part in the transaction that there is.
    Effect.catchTag("CommitUnknown", Effect.die),
    Effect.provideService(SqlClient.SqlClient, sql)
  )

/** What lies before an instant goes; late rows that came after the removal stay. */
const before = Effect.fnUntraced(function*(context: Context, time: string) {
  const { connection, live, sql } = context
  const rows = yield* left(context)
  const timeUs = BigInt(Date.parse(time)) * 1000n
  const changes: Array<Change> = []
  for (const one of live.models) {
    const { grain, lookback, time: column } = one.checked.model
    const length = grainLength(grain)
    const last = timeUs - 1n + lookback
    const endUs = last - ((last % length) + length) % length + length
    changes.push(yield* replace(context, one, {
      rows: `(SELECT * FROM ${rows} WHERE epoch_us(event_ts) < ${endUs})`,
      gone: `g.${quoted(column)} < ${RowsBetween.pgInstant(endUs)}`,
      kept: `epoch_us(r.${quoted(column)}) < ${endUs}`
    }))
  }
  const latest = yield* LatestValues.reduce(connection, `(SELECT * FROM ${rows} WHERE epoch_us(event_ts) < ${timeUs})`)
  changes.push(Effect.zipRight(sql`DELETE FROM vehicle_signal_latest WHERE event_ts < ${time}::timestamptz`, LatestValues.merge(sql, latest)))
  return { progress: yield* counted(context, rows), changes }
})

/** The live table that says how many events each vehicle has. */
const counting = "vehicle_minute_metrics"

/** Vehicles of which gold has another number of events than silver has rows; nothing says which vehicle was to be forgotten. */
const differing = Effect.fnUntraced(function*({ connection, gold: { minutesFrom }, sql }: Context, rows: string) {
  const [held] = yield* sql<{ readonly counts: string }>`
    SELECT coalesce(json_agg(v), '[]')::text AS counts
    FROM (
      SELECT vehicle_id, sum(event_count)::text AS events FROM (
        SELECT vehicle_id, event_count FROM gold_vehicle_minute_metrics UNION ALL SELECT DISTINCT vehicle_id, 0 FROM vehicle_signal_latest
      ) AS held GROUP BY vehicle_id
    ) AS v`
  const isKept = minutesFrom === undefined ? "" : ` WHERE epoch_us(event_ts) >= ${BigInt(minutesFrom) * ModelUnits.dayLength}`
  const found = yield* connection.rows(`
    WITH held AS (
      SELECT unnest(from_json(${literal(held?.counts ?? "[]")}, '[{"vehicle_id": "VARCHAR", "events": "BIGINT"}]'), recursive := true)
    ), there AS (
      SELECT vehicle_id, count(*) AS events FROM ${rows}${isKept} GROUP BY vehicle_id
    )
    SELECT vehicle_id FROM held LEFT JOIN there USING (vehicle_id) WHERE held.events IS DISTINCT FROM there.events`)
  return found.map((row) => String(row["vehicle_id"]))
})

const vehicleMinutes = "gold_vehicle_minutes"

/** What a model has of units that the vehicles' minutes reach. */
const unitsOfMinutes = Effect.fnUntraced(function*({ connection, gold, silver, sql }: Context, { checked }: LiveModels.LiveModel) {
  const { model } = checked
  const length = grainLength(model.grain)
  yield* ModelUnits.begin(connection, model)
  yield* connection.run(`INSERT INTO ${ModelUnits.unitsTable} SELECT DISTINCT unnest(generate_series(${ModelUnits.bucket("us", length)},
    ${ModelUnits.bucket(`(us + ${model.lookback})`, length)}, ${length})) FROM (SELECT epoch_us(minute_ts) AS us FROM ${vehicleMinutes})`)
  const apply = yield* LiveRows.unitsAnew(connection, checked, { silver, below: below(gold) }, gold)
  const change: Change = LiveRows.ofRows(checked)(apply(sql))
  return change
}, (effect, _, { checked }) => LiveRows.failing(checked)(effect))

/** What some vehicles have goes and is made anew from their rows that are left, and with it what others' rows share with theirs. */
const vehicles = Effect.fnUntraced(function*(context: Context) {
  const { connection, gold, live, sql } = context
  const rows = yield* left(context)
  const ids = yield* differing(context, rows)
  const list = ids.length === 0 ? "NULL" : ids.map(literal).join(", ")
  const ofVehicles = `(SELECT * FROM ${rows} WHERE vehicle_id IN (${list}))`
  const minutes = `SELECT DISTINCT minute_ts FROM gold_vehicle_minute_metrics WHERE vehicle_id IN (${list})`
  yield* RowsBetween.fetch(sql, connection, [{ name: "minute_ts", type: "timestamp", doc: "" }], minutes, vehicleMinutes)
  const changes: Array<Change> = []
  for (const one of live.models) {
    const { model } = one.checked
    const own = ModelUnits.ownColumns(model)
    const isOfVehicle = own.length === 1 && own[0] === "vehicle_id"
    const isAllKept = gold.minutesFrom === undefined
    if (isOfVehicle && (isAllKept || model.grain === "minute")) {
      changes.push(yield* replace(context, one, { rows: ofVehicles, gone: `g.vehicle_id IN (${list})`, kept: "true" }))
    } else if (own.length === 0 && (isAllKept || (model.grain === "minute" && model.lookback === 0n))) {
      changes.push(yield* unitsOfMinutes(context, one))
    } else changes.push(empty(context, model))
  }
  const latest = yield* LatestValues.reduce(connection, ofVehicles)
  changes.push(Effect.zipRight(sql`DELETE FROM vehicle_signal_latest WHERE vehicle_id = ANY(${ids})`, LatestValues.merge(sql, latest)))
  return { progress: yield* counted(context, rows), changes }
})

const changesFor = (context: Context) => {
  const { gold, live, silver: { removals } } = context
  if (removals.previous !== gold.silverRemoval) return Effect.succeed(undefined)
  switch (removals.scope.type) {
    case "before":
      return before(context, removals.scope.time)
    case "vehicle":
      return live.models.some(({ checked }) => checked.model.name === counting) ? vehicles(context) : Effect.succeed(undefined)
    case "any":
      return Effect.succeed(undefined)
  }
}

/** Empties gold, to be filled again from silver's beginning. Until it has caught up, whoever asks sees what has been read so far. */
export const restart = Effect.fn("GoldRemoval.restart")(function*(
  { gold, live, sql }: Pick<Context, "sql" | "gold" | "live">,
  next: Pick<GoldProgress.GoldProgress, "silverEpoch" | "silverRemoval">,
  reason: string
) {
  if (gold.progress.size > 0) yield* Effect.logWarning(`${reason}: gold is filled again from its beginning`).pipe(Effect.annotateLogs(next))
  yield* transaction(Effect.gen(function*() {
    if (!GoldProgress.equals(yield* GoldProgress.lock(sql), gold)) return
    yield* LiveModels.confirm(sql, live.states)
    const tables = ["vehicle_signal_latest", ...live.models.map(({ checked }) => GoldTable.qualified(checked.model))]
    yield* sql.unsafe(`TRUNCATE ${tables.join(", ")}`)
    yield* GoldProgress.write(sql, { ...gold, ...next, progress: Progress.empty })
  }))
})

/** A model that cannot be computed keeps neither gold from following nor rows that are to go. Gold follows without it, in its next step. */
const leaveOut = Effect.fnUntraced(function*(context: Context, { model, reason }: LiveRows.LiveModelFailed) {
  const one = context.live.models.find(({ checked }) => checked.model.name === model)
  if (one === undefined) return
  yield* transaction(Effect.zipRight(empty(context, one.checked.model), LiveModels.reportAside(model, reason)))
})

/** Brings gold to silver's last removal. Does nothing where another process moved gold meanwhile. */
export const follow = Effect.fn("GoldRemoval.follow")(function*(context: Context) {
  const { gold, live, silver, sql } = context
  const next = { silverEpoch: gold.silverEpoch, silverRemoval: silver.removals.id }
  const found = gold.progress.size === 0 ? undefined : yield* changesFor(context)
  if (found === undefined) return yield* restart(context, next, "rows were removed from silver")
  yield* transaction(Effect.gen(function*() {
    if (!GoldProgress.equals(yield* GoldProgress.lock(sql), gold)) return
    yield* LiveModels.confirm(sql, live.states)
    for (const change of found.changes) yield* change
    yield* GoldProgress.write(sql, { ...gold, ...next, progress: found.progress })
  }))
  yield* Effect.logInfo("rows were removed from silver, and what gold had of them from gold").pipe(Effect.annotateLogs({ removal: silver.removals.id }))
}, (effect, context) => Effect.catchTag(effect, "LiveModelFailed", (error) => leaveOut(context, error)))
