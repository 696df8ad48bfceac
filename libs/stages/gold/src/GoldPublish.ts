/**
 * A batch model's rows in PostgreSQL: `gold_<name>` is what the Iceberg table `gold.<name>` holds, day by day. Which days have changed the table's own files
 * say, so that publishing may be interrupted anywhere, come late or be done twice.
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
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import * as ModelTable from "./ModelTable.ts"
import { dayLength } from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"

export const tableName = (model: GoldModel): string => `gold_${model.name}`

export interface Published {
  readonly days: number
  readonly rows: number
}

interface State {
  readonly table_uuid: string
  readonly published_sequence: string | null
}

/** Whoever reads gold reads its models: the role is made by `deploy/postgres/roles.mjs`, where Superset is used. */
const readable = (table: string) =>
  `DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gold_reader') THEN GRANT SELECT ON public.${quoted(table)} TO gold_reader; END IF;
  END $do$;`

/** The table with its key and comments, made anew where it has other columns: it is derived from the Iceberg table. Answers whether it was made. */
const ensure = Effect.fnUntraced(function*(sql: PgClient.PgClient, { columns, model }: ModelTable.CheckedModel) {
  const table = tableName(model)
  const wanted = columns.map(({ name, type }) => `${name} ${RowsBetween.pgType(type).split(" COLLATE")[0]}`)
  const found = yield* sql<{ readonly shape: string }>`
    SELECT a.attname || ' ' || format_type(a.atttypid, NULL) AS shape FROM pg_attribute AS a
    WHERE a.attrelid = to_regclass(${`public.${table}`}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
  const shapes = found.map(({ shape }) => shape.replace(" without time zone", ""))
  if (JSON.stringify(shapes) === JSON.stringify(wanted)) return false
  const column = ({ name, type }: (typeof columns)[number]) => `${quoted(name)} ${RowsBetween.pgType(type)}${model.key.includes(name) ? " NOT NULL" : ""}`
  const documented = columns.filter(({ doc }) => doc !== "")
  const isIndexed = model.key[0] === model.time
  yield* sql.unsafe(`
    DROP TABLE IF EXISTS public.${quoted(table)};
    CREATE TABLE public.${quoted(table)} (${columns.map(column).join(", ")}, PRIMARY KEY (${model.key.map(quoted).join(", ")}));
    ${isIndexed ? "" : `CREATE INDEX ON public.${quoted(table)} (${quoted(model.time)});`}
    COMMENT ON TABLE public.${quoted(table)} IS ${literal(model.description)};
    ${readable(table)}
    ${documented.map(({ doc, name }) => `COMMENT ON COLUMN public.${quoted(table)}.${quoted(name)} IS ${literal(doc)};`).join("\n")}`)
  return true
})

/** Deletes rows from the beginning of a day until that of another; undefined: from ever, for ever. */
const deleteDays = (sql: PgClient.PgClient, model: GoldModel, from: number | undefined, end: number | undefined) => {
  const at = (day: number) => RowsBetween.pgInstant(BigInt(day) * dayLength)
  const within = [
    ...(from === undefined ? [] : [`${quoted(model.time)} >= ${at(from)}`]),
    ...(end === undefined ? [] : [`${quoted(model.time)} < ${at(end)}`])
  ]
  return Effect.asVoid(sql.unsafe(`DELETE FROM public.${quoted(tableName(model))} WHERE ${within.length === 0 ? "true" : within.join(" AND ")}`))
}

/** Takes out all days but these: a range for each gap between them, which the index finds, so that the cost does not go with the rows that stay. */
const keepDays = (sql: PgClient.PgClient, model: GoldModel, days: ReadonlyArray<number>) =>
  Effect.forEach([...days, undefined], (day, index) => {
    const from = index === 0 ? undefined : days[index - 1]! + 1
    return from !== undefined && from === day ? Effect.void : deleteDays(sql, model, from, day)
  }, { discard: true })

const replaceDay = Effect.fnUntraced(function*(
  { sql, connection, metadata }: { readonly sql: PgClient.PgClient; readonly connection: Connection; readonly metadata: TableMetadata },
  { columns, model }: ModelTable.CheckedModel,
  day: number
) {
  const [from, end] = [BigInt(day) * dayLength, (BigInt(day) + 1n) * dayLength]
  const within = Expression.and(Expression.test(model.time, ">=", from), Expression.test(model.time, "<", end))
  const { files } = yield* Scan.plan(metadata, { filter: within })
  const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, files)
  const texts = yield* RowsBetween.texts(connection, columns, relation)
  yield* deleteDays(sql, model, day, day + 1)
  for (const text of texts) yield* sql.unsafe(`INSERT INTO public.${quoted(tableName(model))} ${RowsBetween.selectFromText(columns)}`, [text])
}, Effect.scoped)

/** Brings the model's PostgreSQL table to its Iceberg table's current snapshot, in one transaction. */
export const publish = Effect.fn("GoldPublish.publish")(function*(checked: ModelTable.CheckedModel) {
  const { model } = checked
  const sql = yield* PgClient.PgClient
  const connection = yield* (yield* QueryEngine).connect
  const { metadata } = yield* ModelTable.ensure(checked)
  const sequence = currentSnapshot(metadata)?.sequenceNumber ?? 0n
  const live = (yield* Scan.plan(metadata)).files
  return yield* transaction(Effect.gen(function*() {
    yield* sql`INSERT INTO lake.gold_model_state (name, table_uuid) VALUES (${model.name}, ${metadata.tableUuid}) ON CONFLICT DO NOTHING`
    const [state] = yield* sql<State>`SELECT table_uuid, published_sequence::text FROM lake.gold_model_state WHERE name = ${model.name} FOR UPDATE`
    const isNew = yield* ensure(sql, checked)
    const known = isNew || state?.table_uuid !== metadata.tableUuid || state.published_sequence === null ? undefined : BigInt(state.published_sequence)
    // Of a table that was rolled back, files after what was published may be older than it.
    const since = known !== undefined && known <= sequence ? known : -1n
    const daysOf = (files: ReadonlyArray<Scan.PlannedFile>) => [...new Set(files.map(({ file }) => Number(file.partition[0])))].sort((a, b) => a - b)
    const days = daysOf(live.filter(({ sequenceNumber }) => sequenceNumber > since))
    for (const day of days) yield* replaceDay({ sql, connection, metadata }, checked, day)
    yield* keepDays(sql, model, daysOf(live))
    yield* sql`UPDATE lake.gold_model_state SET table_uuid = ${metadata.tableUuid}, published_sequence = ${String(sequence)}::bigint WHERE name = ${model.name}`
    return { days: days.length, rows: live.reduce((sum, { file }) => sum + Number(file.recordCount), 0) } satisfies Published
  }))
}, Effect.scoped)
