/**
 * The subset of SQL that models are written in: functions that every engine has and that depend on their arguments alone; all rows, of silver alone.
 * How what is allowed here is told to Spark, and which of it only for some types, is `SparkExpression`.
 * Everything is refused that is not known here, so what a later engine brings is no hole.
 */
import { qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import { calledBy, columnOf, isNode, list, lower, nameOf, type Node, partsOf, type Scope, scopesOf, sourcesOf, tableName } from "./SqlTree.ts"

const functions = new Set([
  "+", "-", "*", "/", "%", "abs", "ceil", "coalesce", "concat", "count", "count_star", "date_trunc", "dense_rank", "floor", "greatest", "lag", "lead",
  "least", "length", "max", "min", "mod", "nullif", "rank", "row_number", "sign", "substring", "sum"
])

const letters = "engines know the letters of other alphabets each in its way"

const asked = "it depends on when it is asked"

/** What an author would write first, and what to write instead. */
const instead: Readonly<Record<string, string>> = {
  avg: "it depends on the order of rows; divide an exact sum by a count, as gold.vehicle_minute_metrics does",
  now: asked,
  today: asked,
  first: "it depends on the order of rows; take the row of row_number() = 1 over an order that is total",
  last: "it depends on the order of rows; take the row of row_number() = 1 over an order that is total",
  any_value: "it depends on the order of rows; take min or max",
  round: "engines round halves each in its way; write CAST(x AS DECIMAL(p, s))",
  lower: letters,
  upper: letters,
  trim: "engines take other characters for blanks"
}

/** Names without parentheses that the engine reads as calls. */
const clocks = new Set(["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"])
const sessions = new Set(["user", "current_user", "session_user", "current_role", "current_schema", "current_catalog"])

/** Texts that engines read as times, each at its own. */
const clockTexts = new Set(["now", "today", "tomorrow", "yesterday"])

const castTypes = new Set(["VARCHAR", "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "DECIMAL", "DATE", "TIMESTAMP"])

const classes = new Set(["BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "STAR", "WINDOW"])
const operators = new Set([
  "COMPARE_IN", "COMPARE_NOT_IN", "GROUPING_FUNCTION", "OPERATOR_COALESCE", "OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL", "OPERATOR_NOT", "OPERATOR_NULLIF"
])

/** Parts of a statement that are no expressions. */
const kinds = new Set([
  "SELECT_NODE", "SET_OPERATION_NODE", "BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY", "EXPRESSION_LIST", "ORDER_MODIFIER", "DISTINCT_MODIFIER", "ORDER_DEFAULT",
  "ASCENDING", "DESCENDING"
])
const kindFaults: Readonly<Record<string, string>> = {
  TABLE_FUNCTION: "it reads from a function; models read silver.telemetry_clean",
  LIMIT_MODIFIER: "it has LIMIT or OFFSET; a model answers all rows, and some of them by row_number() over an order that is total",
  LIMIT_PERCENT_MODIFIER: "it has LIMIT or OFFSET; a model answers all rows, and some of them by row_number() over an order that is total",
  RECURSIVE_CTE_NODE: "it is recursive",
  PIVOT: "it pivots; write a CASE for each column",
  SHOW_REF: "it describes a table; models read silver.telemetry_clean"
}

const joins = new Set(["REGULAR", "CROSS", "NATURAL"])

const silverNames = new Set(telemetryClean.columns.map(({ name }) => name))

const columnFault = (part: Node): string | undefined => {
  const name = columnOf(part)!
  if (Array.isArray(part["column_names"]) && part["column_names"].length > 1) return undefined
  if (clocks.has(name)) return `it calls ${name}: ${asked}`
  return sessions.has(name) ? `it calls ${name}: it depends on who asks` : undefined
}

const expressionFault = (part: Node): string | undefined => {
  const kind = String(part["class"])
  if (kind === "SUBQUERY") return "it has a subquery within an expression; join it instead"
  if (kind === "LAMBDA") return "it has a lambda"
  if (!classes.has(kind)) return `it has an expression of the kind ${kind}, which models may not have`
  if (kind === "COLUMN_REF") return columnFault(part)
  if (kind === "OPERATOR" && !operators.has(String(part["type"]))) return `it has ${String(part["type"])}, which models may not have`
  if (kind === "STAR" && (part["columns"] === true || part["expr"] !== null)) return "it chooses columns by COLUMNS or ALL; name them"
  if (kind === "STAR" && list(part["replace_list"]).length + list(part["rename_list"]).length > 0) return "it has * REPLACE or * RENAME; name the columns"
  if (kind === "CAST") {
    const type = isNode(part["cast_type"]) ? part["cast_type"] : {}
    const named = isNode(type["type_info"]) ? type["type_info"]["name"] : undefined
    if (!castTypes.has(String(type["id"]))) return `it casts to ${String(named ?? type["id"])}; models cast to ${[...castTypes].join(", ")}`
  }
  const value = kind === "CONSTANT" && isNode(part["value"]) ? part["value"]["value"] : undefined
  if (typeof value === "string" && clockTexts.has(value.trim().toLowerCase())) return `it has the text '${value}', which as a time is another one each day`
  const called = calledBy(part)
  if (called !== undefined && !functions.has(called)) {
    return `it calls ${called}: ${instead[called] ?? `models may call ${[...functions].filter((name) => /^[a-z]/.test(name)).join(", ")}`}`
  }
  return undefined
}

const partFault = (part: Node): string | undefined => {
  if (typeof part["class"] === "string") return expressionFault(part)
  if (isNode(part["sample"])) return "it samples; a model reads all rows"
  if (isNode(part["at_clause"])) return "it reads a table as it was at a time; a model reads all rows"
  const kind = part["type"]
  if (typeof kind === "string" && !kinds.has(kind) && !kind.endsWith("_TYPE_INFO")) return kindFaults[kind] ?? `it has ${kind}, which models may not have`
  if (kind === "JOIN" && !joins.has(String(part["ref_type"]))) {
    return `it has a ${String(part["ref_type"])} join, which depends on the order of rows or on the engine`
  }
  if (kind === "DISTINCT_MODIFIER" && list(part["distinct_on_targets"]).length > 0) {
    return "it has DISTINCT ON, which depends on the order of rows; take the row of row_number() = 1 over an order that is total"
  }
  const names = [part["column_name_alias"], part["aliases"]].flatMap((given) => (Array.isArray(given) ? given : []))
  // Values have no other names than those of the list; everywhere else it would hide which of silver's columns is meant.
  const isOfValues = isNode(part["subquery"]) && isNode(part["subquery"]["node"]) && isNode(part["subquery"]["node"]["from_table"]) &&
    part["subquery"]["node"]["from_table"]["type"] === "EXPRESSION_LIST"
  const renamed = isOfValues ? names.find((name) => silverNames.has(lower(name))) : names[0]
  return renamed === undefined ? undefined : `it names columns in a list of names (${names.map(String).join(", ")}); name each with AS`
}

/** The first thing in a part of a statement that a model may not do. */
export const fault = (part: unknown): string | undefined => {
  if (Array.isArray(part)) {
    for (const one of part) {
      const found = fault(one)
      if (found !== undefined) return found
    }
    return undefined
  }
  return isNode(part) ? partFault(part) ?? fault(Object.values(part)) : undefined
}

/** Tables are silver's and the earlier parts of WITH, each by its own name: a name of a later part would be a file's or the engine's own. */
export const tableFault = (statement: Node): string | undefined => {
  const silver = qualifiedName(telemetryClean)
  const nested = scopesOf(statement).find(({ node }) => node !== statement && partsOf(node).length > 0)
  if (nested !== undefined) return `it has a WITH within a part of it (${partsOf(nested.node)[0]!.name}); write all parts in the WITH at its beginning`
  let reads = false
  for (const { node, parts } of scopesOf(statement)) {
    for (const source of sourcesOf(node["from_table"])) {
      if (source["type"] !== "BASE_TABLE") continue
      const name = tableName(source)
      const isPart = source["schema_name"] === "" && source["catalog_name"] === "" && parts.some((part) => part.name === name)
      if (!isPart && name !== silver) return `it reads ${name}; models read ${silver} alone`
      reads ||= !isPart
    }
  }
  return reads ? undefined : `it does not read ${silver}`
}

/** Whether an expression answers the column of this name as it is, or nothing. */
const carries = (expression: Node, name: string): boolean => {
  if (columnOf(expression) === name) return true
  if (expression["class"] === "CONSTANT") return isNode(expression["value"]) && expression["value"]["is_null"] === true
  if (expression["class"] === "CASE") {
    return [...list(expression["case_checks"]).map((check) => check["then_expr"]), expression["else_expr"]].every((one) => isNode(one) && carries(one, name))
  }
  return expression["type"] === "OPERATOR_COALESCE" && list(expression["children"]).every((one) => carries(one, name))
}

/** The items that answer the column, also in the further parts of a set operation, where a column is known by its place. */
const itemsOf = ({ node }: Scope, name: string): ReadonlyArray<Node> => {
  if (node["type"] !== "SET_OPERATION_NODE") return list(node["select_list"]).filter((item) => nameOf(item) === name)
  const [left, right] = [node["left"], node["right"]].map((side) => (isNode(side) ? list(side["select_list"]) : []))
  if (node["setop_type"] === "UNION_BY_NAME" || [...left!, ...right!].some((item) => item["class"] === "STAR")) return []
  return right!.filter((_, index) => left![index] !== undefined && nameOf(left![index]) === name)
}

/** A column of the key that is silver's own by its name is that, wherever it comes by: rows are found by it. */
export const ownFault = (statement: Node, own: ReadonlyArray<string>): string | undefined => {
  for (const name of own) {
    const computed = scopesOf(statement).some((scope) => itemsOf(scope, name).some((item) => !carries(item, name)))
    if (computed) return `column ${name} of its key has the name of silver's, and is another; give what is computed a name of its own (AS), also in the key`
  }
  return undefined
}
