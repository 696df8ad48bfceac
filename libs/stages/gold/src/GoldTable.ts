/**
 * A model's table in PostgreSQL, `gold_<name>`: made from the model's columns, and its rows read and replaced by key and by unit. All of it is done in the
 * caller's transaction.
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import type { ModelColumn } from "./ModelCheck.ts"
import type { CheckedModel } from "./ModelTable.ts"
import { ownColumns, unitNames } from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"

export const tableName = (model: GoldModel): string => `gold_${model.name}`

/** As it stands in statements. */
export const qualified = (model: GoldModel): string => `public.${quoted(tableName(model))}`

/** Whoever reads gold reads its models: the role is made by `deploy/postgres/roles.mjs`, where Superset is used. */
const readable = (table: string) =>
  `DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gold_reader') THEN GRANT SELECT ON public.${quoted(table)} TO gold_reader; END IF;
  END $do$;`

const comments = ({ columns, model }: CheckedModel): string =>
  [
    `COMMENT ON TABLE ${qualified(model)} IS ${literal(model.description)};`,
    ...columns.map(({ doc, name }) => `COMMENT ON COLUMN ${qualified(model)}.${quoted(name)} IS ${doc === "" ? "NULL" : literal(doc)};`)
  ].join("\n")

/** The table with its key and comments, made anew where it has other columns: it is derived from silver. Answers whether it was made. */
export const ensure = Effect.fn("GoldTable.ensure")(function*(sql: PgClient.PgClient, checked: CheckedModel) {
  const { columns, model } = checked
  const wanted = columns.map(({ doc, name, type }) => ({ shape: `${name} ${RowsBetween.pgType(type).split(" COLLATE")[0]}`, doc }))
  const found = yield* sql<{ readonly shape: string; readonly doc: string; readonly description: string }>`
    SELECT a.attname || ' ' || replace(format_type(a.atttypid, NULL), ' without time zone', '') AS shape,
      coalesce(col_description(a.attrelid, a.attnum), '') AS doc, coalesce(obj_description(a.attrelid, 'pg_class'), '') AS description
    FROM pg_attribute AS a
    WHERE a.attrelid = to_regclass(${qualified(model)}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
  const isSame = found.length === wanted.length && found.every(({ shape }, index) => shape === wanted[index]!.shape)
  if (isSame) {
    const isSaid = found.every(({ description, doc }, index) => doc === wanted[index]!.doc && description === model.description)
    if (!isSaid) yield* sql.unsafe(comments(checked))
    return false
  }
  const column = ({ name, type }: ModelColumn) => `${quoted(name)} ${RowsBetween.pgType(type)}${model.key.includes(name) ? " NOT NULL" : ""}`
  const isIndexed = model.key[0] === model.time
  // A live row is written over with each commit: with room in its page no index is touched.
  const room = model.refresh === "live" ? " WITH (fillfactor = 70)" : ""
  yield* sql.unsafe(`
    DROP TABLE IF EXISTS ${qualified(model)};
    CREATE TABLE ${qualified(model)} (${columns.map(column).join(", ")}, PRIMARY KEY (${model.key.map(quoted).join(", ")}))${room};
    ${isIndexed ? "" : `CREATE INDEX ON ${qualified(model)} (${quoted(model.time)});`}
    ${readable(tableName(model))}
    ${comments(checked)}`)
  return true
})

const names = (columns: ReadonlyArray<string>, alias: string) => columns.map((name) => `${alias}.${quoted(name)}`).join(", ")

const same = (columns: ReadonlyArray<string>, a: string, b: string) => columns.map((name) => `${a}.${quoted(name)} = ${b}.${quoted(name)}`).join(" AND ")

/** Puts rows in, or in the place of those of the same key. What is there already is not written again. */
export const upsert = Effect.fn("GoldTable.upsert")(function*(sql: PgClient.PgClient, { columns, model }: CheckedModel, slices: ReadonlyArray<RowsBetween.Slice>) {
  const all = columns.map(({ name }) => name)
  const values = all.filter((name) => !model.key.includes(name))
  const change = values.length === 0
    ? "NOTHING"
    : `UPDATE SET ${values.map((name) => `${quoted(name)} = excluded.${quoted(name)}`).join(", ")}
      WHERE (${names(values, "g")}) IS DISTINCT FROM (${names(values, "excluded")})`
  const statement = `INSERT INTO ${qualified(model)} AS g (${all.map(quoted).join(", ")}) ${RowsBetween.selectFrom(columns)}
    ON CONFLICT (${model.key.map(quoted).join(", ")}) DO ${change}`
  for (const slice of slices) yield* sql.unsafe(statement, slice)
})

/** Makes the rows of these keys (a relation in the engine) a table of the engine, as far as there are any. Only the columns named. */
export const fetchByKey = Effect.fn("GoldTable.fetchByKey")(function*(
  { connection, sql }: { readonly sql: PgClient.PgClient; readonly connection: Connection },
  { columns, model }: CheckedModel,
  keys: ReadonlyArray<RowsBetween.Slice>,
  wanted: ReadonlyArray<string>,
  target: string
) {
  const key = columns.filter(({ name }) => model.key.includes(name))
  const query = `SELECT ${names(wanted, "g")} FROM (${RowsBetween.selectFrom(key)}) AS k JOIN ${qualified(model)} AS g ON ${same(model.key, "g", "k")}`
  yield* RowsBetween.fetch(sql, connection, columns.filter(({ name }) => wanted.includes(name)), query, target, keys)
})

/** Units as columns: those of silver's own in the key, and the time. */
const unitColumns = ({ columns, model }: CheckedModel): ReadonlyArray<ModelColumn> =>
  [...ownColumns(model), model.time].map((name) => columns.find((column) => column.name === name)!)

/** The units in a table of the engine that has a unit's columns. */
export const unitSlices = (connection: Connection, checked: CheckedModel, units: string) => {
  const columns = unitColumns(checked)
  const [bucket, ...own] = unitNames(checked.model).toReversed()
  const relation = `(SELECT ${[...own.toReversed(), `make_timestamp(${bucket}) AS ${quoted(checked.model.time)}`].join(", ")} FROM ${units})`
  return RowsBetween.slices(connection, columns, relation)
}

/** Makes the rows of these units a table of the engine. */
export const fetchByUnit = Effect.fn("GoldTable.fetchByUnit")(function*(
  { connection, sql }: { readonly sql: PgClient.PgClient; readonly connection: Connection },
  checked: CheckedModel,
  units: ReadonlyArray<RowsBetween.Slice>,
  target: string
) {
  const { columns, model } = checked
  const unit = unitColumns(checked)
  const isOfUnit = same(unit.map(({ name }) => name), "g", "u")
  const query = `SELECT ${names(columns.map(({ name }) => name), "g")} FROM (${RowsBetween.selectFrom(unit)}) AS u JOIN ${qualified(model)} AS g ON ${isOfUnit}`
  yield* RowsBetween.fetch(sql, connection, columns, query, target, units)
})

/** Takes out what is there of these units and is not among the rows (by key). */
export const deleteVanished = Effect.fn("GoldTable.deleteVanished")(function*(
  sql: PgClient.PgClient,
  checked: CheckedModel,
  units: ReadonlyArray<RowsBetween.Slice>,
  rows: ReadonlyArray<RowsBetween.Slice>
) {
  const { columns, model } = checked
  const unit = unitColumns(checked)
  const key = columns.filter(({ name }) => model.key.includes(name))
  const keys = RowsBetween.joined(columns, rows).filter((_, index) => key.includes(columns[index]!))
  const statement = `DELETE FROM ${qualified(model)} AS g USING (${RowsBetween.selectFrom(unit)}) AS u
    WHERE ${same(unit.map(({ name }) => name), "g", "u")}
      AND NOT EXISTS (SELECT 1 FROM (${RowsBetween.selectFrom(key, 1 + unit.length)}) AS r WHERE ${same(model.key, "g", "r")})`
  for (const slice of units) yield* sql.unsafe(statement, [...slice, ...keys])
})
