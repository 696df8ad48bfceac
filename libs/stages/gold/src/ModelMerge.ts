/**
 * Whether a live model's rows can be moved by new rows of silver alone: its aggregates of the new rows are merged with those that are there.
 *
 * That is so where it groups all of silver's rows by its key, and answers counts, exact sums, least and greatest values, and what is computed from those
 * alone. What is computed (an average) is computed by the model's own SQL after merging, from the columns that the table has. So a table needs nothing beside
 * its columns to be merged. Of every other model the units that new rows touch are computed anew from silver.
 */
import { Effect, Option } from "effect"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import { qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import type { Connection, QueryError } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import type { CheckedModel } from "./ModelTable.ts"
import { engineType } from "./RowsBetween.ts"
import { calledBy, columnOf, expressionsOf, form, isNode, list, lower, nameOf, type Node, partsOf, serialized, tableName } from "./SqlTree.ts"

export type LivePlan =
  | {
    readonly kind: "merge"
    /** Columns that are merged, of the key and of values. */
    readonly merged: ReadonlyArray<string>
    /** The model's rows from two relations with the merged columns: what is there, and what the new rows give. */
    readonly rowsOf: (there: string, added: string) => string
  }
  | { readonly kind: "recompute"; readonly reason: string }

/** How two values of a column become one. */
type Role = "key" | "sum" | "min" | "max"

const rolesByFunction: Readonly<Record<string, Role>> = { count: "sum", count_star: "sum", sum: "sum", min: "min", max: "max" }

const child = (node: Node): Node => (isNode(node["child"]) ? node["child"] : {})

/** Precision does not matter: a sum that does not fit fails, in whichever order it is made. */
const scaleOf = (cast: Node): number | undefined => {
  const type = isNode(cast["cast_type"]) ? cast["cast_type"] : {}
  if (["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"].includes(String(type["id"]))) return 0
  return type["id"] === "DECIMAL" && isNode(type["type_info"]) ? Number(type["type_info"]["scale"]) : undefined
}

/** The most digits after the point that an expression can have, as far as its own casts say so. */
const digitsOf = (expression: Node): number | undefined => {
  if (expression["class"] === "CAST") return scaleOf(expression)
  if (expression["class"] !== "CASE") return undefined
  const branches = [...list(expression["case_checks"]).map((check) => check["then_expr"]), expression["else_expr"]].filter(isNode)
  const digits = branches.filter((branch) => !isNothing(branch)).map((branch) => (isZero(branch) ? 0 : digitsOf(branch)))
  return digits.every((one) => one !== undefined) ? Math.max(0, ...digits) : undefined
}

const valueOf = (constant: Node): Node => (constant["class"] === "CONSTANT" && isNode(constant["value"]) ? constant["value"] : {})
const isNothing = (expression: Node) => valueOf(expression)["is_null"] === true
const isZero = (expression: Node) => valueOf(expression)["value"] === 0

/** The role of an aggregate; undefined where two of its values cannot be merged. */
const roleOf = (expression: Node): Role | undefined => {
  if (expression["class"] === "FUNCTION") {
    const isPlain = expression["distinct"] === false && (!isNode(expression["order_bys"]) || list(expression["order_bys"]["orders"]).length === 0)
    return isPlain ? rolesByFunction[calledBy(expression) ?? ""] : undefined
  }
  // A sum of nothing that is 0 adds nothing.
  if (expression["type"] === "OPERATOR_COALESCE") {
    const [sum, zero, ...more] = list(expression["children"])
    return sum !== undefined && zero !== undefined && more.length === 0 && isZero(zero) && roleOf(sum) === "sum" ? "sum" : undefined
  }
  if (expression["class"] !== "CAST") return undefined
  const role = roleOf(child(expression))
  if (role !== "sum") return undefined
  // Digits that a cast takes away are not what the cast of the whole sum takes away.
  const summed = calledBy(child(expression)) === "sum" ? list(child(expression)["children"])[0] : undefined
  const digits = summed === undefined ? 0 : digitsOf(summed)
  const scale = scaleOf(expression)
  return digits !== undefined && scale !== undefined && digits <= scale ? "sum" : undefined
}

const nothing = (value: unknown) => value === null || value === undefined

const isPlainSelect = (node: Node): boolean =>
  node["type"] === "SELECT_NODE" && nothing(node["having"]) && nothing(node["qualify"]) && nothing(node["sample"]) && list(node["modifiers"]).length === 0

/** The roles of what a SELECT over silver answers, by name; a reason where it cannot be merged. */
const grouped = (node: Node): ReadonlyMap<string, Role> | string => {
  const from = isNode(node["from_table"]) ? node["from_table"] : {}
  if (!isPlainSelect(node) || from["type"] !== "BASE_TABLE" || tableName(from) !== qualifiedName(telemetryClean)) {
    return "it does more than group silver's rows"
  }
  const groups = list(node["group_expressions"])
  const sets = Array.isArray(node["group_sets"]) ? node["group_sets"] : []
  if (groups.length === 0 || sets.length !== 1) return "it does not group silver's rows by its key"
  const forms = new Set(groups.map(form))
  const isSilvers = (name: string) => name === "event_us" || telemetryClean.columns.some((column) => column.name === name)
  const roles = new Map<string, Role>()
  for (const item of list(node["select_list"])) {
    const name = nameOf(item)
    if (name === undefined) return "it has a column without a name"
    const isKey = forms.has(form(item)) || (!isSilvers(name) && groups.some((group) => columnOf(group) === name))
    const role = isKey ? "key" : roleOf(item)
    if (role === undefined) return `${name} is no count, sum, min or max of silver's rows`
    if (roles.has(name)) return `it has two columns ${name}`
    roles.set(name, role)
  }
  const keys = [...roles.values()].filter((role) => role === "key").length
  return keys === groups.length ? roles : "it groups by more than it answers"
}

/** Numbers that JavaScript does not hold: a text that is made of the tree would have others. */
const hasLargeNumber = (value: unknown): boolean => {
  if (Array.isArray(value)) return value.some(hasLargeNumber)
  if (!isNode(value)) return typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
  const isDouble = isNode(value["type"]) && (value["type"]["id"] === "DOUBLE" || value["type"]["id"] === "FLOAT")
  return Object.entries(value).some(([key, one]) => !(key === "value" && isDouble) && hasLargeNumber(one))
}

const aggregates = new Set(Object.keys(rolesByFunction))

interface Outer {
  /** Names in the model's table, by names in the part. */
  readonly names: ReadonlyMap<string, string>
  readonly node: Node
}

/** What is computed from the groups; a reason where it needs more of them than the table has. */
const computed = (statement: Node, part: string, roles: ReadonlyMap<string, Role>): Outer | string => {
  const from = isNode(statement["from_table"]) ? statement["from_table"] : {}
  if (!isPlainSelect(statement) || from["type"] !== "BASE_TABLE" || tableName(from) !== part || !nothing(statement["where_clause"])) {
    return `it does more with ${part} than to compute columns`
  }
  if (list(statement["group_expressions"]).length > 0) return `it groups ${part} once more`
  const items = list(statement["select_list"])
  const inner = expressionsOf(statement)
  if (inner.some((one) => one["class"] === "WINDOW" || one["class"] === "STAR" || aggregates.has(calledBy(one) ?? ""))) {
    return `it looks at more than one row of ${part}, or at all of its columns by *`
  }
  if (hasLargeNumber(items)) return "it has a number beyond 2^53"
  const names = new Map<string, string>()
  for (const item of items) {
    const [own, name] = [columnOf(item), nameOf(item)]
    if (own !== undefined && name !== undefined && roles.has(own)) names.set(own, name)
  }
  const missing = inner.map(columnOf).find((name) => name !== undefined && !names.has(name))
  return missing === undefined ? { names, node: statement } : `${missing}, which its columns are computed from, is none of them`
}

const recompute = (reason: string): LivePlan => ({ kind: "recompute", reason })

const mergeOf = (
  { columns, model }: CheckedModel,
  roles: ReadonlyMap<string, Role>,
  outer: { readonly names: ReadonlyMap<string, string>; readonly text: string }
): LivePlan => {
  const keys = [...roles].filter(([, role]) => role === "key").map(([name]) => outer.names.get(name) ?? name)
  const isKey = keys.length === model.key.length && model.key.every((name) => keys.includes(name))
  if (!isKey) return recompute(`it groups by ${keys.join(", ")}, and its key is ${model.key.join(", ")}`)
  const states = [...outer.names].map(([own, name]) => ({ own, name, role: roles.get(own)!, type: columns.find((column) => column.name === name)!.type }))
  const merged = states.map(({ name }) => name)
  const values = states.map(({ name, own, role, type }) =>
    role === "key" ? `${quoted(name)} AS ${quoted(own)}` : `${role}(${quoted(name)})::${engineType(type)} AS ${quoted(own)}`)
  const list = merged.map(quoted).join(", ")
  return {
    kind: "merge",
    merged,
    rowsOf: (there, added) =>
      `WITH gold_merged AS (SELECT ${values.join(", ")} FROM (SELECT ${list} FROM ${there} UNION ALL SELECT ${list} FROM ${added}) GROUP BY ${keys.map(quoted).join(", ")})
      ${outer.text}`
  }
}

const planByTree = Effect.fnUntraced(function*(connection: Connection, checked: CheckedModel) {
  const { model } = checked
  if (model.lookback > 0n) return recompute("rows of silver matter for longer than their own unit")
  const { tree } = yield* connection.readStatement(model.sql)
  const statement = isNode(tree) && isNode(tree["node"]) ? tree["node"] : {}
  const [part, ...more] = partsOf(statement)
  if (part === undefined) {
    const roles = grouped(statement)
    if (typeof roles === "string") return recompute(roles)
    const names = new Map([...roles.keys()].map((name) => [name, name]))
    return mergeOf(checked, roles, { names, text: `SELECT ${checked.columns.map(({ name }) => quoted(name)).join(", ")} FROM gold_merged` })
  }
  if (more.length > 0) return recompute("it has more than one part in WITH")
  const roles = grouped(part.node)
  if (typeof roles === "string") return recompute(roles)
  const outer = computed(statement, part.name, roles)
  if (typeof outer === "string") return recompute(outer)
  const from = outer.node["from_table"] as Node
  const alias = from["alias"] === "" || nothing(from["alias"]) ? part.name : lower(from["alias"])
  const over = { ...outer.node, cte_map: { map: [] }, from_table: { ...from, table_name: "gold_merged", alias } }
  const [row] = yield* connection.rows(`SELECT json_deserialize_sql(${literal(serialized(over))}::JSON) AS text`)
  return mergeOf(checked, roles, { names: outer.names, text: String(row?.["text"]) })
})

/** How the model is kept live. */
export const plan = Effect.fn("ModelMerge.plan")(function*(connection: Connection, checked: CheckedModel) {
  const found = yield* planByTree(connection, checked)
  if (found.kind === "recompute") return found
  // What is computed from merged columns has the types that the model's own have, or the planner of the engine would not take it.
  const nothing = `(SELECT ${checked.columns.map(({ name, type }) => `NULL::${engineType(type)} AS ${quoted(name)}`).join(", ")} WHERE false)`
  const described = yield* Effect.option(connection.rows(`SELECT column_name, column_type FROM (DESCRIBE ${found.rowsOf(nothing, nothing)})`))
  const isSame = Option.exists(described, (rows) =>
    rows.length === checked.columns.length && rows.every((row, index) => row["column_name"] === checked.columns[index]!.name))
  return isSame ? found : recompute("what is computed from its merged columns is not of the same types")
}) satisfies (connection: Connection, checked: CheckedModel) => Effect.Effect<LivePlan, QueryError>

/** In words, for those who list models. */
export const described = (livePlan: LivePlan, { grain }: GoldModel): string =>
  livePlan.kind === "merge" ? "new rows are merged" : `touched ${grain}s are computed anew: ${livePlan.reason}`
