/**
 * A model's rows between the engine and PostgreSQL, as texts of some thousand values: a PostgreSQL array a column one way, a JSON array a column the other.
 * Values are written as text, so that none loses a digit, and rows do not pass through JavaScript one by one.
 */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import type { ColumnType, ModelColumn } from "./ModelCheck.ts"

const rowsPerSlice = 10_000

/** Some rows: an array literal for each column, in the columns' order. */
export type Slice = ReadonlyArray<string>

const pgTypes: Readonly<Record<ColumnType, string>> = {
  text: "text",
  integer: "integer",
  bigint: "bigint",
  double: "double precision",
  decimal: "numeric",
  timestamp: "timestamp",
  boolean: "boolean"
}

export const pgType = (type: ColumnType): string => (type === "text" ? "text COLLATE \"C\"" : pgTypes[type])

const engineTypes: Readonly<Record<ColumnType, string>> = {
  text: "VARCHAR",
  integer: "INTEGER",
  bigint: "BIGINT",
  double: "DOUBLE",
  timestamp: "TIMESTAMP",
  boolean: "BOOLEAN",
  decimal: "DECIMAL(38, 6)"
}

export const engineType = (type: ColumnType): string => engineTypes[type]

/**
 * An instant, in microseconds since 1970, as PostgreSQL's timestamp without zone, or with one. In two parts, since it multiplies intervals as doubles, which do
 * not hold the microseconds of all years.
 */
export const pgInstant = (us: bigint | string, type: "timestamp" | "timestamptz" = "timestamp"): string =>
  `(${type} 'epoch' + (${us} / 1000000) * interval '1 second' + (${us} % 1000000) * interval '1 microsecond')`

/** A value as an element of an array literal; times are microseconds since 1970, since the engines write years before the common era in different ways. */
const element = ({ name, type }: ModelColumn): string => {
  const value = type === "timestamp" ? `epoch_us(${quoted(name)})` : quoted(name)
  const text = type === "text" ? `'"' || replace(replace(${value}, '\\', '\\\\'), '"', '\\"') || '"'` : `${value}::VARCHAR`
  return `coalesce(${text}, 'NULL')`
}

/** The relation's rows. */
export const slices = (connection: Connection, columns: ReadonlyArray<ModelColumn>, relation: string) => {
  const elements = columns.map((column, index) => `c${index} := ${element(column)}`).join(", ")
  // One list of rows, and a text of each column of it: aggregates of their own would each have an order of their own.
  const texts = columns.map((_, index) => `'{' || array_to_string(list_transform(rows, lambda r: r.c${index}), ',') || '}' AS c${index}`)
  return connection.rows(`SELECT ${texts.join(", ")} FROM (
      SELECT list(struct_pack(${elements})) AS rows FROM (SELECT *, (row_number() OVER () - 1) // ${rowsPerSlice} AS gold_slice FROM ${relation}) GROUP BY gold_slice)`).pipe(
      Effect.map((rows) => rows.map((row): Slice => columns.map((_, index) => String(row[`c${index}`]))))
    )
}

/** A SELECT of the columns in PostgreSQL, from a slice as parameters, the first of which is `$1` where nothing else is said. */
export const selectFrom = (columns: ReadonlyArray<ModelColumn>, first = 1): string => {
  const value = ({ name, type }: ModelColumn, index: number) =>
    `${type === "timestamp" ? pgInstant(`r.c${index}`) : type === "text" ? `r.c${index} COLLATE "C"` : `r.c${index}`} AS ${quoted(name)}`
  const arrays = columns.map(({ type }, index) => `$${first + index}::${type === "timestamp" ? "bigint" : pgTypes[type]}[]`)
  return `SELECT ${columns.map(value).join(", ")} FROM unnest(${arrays.join(", ")}) AS r(${columns.map((_, index) => `c${index}`).join(", ")})`
}

/** All rows of some slices of so many columns as one. */
export const joined = (columns: ReadonlyArray<ModelColumn>, of: ReadonlyArray<Slice>): Slice =>
  columns.map((_, index) => `{${of.map((slice) => slice[index]!.slice(1, -1)).filter((text) => text !== "").join(",")}}`)

/**
 * Fills a new temporary table of the engine with rows of PostgreSQL; `query` answers the columns. It is asked once with each slice as its parameters, or
 * without any.
 */
export const fetch = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  connection: Connection,
  columns: ReadonlyArray<ModelColumn>,
  query: string,
  target: string,
  asked: ReadonlyArray<Slice> = [[]]
) {
  const value = ({ name, type }: ModelColumn, index: number) =>
    `json_agg((${type === "timestamp" ? `(extract(epoch FROM ${quoted(name)}) * 1000000)::bigint` : quoted(name)})::text)::text AS c${index}`
  const statement = `SELECT ${columns.map(value).join(", ")}
    FROM (SELECT *, (row_number() OVER () - 1) / ${rowsPerSlice} AS gold_slice FROM (${query}) AS q) AS t GROUP BY gold_slice`
  const found = (yield* Effect.forEach(asked, (slice) => sql.unsafe<Record<string, string>>(statement, slice))).flat()
  const texts = columns.map((_, index) => `c${index}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE gold_fetched_text (${texts.map((name) => `${name} VARCHAR`).join(", ")})`)
  yield* connection.append("gold_fetched_text", found.length, texts.map((name) => ({ type: "varchar", at: (row) => found[row]![name]! })))
  const field = ({ name, type }: ModelColumn, index: number) =>
    `${type === "timestamp" ? `make_timestamp(c${index}::BIGINT)` : `c${index}::${engineType(type)}`} AS ${quoted(name)}`
  const unnested = texts.map((name) => `unnest(from_json(${name}, '["VARCHAR"]')) AS ${name}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${target} AS SELECT ${columns.map(field).join(", ")}
    FROM (SELECT ${unnested.join(", ")} FROM gold_fetched_text); DROP TABLE gold_fetched_text`)
})
