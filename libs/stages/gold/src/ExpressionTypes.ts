/**
 * What a statement's SELECTs see and of which types their expressions are, by the engine's own planner: it is asked, over a source without rows, for what
 * each expression would answer. Names that an item of the SELECT gives are replaced by what they stand for first, as the engine does.
 */
import { Data, Effect } from "effect"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import { calledBy, columnOf, expressionsOf, isNode, list, lower, nameOf, type Node, type Scope, scopesOf, serialized } from "./SqlTree.ts"

/** A SELECT as it is read by the types' owner: its own names are replaced. */
export interface TypedSelect {
  readonly node: Node
  /** The engine's name of an expression's type; none for one that was not asked for. */
  readonly typeOf: (expression: Node) => string | undefined
}

/** Why a statement's types cannot be told. */
export class Untyped extends Data.TaggedError("Untyped")<{ readonly reason: string }> {}

const aggregates = new Set(["count", "count_star", "max", "min", "sum"])

const isAggregate = (part: Node) => part["class"] === "FUNCTION" && aggregates.has(calledBy(part)!)

export const hasAggregate = (expression: Node): boolean => expressionsOf(expression).some(isAggregate)

const hasWindow = (expression: Node): boolean => expressionsOf(expression).some((part) => part["class"] === "WINDOW")

/** Alike for what is alike, wherever it stands. */
const keyOf = (expression: Node): string =>
  JSON.stringify({ ...expression, alias: "" }, (key, value: unknown) => (key === "query_location" ? undefined : value))

/** The expressions of joins' conditions; those of subqueries are not among them. */
const conditionsOf = (from: unknown): ReadonlyArray<Node> => {
  if (!isNode(from) || from["type"] !== "JOIN") return []
  const own = isNode(from["condition"]) ? expressionsOf({ condition: from["condition"] }) : []
  return [...conditionsOf(from["left"]), ...conditionsOf(from["right"]), ...own]
}

/** Replaces names by what they stand for, wherever they are no column of what is read. */
const replaced = (value: unknown, standsFor: ReadonlyMap<string, Node>): unknown => {
  if (Array.isArray(value)) return value.map((one) => replaced(one, standsFor))
  if (!isNode(value)) return value
  const names = value["column_names"]
  const meant = value["class"] === "COLUMN_REF" && Array.isArray(names) && names.length === 1 ? standsFor.get(columnOf(value)!) : undefined
  if (meant !== undefined) return { ...meant, alias: value["alias"] ?? "" }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, replaced(one, standsFor)]))
}

/** The SELECT without names of its own, and groups by place as what stands there. */
const plain = (select: Node, columns: ReadonlySet<string>): Node => {
  const standsFor = new Map<string, Node>()
  const items = list(select["select_list"]).map((item) => {
    const whole = replaced(item, standsFor) as Node
    const name = nameOf(item)
    if (item["alias"] !== "" && name !== undefined && !columns.has(name)) standsFor.set(name, { ...whole, alias: "" })
    return whole
  })
  const groups = list(select["group_expressions"]).map((group) => {
    const place = group["class"] === "CONSTANT" && isNode(group["value"]) ? Number(group["value"]["value"]) : 0
    return items[place - 1] ?? replaced(group, standsFor)
  })
  const parts = Object.fromEntries(["where_clause", "having", "qualify"].map((part) => [part, replaced(select[part], standsFor)]))
  return { ...select, ...parts, select_list: items, group_expressions: groups }
}

const describe = Effect.fnUntraced(function*(connection: Connection, statement: Node) {
  const [row] = yield* connection.rows(`SELECT json_deserialize_sql(${literal(serialized(statement))}::JSON) AS text`)
  return yield* connection.rows(`SELECT column_name, column_type FROM (DESCRIBE ${String(row?.["text"])}\n)`)
})

const noNames = { exclude_list: [], qualified_exclude_list: [], rename_list: [], replace_list: [] }
const star = { class: "STAR", type: "STAR", alias: "", relation_name: "", ...noNames, columns: false, expr: null }

const nothing = { modifiers: [], having: null, qualify: null, sample: null }
const ungrouped = { ...nothing, where_clause: null, group_expressions: [], group_sets: [], aggregate_handling: "STANDARD_HANDLING" }

const typed = Effect.fnUntraced(function*(connection: Connection, { node, parts }: Scope) {
  const within = { cte_map: { map: parts.map(({ entry }) => entry) } }
  const isEmpty = isNode(node["from_table"]) && node["from_table"]["type"] === "EMPTY"
  const seen = isEmpty ? [] : yield* describe(connection, { ...node, ...ungrouped, ...within, select_list: [star] })
  const select = plain(node, new Set(seen.map((row) => lower(row["column_name"]))))
  const { modifiers: _, ...rest } = select
  const asked = new Map<string, Node>()
  for (const expression of [...expressionsOf(rest), ...conditionsOf(select["from_table"])]) {
    if (expression["class"] !== "STAR" && expression["class"] !== "CONSTANT") asked.set(keyOf(expression), { ...expression, alias: "" })
  }
  const [simple, whole] = [new Array<readonly [string, Node]>(), new Array<readonly [string, Node]>()]
  for (const one of asked) (hasAggregate(one[1]) || hasWindow(one[1]) ? whole : simple).push(one)
  const types = new Map<string, string>()
  const ask = Effect.fnUntraced(function*(form: Node, items: ReadonlyArray<Node>, expressions: ReadonlyArray<readonly [string, Node]>) {
    if (expressions.length === 0) return
    const added = expressions.map(([, expression], index) => ({ ...expression, alias: `gold_type_${index}` }))
    const rows = yield* describe(connection, { ...form, ...within, select_list: [...items, ...added] })
    for (const [index, [key]] of expressions.entries()) types.set(key, String(rows.at(index - expressions.length)?.["column_type"]))
  })
  yield* ask({ ...select, ...ungrouped }, [], simple)
  yield* ask({ ...select, ...nothing }, select["aggregate_handling"] === "FORCE_AGGREGATES" ? list(select["select_list"]) : [], whole)
  return { node: select, typeOf: (expression) => types.get(keyOf(expression)) } satisfies TypedSelect
})

/** Of each SELECT of a statement: as it is without names of its own, with the types of its expressions. */
export const selectsOf = Effect.fn("ExpressionTypes.selectsOf")(function*(connection: Connection, statement: Node) {
  const all = new Map<Node, TypedSelect>()
  for (const scope of scopesOf(statement)) {
    if (scope.node["type"] !== "SELECT_NODE") continue
    const one = yield* typed(connection, scope).pipe(
      Effect.mapError(({ reason }) => new Untyped({ reason: `the types of its expressions cannot be told: ${reason.trim().split("\n")[0]}` }))
    )
    all.set(scope.node, one)
  }
  return all as ReadonlyMap<Node, TypedSelect>
})
