/**
 * What new rows of silver do to a live model's table. Before the transaction the new rows are reduced to the model's own aggregates, or the units that they
 * touch are computed anew from silver; in it, aggregates are merged with those that are there, and the rows put in. Rows stay in the engine and in PostgreSQL.
 */
import type { SqlError } from "@effect/sql"
import type { PgClient } from "@effect/sql-pg"
import { Effect, Schema } from "effect"
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
  /** In the transaction. */
  readonly apply: (sql: PgClient.PgClient) => Effect.Effect<void, SqlError.SqlError | LiveModelFailed>
}

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

const failing = ({ model }: CheckedModel) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) =>
    error instanceof QueryError || error instanceof RowCheck.ModelBroken
      ? new LiveModelFailed({ model: model.name, hash: modelHash(model), reason: error.message })
      : error as Exclude<E, QueryError | RowCheck.ModelBroken>)

const applyMerged = Effect.fnUntraced(function*(
  sql: PgClient.PgClient,
  connection: Connection,
  { checked, plan }: LiveModel,
  partial: string,
  keys: ReadonlyArray<RowsBetween.Slice>,
  gold: GoldProgress
) {
  if (plan.kind !== "merge") return
  yield* GoldTable.fetchByKey({ sql, connection }, checked, keys, plan.merged, there)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${rows} AS ${plan.rowsOf(there, partial)}`)
  yield* RowCheck.checkGrouped(connection, checked, rows, of)
  yield* GoldTable.upsert(sql, checked, yield* keptSlices(connection, checked, rows, gold))
})

/** `batch`: a relation of silver's new rows. `index` tells apart what several models have in the engine. */
export const prepare = Effect.fn("LiveRows.prepare")(function*(
  connection: Connection,
  live: LiveModel,
  index: number,
  batch: string,
  silver: UnitRows.SilverBelow,
  gold: GoldProgress
) {
  const { checked, plan } = live
  const { columns, model } = checked
  if (plan.kind === "merge") {
    const partial = `gold_live_partial_${index}`
    yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${ModelUnits.sourceRows(batch)}`)
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${partial} AS ${boundSql(model)}`)
    const keys = yield* RowsBetween.slices(connection, columns.filter(({ name }) => model.key.includes(name)), partial)
    return { apply: (sql) => failing(checked)(applyMerged(sql, connection, live, partial, keys, gold)) } satisfies Prepared
  }
  yield* ModelUnits.begin(connection, model)
  yield* ModelUnits.addOf(connection, model, batch)
  const replaced = yield* unitsAnew(connection, checked, silver, gold)
  return { apply: replaced } satisfies Prepared
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
