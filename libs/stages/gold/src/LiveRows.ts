/**
 * What new rows of silver do to a live model's table. All of it is computed before the transaction: the new rows are reduced to the model's own aggregates
 * and merged with those that are there, or the units that they touch are computed anew from silver. In the transaction rows are put in, if gold is still as
 * it was. Rows stay in the engine and in PostgreSQL.
 */
import type { SqlError } from "@effect/sql"
import type { PgClient } from "@effect/sql-pg"
import { Effect, Schema } from "effect"
import { faultOf } from "@voltlake/postgres/SqlFault"
import { type Connection, QueryError } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import type { GoldProgress } from "./GoldProgress.ts"
import * as GoldTable from "./GoldTable.ts"
import type { LiveModel } from "./LiveModels.ts"
import { boundSql, sourceName } from "./ModelCheck.ts"
import { type CheckedModel, modelHash } from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowCheck from "./RowCheck.ts"
import * as RowsBetween from "./RowsBetween.ts"
import * as UnitRows from "./UnitRows.ts"

/** A live model's rows cannot be computed. The others are not concerned. */
export class LiveModelFailed extends Schema.TaggedError<LiveModelFailed>()("LiveModelFailed", {
  model: Schema.String,
  hash: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `gold model ${this.model}: ${this.reason}`
  }
}

export interface Prepared {
  /** In the transaction, where gold's progress is the one that it was computed from. */
  readonly apply: (sql: PgClient.PgClient) => Effect.Effect<void, SqlError.SqlError | LiveModelFailed>
}

const added = "gold_live_added"
const there = "gold_live_there"
const rows = "gold_live_rows"

const of = "live"

/** Of rows in a relation those that PostgreSQL keeps. */
export const keptSlices = (connection: Connection, { columns, model }: CheckedModel, relation: string, { minutesFrom }: Pick<GoldProgress, "minutesFrom">) => {
  const isKept = model.grain === "minute" && minutesFrom !== undefined
    ? ` WHERE epoch_us(${quoted(model.time)}) >= ${BigInt(minutesFrom) * ModelUnits.dayLength}`
    : ""
  return RowsBetween.slices(connection, columns, `(SELECT * FROM ${relation}${isKept})`)
}

export const failing = ({ model }: CheckedModel) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) =>
    error instanceof QueryError || error instanceof RowCheck.ModelBroken
      ? new LiveModelFailed({ model: model.name, hash: modelHash(model), reason: error.message })
      : error as Exclude<E, QueryError | RowCheck.ModelBroken>)

/** SQLSTATE classes of what is wrong with rows: a value that a type does not hold, a key that no index does, a row that a table refuses. */
const rowFaults = ["21", "22", "23", "54"]

/** What PostgreSQL says of a model's rows is the model's own, too. */
export const ofRows = ({ model }: CheckedModel) => <A, R>(effect: Effect.Effect<A, SqlError.SqlError, R>) =>
  Effect.mapError(effect, (error) => {
    const { code, reason } = faultOf(error)
    return rowFaults.includes(code.slice(0, 2)) ? new LiveModelFailed({ model: model.name, hash: modelHash(model), reason }) : error
  })

/** `batch`: a relation of silver's new rows. */
export const prepare = Effect.fn("LiveRows.prepare")(function*(
  { connection, sql }: { readonly connection: Connection; readonly sql: PgClient.PgClient },
  { checked, plan }: LiveModel,
  batch: string,
  silver: UnitRows.SilverBelow,
  gold: GoldProgress
) {
  const { columns, model } = checked
  if (plan.kind === "recompute") {
    yield* ModelUnits.begin(connection, model)
    yield* ModelUnits.addOf(connection, model, batch)
    const apply = yield* unitsAnew(connection, checked, silver, gold)
    return { apply: (to) => ofRows(checked)(apply(to)) } satisfies Prepared
  }
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${ModelUnits.sourceRows(batch)}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${added} AS ${boundSql(model)}`)
  const keys = yield* RowsBetween.slices(connection, columns.filter(({ name }) => model.key.includes(name)), added)
  yield* GoldTable.fetchByKey({ sql, connection }, checked, keys, plan.merged, there)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${rows} AS ${plan.rowsOf(there, added)}`)
  yield* RowCheck.checkGrouped(connection, checked, rows, of)
  const slices = yield* keptSlices(connection, checked, rows, gold)
  return { apply: (to) => ofRows(checked)(GoldTable.upsert(to, checked, slices)) } satisfies Prepared
}, (effect, _, live) => failing(live.checked)(effect))

/** Computes the units in `ModelUnits.unitsTable` anew. Answers what puts them in the place of those that are there. */
export const unitsAnew = Effect.fn("LiveRows.unitsAnew")(function*(connection: Connection, checked: CheckedModel, silver: UnitRows.SilverBelow, gold: GoldProgress) {
  yield* UnitRows.compute(connection, checked, silver, rows)
  yield* RowCheck.check(connection, checked, rows, of)
  const units = yield* GoldTable.unitSlices(connection, checked, ModelUnits.unitsTable)
  const slices = yield* keptSlices(connection, checked, rows, gold)
  return (sql: PgClient.PgClient) =>
    Effect.zipRight(GoldTable.deleteVanished(sql, checked, units, slices), GoldTable.upsert(sql, checked, slices))
})
