/**
 * Whether a gold model can be used, found out before it is: by the engine's own parser and planner, over a silver without rows.
 *
 * A model must give the same rows for the same silver, whichever engine computes it and in whatever order it reads. So its SQL is a subset: what every engine
 * has and what depends on its arguments alone (`ModelSubset`), windows whose order leaves no ties that matter (`ModelOrder`), and sums of exact numbers.
 */
import { Effect, Option } from "effect"
import { type GoldModel, ModelInvalid } from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { Connection, QueryError } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import { orderFault } from "./ModelOrder.ts"
import { fault, ownFault, tableFault } from "./ModelSubset.ts"
import * as SparkSql from "./SparkSql.ts"
import { calledBy, expressionsOf, isNode, list, type Node, partsOf, scopesOf, serialized } from "./SqlTree.ts"

/** Types that all of DuckDB, Spark, Iceberg and PostgreSQL have. */
export type ColumnType = "text" | "integer" | "bigint" | "double" | "timestamp" | "boolean" | "decimal"

export interface ModelColumn {
  readonly name: string
  readonly type: ColumnType
  readonly doc: string
}

/** The name under which a model's SQL finds silver's rows. */
export const sourceName = "gold_model_source"

/**
 * Silver's rows as models see them; times are UTC, and `event_us` is `event_ts` in microseconds since 1970. `source`, which senders write as they like, is
 * without the character that PostgreSQL's texts do not hold. `relation` has the contract's columns.
 */
export const sourceSql = (relation: string): string =>
  `SELECT event_id, vehicle_id, make_timestamp(epoch_us(event_ts)) AS event_ts, epoch_us(event_ts) AS event_us,
    make_timestamp(epoch_us(ingest_ts)) AS ingest_ts, replace(source, chr(0), '') AS source,
    ${signals.map(({ name }) => quoted(name)).join(", ")}, topic, "partition", "offset" FROM ${relation}`

/** The name under which the tests of a model find its rows. */
export const rowsName = "gold_model_rows"

