/**
 * The units of a model (see `domain/GoldModel`) that changed silver rows touch, as a table in the engine: columns of silver's own in the key, and
 * `bucket_us`, the beginning of the span in microseconds since 1970.
 */
import { Effect } from "effect"
import { type GoldModel, grainLength } from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { sourceSql } from "./ModelCheck.ts"

export const unitsTable = "gold_touched_unit"

/** Microseconds of a UTC day. */
export const dayLength = 86_400_000_000n

/** The beginning of the span that an instant (an expression, in microseconds) lies in; instants before 1970 count too. */
export const bucket = (instant: string, length: bigint): string => `(${instant} - (${instant} % ${length} + ${length}) % ${length})`

/** Columns of the key that are silver's own: the same for all rows of a unit. */
export const ownColumns = (model: GoldModel): ReadonlyArray<string> =>
  model.key.filter((name) => name !== model.time && telemetryClean.columns.some((column) => column.name === name))

/** The unit's columns, of a relation that has those of the model. */
export const unitOf = (model: GoldModel, alias: string): ReadonlyArray<string> => [
  ...ownColumns(model).map((name) => `${alias}.${quoted(name)}`),
  `epoch_us(${alias}.${quoted(model.time)})`
]

export const unitNames = (model: GoldModel): ReadonlyArray<string> => [...ownColumns(model).map(quoted), "bucket_us"]

/** Whether a row of the model is of one of the units. */
export const isTouched = (model: GoldModel, alias: string): string =>
  `EXISTS (SELECT 1 FROM ${unitsTable} AS unit WHERE ${
    unitNames(model).map((name, index) => `unit.${name} IS NOT DISTINCT FROM ${unitOf(model, alias)[index]}`).join(" AND ")
  })`

/**
 * Silver's rows as models see them, those of which the condition holds. Times go by way of their microseconds: casting one to a time without zone asks the
 * engine's calendar, row by row, and cost more than all the rest of a minute's metrics.
 */
export const sourceRows = (relation: string, where = "true"): string => {
  const asUtc = (name: string) => `make_timestamp(epoch_us(${name})) AS ${name}`
  return sourceSql(`(SELECT * REPLACE (${asUtc("event_ts")}, ${asUtc("ingest_ts")}) FROM ${relation} WHERE ${where})`)
}

/** Empties the table, and shapes it for the model. */
export const begin = (connection: Connection, model: GoldModel) => {
  const columns = [...ownColumns(model).map((name) => `${quoted(name)} ${name === "partition" ? "INTEGER" : name === "offset" ? "BIGINT" : "VARCHAR"}`), "bucket_us BIGINT"]
  return connection.run(`CREATE OR REPLACE TEMP TABLE ${unitsTable} (${columns.join(", ")})`)
}

/** Adds the units for which rows of silver matter. `relation` has silver's columns. */
export const addOf = Effect.fnUntraced(function*(connection: Connection, model: GoldModel, relation: string) {
  const length = grainLength(model.grain)
  const own = ownColumns(model).map(quoted)
  // Distinct spans first, then those that they reach: few of either, however many rows.
  yield* connection.run(`INSERT INTO ${unitsTable}
    WITH spans AS (
      SELECT DISTINCT ${[...own, `${bucket("event_us", length)} AS first_us`, `${bucket(`(event_us + ${model.lookback})`, length)} AS last_us`].join(", ")}
      FROM (${sourceRows(relation)})
    )
    SELECT DISTINCT ${[...own, "bucket_us"].join(", ")} FROM (
      SELECT ${[...own, `unnest(generate_series(first_us, last_us, ${length}))`].join(", ")} AS bucket_us FROM spans
    ) AS reached
    WHERE NOT EXISTS (SELECT 1 FROM ${unitsTable} AS known WHERE ${
    [...own, "bucket_us"].map((name) => `known.${name} IS NOT DISTINCT FROM reached.${name}`).join(" AND ")
  })`)
})

/** Adds the units of the model's rows in `relation`. */
export const addRowsOf = (connection: Connection, model: GoldModel, relation: string) =>
  connection.run(`INSERT INTO ${unitsTable} SELECT DISTINCT ${unitOf(model, "r").join(", ")} FROM ${relation} AS r`)

export interface TouchedDay {
  /** Since 1970. */
  readonly day: number
  readonly firstUs: bigint
  readonly lastUs: bigint
}

/** The days of the units, in order. */
export const days = (connection: Connection): Effect.Effect<ReadonlyArray<TouchedDay>, Effect.Effect.Error<ReturnType<Connection["rows"]>>> =>
  connection.rows(`SELECT ${bucket("bucket_us", dayLength)} // ${dayLength} AS day, min(bucket_us) AS first_us, max(bucket_us) AS last_us
    FROM ${unitsTable} GROUP BY 1 ORDER BY 1`).pipe(
    Effect.map((rows) => rows.map((row) => ({ day: Number(row["day"]), firstUs: BigInt(row["first_us"] as bigint), lastUs: BigInt(row["last_us"] as bigint) })))
  )
