/**
 * A model's rows in PostgreSQL as its batch computed them: `gold_<name>` is what the Iceberg table `gold.<name>` holds, day by day. Which days have changed the
 * table's own files say, so that publishing may be interrupted anywhere, come late or be done twice.
 *
 * A live model is published once: what rows of silver have done since is added under the lock of gold's position, and from there on silver's commits move it.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import * as Expression from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { currentSchema, currentSnapshot, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { transaction } from "@voltlake/postgres/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldTable from "./GoldTable.ts"
import * as LiveModels from "./LiveModels.ts"
import * as ModelTable from "./ModelTable.ts"
import { dayLength } from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"

export interface Published {
  readonly days: number
  readonly rows: number
}

interface State {
  readonly table_uuid: string | null
  readonly published_sequence: string | null
  readonly live: string | null
}

/** Deletes rows from the beginning of a day until that of another; undefined: from ever, for ever. */
const deleteDays = (sql: PgClient.PgClient, model: GoldModel, from: number | undefined, end: number | undefined) => {
  const at = (day: number) => RowsBetween.pgInstant(BigInt(day) * dayLength)
  const within = [
    ...(from === undefined ? [] : [`${quoted(model.time)} >= ${at(from)}`]),
    ...(end === undefined ? [] : [`${quoted(model.time)} < ${at(end)}`])
  ]
  return Effect.asVoid(sql.unsafe(`DELETE FROM ${GoldTable.qualified(model)} WHERE ${within.length === 0 ? "true" : within.join(" AND ")}`))
}

/** Takes out all days but these: a range for each gap between them, which the index finds, so that the cost does not go with the rows that stay. */
const keepDays = (sql: PgClient.PgClient, model: GoldModel, days: ReadonlyArray<number>) =>
  Effect.forEach([...days, undefined], (day, index) => {
    const from = index === 0 ? undefined : days[index - 1]! + 1
    return from !== undefined && from === day ? Effect.void : deleteDays(sql, model, from, day)
  }, { discard: true })

const replaceDay = Effect.fnUntraced(function*(
  { sql, connection, metadata }: { readonly sql: PgClient.PgClient; readonly connection: Connection; readonly metadata: TableMetadata },
  checked: ModelTable.CheckedModel,
  day: number
) {
  const { model } = checked
  const [from, end] = [BigInt(day) * dayLength, (BigInt(day) + 1n) * dayLength]
  const within = Expression.and(Expression.test(model.time, ">=", from), Expression.test(model.time, "<", end))
  const { files } = yield* Scan.plan(metadata, { filter: within })
  const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, files)
  const slices = yield* RowsBetween.slices(connection, checked.columns, relation)
  yield* deleteDays(sql, model, day, day + 1)
  yield* GoldTable.upsert(sql, checked, slices)
}, Effect.scoped)

/** Brings the model's PostgreSQL table to its Iceberg table's current snapshot, in one transaction. */
export const publish = Effect.fn("GoldPublish.publish")(function*(checked: ModelTable.CheckedModel) {
  const { model } = checked
  const sql = yield* PgClient.PgClient
  const connection = yield* (yield* QueryEngine).connect
  const { metadata } = yield* ModelTable.ensure(checked)
  const sequence = currentSnapshot(metadata)?.sequenceNumber ?? 0n
  const live = (yield* Scan.plan(metadata)).files
  const { minutesFrom } = yield* GoldProgress.read(sql)
  const isKept = (day: number) => model.grain !== "minute" || minutesFrom === undefined || day >= minutesFrom
  // What another model of this name has there is nobody's to move on any more.
  yield* LiveModels.end(sql, model.name)
  return yield* transaction(Effect.gen(function*() {
    yield* sql`INSERT INTO lake.gold_model_state (name) VALUES (${model.name}) ON CONFLICT DO NOTHING`
    const [state] = yield* sql<State>`SELECT table_uuid, published_sequence::text, live FROM lake.gold_model_state WHERE name = ${model.name} FOR UPDATE`
    if (state?.live !== null) return yield* new LiveModels.LiveModelsChanged()
    const isNew = yield* GoldTable.ensure(sql, checked)
    const known = isNew || state.table_uuid !== metadata.tableUuid || state.published_sequence === null ? undefined : BigInt(state.published_sequence)
    // Of a table that was rolled back, files after what was published may be older than it.
    const since = known !== undefined && known <= sequence ? known : -1n
    const daysOf = (files: ReadonlyArray<Scan.PlannedFile>) =>
      [...new Set(files.map(({ file }) => Number(file.partition[0])))].filter(isKept).sort((a, b) => a - b)
    const days = daysOf(live.filter(({ sequenceNumber }) => sequenceNumber > since))
    for (const day of days) yield* replaceDay({ sql, connection, metadata }, checked, day)
    yield* keepDays(sql, model, daysOf(live))
    yield* sql`UPDATE lake.gold_model_state SET table_uuid = ${metadata.tableUuid}, published_sequence = ${String(sequence)}::bigint WHERE name = ${model.name}`
    return { days: days.length, rows: live.reduce((sum, { file }) => sum + Number(file.recordCount), 0) } satisfies Published
  }))
}, Effect.scoped)