/** Lets {@link sourceName} be a silver without rows, for what the planner is asked. */
export const bindEmptySource = (connection: Connection) => {
  const nothing = telemetryClean.columns.map(({ name, type }) => `NULL::${engineTypes[String(type)]} AS ${quoted(name)}`).join(", ")
  return connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${sourceSql(`(SELECT ${nothing} WHERE false)`)}`)
}

/** Lets {@link rowsName} be what the model makes of {@link sourceName}. */
export const bindRows = (connection: Connection, model: GoldModel) =>
  connection.run(`CREATE OR REPLACE TEMP VIEW ${rowsName} AS ${boundSql(model)}`)

/** The model's SQL over {@link sourceName}. */
export const boundSql = ({ sql }: GoldModel): string => boundText(sql)

/** It ends with a line's end, so that what comes after it is no part of a comment. */
const boundText = (sql: string): string => `${sql.replaceAll(/\bsilver\s*\.\s*telemetry_clean\b/gi, sourceName)}\n`

/** Of silver's columns. */
const engineTypes: Readonly<Record<string, string>> = { int: "INTEGER", long: "BIGINT", timestamptz: "TIMESTAMPTZ", double: "DOUBLE", string: "VARCHAR" }

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

/** A sum of these is the same in whatever order they are added. */
const exactSum = /^(DECIMAL\(\d+,\d+\)|HUGEINT)$/

/** Sums of what is not exact, by the engine's own types: of each SELECT it is asked what its sums are. */
const sumFault = Effect.fnUntraced(function*(connection: Connection, statement: Node) {
  const textOf = (node: Node) =>
    Effect.map(connection.rows(`SELECT json_deserialize_sql(${literal(serialized(node))}::JSON) AS text`), ([row]) => String(row?.["text"]))
  for (const { node, parts } of scopesOf(statement)) {
    const sums = node["type"] !== "SELECT_NODE" ? [] : expressionsOf(node).filter((part) => calledBy(part) === "sum")
    if (sums.length === 0) continue
    const asked = {
      ...node,
      modifiers: [],
      having: null,
      qualify: null,
      cte_map: { map: parts.map(({ entry }) => entry) },
      select_list: [...list(node["select_list"]), ...sums.map((sum, index) => ({ ...sum, alias: `gold_sum_${index}` }))]
    }
    const types = yield* connection.rows(`SELECT column_type FROM (DESCRIBE ${boundText(yield* textOf(asked))})`)
    const inexact = sums.find((_, index) => !exactSum.test(String(types.at(index - sums.length)?.["column_type"])))
    if (inexact === undefined) continue
    const argument = list(inexact["children"]).map((one) => ({ ...one, alias: "" }))
    const nothing = { ...node, modifiers: [], having: null, qualify: null, where_clause: null, group_expressions: [], group_sets: [] }
    const plain = { ...nothing, aggregate_handling: "STANDARD_HANDLING", cte_map: { map: [] }, from_table: { type: "EMPTY", alias: "", sample: null } }
    const text = (yield* textOf({ ...plain, select_list: argument })).replace(/^SELECT /, "")
    return `sum(${text}) depends on the order of rows, since ${text} is a double; write sum(CAST(${text} AS DECIMAL(38, 6)))`
  }
  return undefined
})

/**
 * A test is run as text, within a statement of ours. So it must be one expression, in whichever parentheses it stands: with a line's end after it, where a
 * comment in it would end, and without.
 */
const testFault = Effect.fnUntraced(function*(connection: Connection, test: string) {
  const readings = yield* Effect.forEach([`SELECT (${test}) AS test`, `SELECT (${test}\n) AS test`], (sql) => connection.readStatement(sql)).pipe(Effect.option)
  if (Option.isNone(readings)) return "it is not one condition"
  for (const { tables, tree } of readings.value) {
    const node = isNode(tree) && isNode(tree["node"]) ? tree["node"] : {}
    const [item, ...more] = list(node["select_list"])
    const rest = ["where_clause", "having", "qualify", "sample"].filter((part) => node[part] !== null)
    const lists = ["modifiers", "group_expressions", "group_sets"].filter((part) => !Array.isArray(node[part]) || node[part].length > 0)
    const isOne = node["type"] === "SELECT_NODE" && isNode(node["from_table"]) && node["from_table"]["type"] === "EMPTY" && partsOf(node).length === 0
    const found = fault(tree)
    if (found !== undefined) return found
    const expressions = item === undefined ? [] : expressionsOf(item)
    if (!isOne || more.length + rest.length + lists.length + tables.length > 0 || item?.["alias"] !== "test") return "it is not one condition"
    if (expressions.some((part) => part["class"] === "STAR" || part["class"] === "WINDOW")) return "it is not a condition on the columns of one row"
  }
  return undefined
})

/** Checks the model, and answers its columns. The connection's source becomes one without rows. */
export const check = Effect.fn("ModelCheck.check")(function*(connection: Connection, model: GoldModel) {
  const invalid = (reason: string) => new ModelInvalid({ source: model.name, reason })
  const firstLine = ({ reason }: QueryError) => reason.trim().split("\n")[0] ?? reason
  const { tree } = yield* connection.readStatement(model.sql).pipe(Effect.mapError(({ reason }) => invalid(`its SQL cannot be read: ${reason.trim()}`)))
  const statement = isNode(tree) && isNode(tree["node"]) ? tree["node"] : {}
  const own = model.key.filter((name) => name !== model.time && telemetryClean.columns.some((column) => column.name === name))
  const times = own.find((name) => telemetryClean.columns.some((column) => column.name === name && column.type === "timestamptz"))
  if (times !== undefined) return yield* invalid(`column ${times} of its key is a time, and not its column of time; give it another name`)
  const found = fault(statement) ?? tableFault(statement) ?? orderFault(statement) ?? ownFault(statement, own)
  if (found !== undefined) return yield* invalid(found)

  yield* bindEmptySource(connection)
  const described = yield* connection.rows(`SELECT column_name, column_type FROM (DESCRIBE ${boundSql(model)})`).pipe(
    Effect.mapError((error) => invalid(firstLine(error)))
  )
  const inexactSum = yield* sumFault(connection, statement).pipe(
    Effect.mapError((error) => invalid(`the types of its sums cannot be told: ${firstLine(error)}`))
  )
  if (inexactSum !== undefined) return yield* invalid(inexactSum)
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
  if (missing !== undefined) {
    return yield* invalid(`its header speaks of the column ${missing}, and its SQL answers ${columns.map(({ name }) => name).join(", ")}`)
  }
  if (columns.find(({ name }) => name === model.time)?.type !== "timestamp") return yield* invalid(`its time ${model.time} is no timestamp`)
  const inexact = model.key.find((name) => columns.some((column) => column.name === name && column.type === "double"))
  if (inexact !== undefined) return yield* invalid(`column ${inexact} of its key is a double, which no two engines compare alike`)
  for (const test of model.tests) {
    const wrong = yield* testFault(connection, test)
    if (wrong !== undefined) return yield* invalid(`test ${literal(test)}: ${wrong}`)
    yield* connection.rows(`SELECT 1 FROM (${boundSql(model)}) WHERE NOT coalesce(${test}, false)`).pipe(
      Effect.mapError((error) => invalid(`test ${literal(test)}: ${firstLine(error)}`))
    )
  }
  yield* bindRows(connection, model)
  yield* SparkSql.statement(connection, boundSql(model)).pipe(Effect.mapError(({ reason }) => invalid(reason)))
  for (const test of model.tests) {
    yield* SparkSql.condition(connection, test, rowsName).pipe(Effect.mapError(({ reason }) => invalid(`test ${literal(test)}: ${reason}`)))
  }
  return columns
})
