/**
 * A model's rows between the engine and PostgreSQL, as JSON texts of some thousand rows each: values are written as text, so that none loses a digit, and
 * rows do not pass through JavaScript one by one.
 */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import type { ColumnType, ModelColumn } from "./ModelCheck.ts"

const rowsPerText = 10_000

export const pgType = (type: ColumnType): string => {
  switch (type) {
    case "text":
      return "text COLLATE \"C\""
    case "double":
      return "double precision"
    case "decimal":
      return "numeric"
    case "integer":
    case "bigint":
    case "timestamp":
    case "boolean":
      return type
  }
}

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

/** An instant, in microseconds since 1970, as PostgreSQL's timestamp without zone. */
export const pgInstant = (us: bigint | string): string => `timestamp 'epoch' + ${us} * interval '1 microsecond'`

/** Texts of the relation's rows; times are microseconds since 1970, since the engines write years before the common era in different ways. */
export const texts = (connection: Connection, columns: ReadonlyArray<ModelColumn>, relation: string) => {
  const value = ({ name, type }: ModelColumn) => (type === "timestamp" ? `epoch_us(${quoted(name)})` : quoted(name))
  const object = columns.map((column, index) => `'c${index}', ${value(column)}::VARCHAR`).join(", ")
  return connection.rows(`SELECT json_group_array(json_object(${object}))::VARCHAR AS texts
    FROM (SELECT *, (row_number() OVER () - 1) // ${rowsPerText} AS slice FROM ${relation}) GROUP BY slice`).pipe(
      Effect.map((rows) => rows.map((row) => String(row["texts"])))
    )
}

/** A SELECT of the model's columns in PostgreSQL, from one text as a parameter, the first where nothing else is said. */
export const selectFromText = (columns: ReadonlyArray<ModelColumn>, parameter = 1): string => {
  const value = ({ name, type }: ModelColumn, index: number) =>
    `${type === "timestamp" ? pgInstant(`r.c${index}::bigint`) : `r.c${index}::${pgType(type)}`} AS ${quoted(name)}`
  return `SELECT ${columns.map(value).join(", ")} FROM json_to_recordset($${parameter}::json) AS r(${columns.map((_, index) => `c${index} text`).join(", ")})`
}

/** Fills a new temporary table of the engine with rows of PostgreSQL; `query` answers the model's columns. It is asked once with each text, or without one. */
export const fetch = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  connection: Connection,
  columns: ReadonlyArray<ModelColumn>,
  query: string,
  target: string,
  texts: ReadonlyArray<string> | undefined = undefined
) {
  const value = ({ name, type }: ModelColumn, index: number) =>
    `(${type === "timestamp" ? `(extract(epoch FROM ${quoted(name)}) * 1000000)::bigint` : quoted(name)})::text AS c${index}`
  const asked = `
    SELECT json_agg(row_to_json(t))::text AS texts FROM (
      SELECT ${columns.map(value).join(", ")}, (row_number() OVER () - 1) / ${rowsPerText} AS slice FROM (${query}) AS q
    ) AS t GROUP BY slice`
  const answers = yield* Effect.forEach(texts?.map((text) => [text]) ?? [[]], (parameters) => sql.unsafe<{ readonly texts: string }>(asked, parameters))
  const found = answers.flat()
  yield* connection.run("CREATE OR REPLACE TEMP TABLE gold_fetched_text (texts VARCHAR)")
  yield* connection.append("gold_fetched_text", found.length, [{ type: "varchar", at: (row) => found[row]!.texts }])
  const field = ({ name, type }: ModelColumn, index: number) =>
    `${type === "timestamp" ? `make_timestamp((row ->> 'c${index}')::BIGINT)` : `(row ->> 'c${index}')::${engineType(type)}`} AS ${quoted(name)}`
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${target} AS SELECT ${columns.map(field).join(", ")}
    FROM (SELECT unnest(from_json(texts, '["JSON"]')) AS row FROM gold_fetched_text); DROP TABLE gold_fetched_text`)
})
