/**
 * Whether a gold model can be used, found out before it is: by the engine's own parser and planner, over a silver without rows.
 *
 * A model must give the same rows for the same silver, whichever engine computes it and in whatever order it reads. So its SQL is a subset: functions that
 * every engine has and that depend on their arguments alone, and sums of exact numbers only.
 */
import { Effect } from "effect"
import { type GoldModel, ModelInvalid } from "@voltlake/domain/GoldModel"
import { qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"

/** Types that all of DuckDB, Spark, Iceberg and PostgreSQL have. */
export type ColumnType = "text" | "integer" | "bigint" | "double" | "timestamp" | "boolean" | "decimal"

export interface ModelColumn {
  readonly name: string
  readonly type: ColumnType
  readonly doc: string
}

/** The name under which a model's SQL finds silver's rows. */
export const sourceName = "gold_model_source"

/** Silver's rows as models see them; times are UTC, and `event_us` is `event_ts` in microseconds since 1970. `relation` has the contract's columns. */
export const sourceSql = (relation: string): string =>
  `SELECT event_id, vehicle_id, event_ts::TIMESTAMP AS event_ts, epoch_us(event_ts) AS event_us, ingest_ts::TIMESTAMP AS ingest_ts, source,
    ${signals.map(({ name }) => quoted(name)).join(", ")}, topic, "partition", "offset" FROM ${relation}`

/** The model's SQL over {@link sourceName}. */
export const boundSql = ({ sql }: GoldModel): string => sql.replaceAll(/\bsilver\s*\.\s*telemetry_clean\b/gi, sourceName)

const functions = new Set([
  "+", "-", "*", "/", "%", "abs", "ceil", "coalesce", "concat", "count", "count_star", "date_trunc", "dense_rank", "floor", "greatest", "lag", "lead",
  "least", "length", "lower", "max", "min", "mod", "nullif", "rank", "round", "row_number", "sign", "substring", "sum", "trim", "upper"
])

/** What an author would write first, and what to write instead. */
const instead: Readonly<Record<string, string>> = {
  avg: "it depends on the order of rows; divide an exact sum by a count, as gold.vehicle_minute_metrics does",
  now: "it depends on when it is asked",
  current_timestamp: "it depends on when it is asked",
  current_date: "it depends on when it is asked",
  first: "it depends on the order of rows; take the row of row_number() = 1 over an order that is total",
  last: "it depends on the order of rows; take the row of row_number() = 1 over an order that is total",
  any_value: "it depends on the order of rows; take min or max"
}

const doubles = new Set<string>(signals.map(({ name }) => name))
const clocks = new Set(["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"])

/** Classes of expressions whose value is no double, or is no longer one, whatever they are made of. */
const exact = new Set(["CAST", "COMPARISON", "CONJUNCTION"])

type Node = Readonly<Record<string, unknown>>

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null

const last = (names: unknown): string => (Array.isArray(names) ? String(names.at(-1)).toLowerCase() : "")

/** The first thing in a part of the statement that a model may not do. `within` is the sum that the part is an argument of. */
const fault = (part: unknown, within: string | undefined): string | undefined => {
  if (Array.isArray(part)) {
    for (const one of part) {
      const found = fault(one, within)
      if (found !== undefined) return found
    }
    return undefined
  }
  if (!isNode(part)) return undefined
  if (part["type"] === "TABLE_FUNCTION") return "it reads from a function; models read silver.telemetry_clean"
  if (isNode(part["sample"])) return "it samples; a model reads all rows"
  if (part["class"] === "SUBQUERY") return "it has a subquery within an expression; join it instead"
  if (part["class"] === "COLUMN_REF") {
    const name = last(part["column_names"])
    if (clocks.has(name) && Array.isArray(part["column_names"]) && part["column_names"].length === 1) return `it calls ${name}: ${instead["now"]}`
    return within !== undefined && doubles.has(name)
      ? `${within}(${name}) depends on the order of rows, since ${name} is a double; write ${within}(CAST(${name} AS DECIMAL(38, 6)))`
      : undefined
  }
  const called = part["class"] === "FUNCTION" || part["class"] === "WINDOW" ? String(part["function_name"]).toLowerCase() : undefined
  if (called !== undefined && !functions.has(called)) {
    return `it calls ${called}: ${instead[called] ?? `models may call ${[...functions].filter((name) => /^[a-z]/.test(name)).join(", ")}`}`
  }
  if (called === "/" && within !== undefined) return `${within}(a / b) depends on the order of rows, since a quotient is a double; cast it to DECIMAL(38, 6)`
  const inner = exact.has(String(part["class"])) ? undefined : called === "sum" ? "sum" : within
  for (const value of Object.values(part)) {
    const found = fault(value, inner)
    if (found !== undefined) return found
  }
  return undefined
}

const typeOf = (engineType: string): ColumnType | undefined => {
  switch (engineType) {
    case "VARCHAR":
      return "text"
    case "INTEGER":
      return "integer"
    case "BIGINT":
      return "bigint"
    case "DOUBLE":
      return "double"
    case "TIMESTAMP":
      return "timestamp"
    case "BOOLEAN":
      return "boolean"
    default:
      return /^DECIMAL\(\d+,6\)$/.test(engineType) ? "decimal" : undefined
  }
}

/** Checks the model, and answers its columns. The connection's source becomes one without rows. */
export const check = Effect.fn("ModelCheck.check")(function*(connection: Connection, model: GoldModel) {
  const invalid = (reason: string) => new ModelInvalid({ source: model.name, reason })
  const { tables, tree } = yield* connection.readStatement(model.sql).pipe(Effect.mapError(({ reason }) => invalid(`its SQL cannot be read: ${reason.trim()}`)))
  const foreign = tables.find((table) => table.toLowerCase() !== qualifiedName(telemetryClean))
  if (foreign !== undefined) return yield* invalid(`it reads ${foreign}; models read ${qualifiedName(telemetryClean)} alone`)
  if (tables.length === 0) return yield* invalid(`it does not read ${qualifiedName(telemetryClean)}`)
  const found = fault(tree, undefined)
  if (found !== undefined) return yield* invalid(found)

  const columnType = (type: unknown) => (type === "int" ? "INTEGER" : type === "long" ? "BIGINT" : type === "timestamptz" ? "TIMESTAMPTZ" : type === "double" ? "DOUBLE" : "VARCHAR")
  const nothing = telemetryClean.columns.map(({ name, type }) => `NULL::${columnType(type)} AS ${quoted(name)}`).join(", ")
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${sourceSql(`(SELECT ${nothing} WHERE false)`)}`)
  const described = yield* connection.rows(`SELECT column_name, column_type FROM (DESCRIBE ${boundSql(model)})`).pipe(
    Effect.mapError(({ reason }) => invalid(reason.trim().split("\n")[0] ?? reason))
  )
  const columns: Array<ModelColumn> = []
  for (const row of described) {
    const [name, engineType] = [String(row["column_name"]), String(row["column_type"])]
    const type = typeOf(engineType)
    if (!/^[a-z][a-z0-9_]{0,62}$/.test(name)) return yield* invalid(`column "${name}": small letters, digits and _ are allowed; name it by AS`)
    if (type === undefined) {
      const known = "STRING, INTEGER, BIGINT, DOUBLE, TIMESTAMP, BOOLEAN or DECIMAL(38, 6)"
      return yield* invalid(`column ${name} is of the type ${engineType}; cast it to ${known}`)
    }
    if (columns.some((column) => column.name === name)) return yield* invalid(`it has two columns ${name}`)
    columns.push({ name, type, doc: model.docs.get(name) ?? "" })
  }
  const missing = [...model.key, ...model.docs.keys()].find((name) => !columns.some((column) => column.name === name))
  if (missing !== undefined) return yield* invalid(`its header speaks of the column ${missing}, and its SQL answers ${columns.map(({ name }) => name).join(", ")}`)
  if (columns.find(({ name }) => name === model.time)?.type !== "timestamp") return yield* invalid(`its time ${model.time} is no timestamp`)
  const inexact = model.key.find((name) => columns.some((column) => column.name === name && column.type === "double"))
  if (inexact !== undefined) return yield* invalid(`column ${inexact} of its key is a double, which no two engines compare alike`)
  for (const test of model.tests) {
    yield* connection.rows(`SELECT 1 FROM (${boundSql(model)}) WHERE NOT (${test})`).pipe(
      Effect.mapError(({ reason }) => invalid(`test ${literal(test)}: ${reason.trim().split("\n")[0]}`))
    )
  }
  return columns
})
