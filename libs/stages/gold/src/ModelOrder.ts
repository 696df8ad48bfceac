/**
 * Whether the windows of a model answer the same in whatever order rows come: where ties in a window's order could matter, its columns must be more than the
 * columns of which no two rows are alike. Those are followed from silver through WITH: rows that are passed on, grouped, distinct, or first of each.
 */
import { qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import { calledBy, columnOf, expressionsOf, form, isNode, list, lower, nameOf, type Node, type Part, type Scope, scopesOf } from "./SqlTree.ts"
import { subqueryOf, tableName } from "./SqlTree.ts"

type Columns = ReadonlySet<string>

/** What is known of the rows that a SELECT answers or reads. */
interface Rows {
  /** No two rows have the same values in all of these. */
  readonly keys: ReadonlyArray<Columns>
  /** Columns of `row_number()`, by name, each with the columns that it counts within: of rows with the same number no two have the same in them. */
  readonly numbers: ReadonlyMap<string, Columns>
}

const unknown: Rows = { keys: [], numbers: new Map() }
const silver: Rows = { keys: [new Set(["topic", "partition", "offset"]), new Set(["vehicle_id", "event_id"])], numbers: new Map() }

const aggregates = new Set(["count", "count_star", "max", "min", "sum"])

const isWithin = (columns: Columns, others: Columns) => [...columns].every((column) => others.has(column))

const isAggregate = (item: Node) => expressionsOf(item).some((part) => part["class"] === "FUNCTION" && aggregates.has(calledBy(part)!))

/** Conditions that all hold. */
const conditions = (where: unknown): ReadonlyArray<Node> =>
  !isNode(where) ? [] : where["type"] === "CONJUNCTION_AND" ? list(where["children"]).flatMap(conditions) : [where]

/** What is asked to be equal to a constant. */
const fixed = (where: unknown): ReadonlyArray<Node> =>
  conditions(where).flatMap(({ left, right, type }) =>
    type === "COMPARE_EQUAL" && isNode(left) && isNode(right) && right["class"] === "CONSTANT"
      ? [left]
      : type === "COMPARE_EQUAL" && isNode(left) && isNode(right) && left["class"] === "CONSTANT"
      ? [right]
      : [])

const partitionOf = (window: Node): Columns => new Set(list(window["partitions"]).map(form))

const isNumber = (item: Node) => item["class"] === "WINDOW" && calledBy(item) === "row_number"

const rowsOfFrom = (from: unknown, parts: ReadonlyArray<Part>): Rows => {
  if (!isNode(from) || (Array.isArray(from["column_name_alias"]) && from["column_name_alias"].length > 0)) return unknown
  if (from["type"] === "SUBQUERY") return rowsOf({ node: subqueryOf(from), parts })
  if (from["type"] !== "BASE_TABLE") return unknown
  const name = tableName(from)
  const at = parts.findIndex((part) => part.name === name)
  if (at === -1) return name === qualifiedName(telemetryClean) ? silver : unknown
  const { entry, node } = parts[at]!
  const renamed = isNode(entry["value"]) ? entry["value"]["aliases"] : []
  return Array.isArray(renamed) && renamed.length === 0 ? rowsOf({ node, parts: parts.slice(0, at) }) : unknown
}

/** The forms of what a SELECT groups by; none where it does not. */
const groupsOf = (select: Node): ReadonlyArray<string> | undefined => {
  const items = list(select["select_list"])
  if (select["aggregate_handling"] === "FORCE_AGGREGATES") return items.filter((item) => !isAggregate(item)).map(form)
  const groups = list(select["group_expressions"])
  if (groups.length === 0) return items.some(isAggregate) ? [] : undefined
  return groups.map((group) => {
    const place = group["class"] === "CONSTANT" && isNode(group["value"]) ? Number(group["value"]["value"]) : 0
    if (items[place - 1] !== undefined) return form(items[place - 1]!)
    const name = columnOf(group)
    // The engine takes a column before an item of that name.
    const item = items.find((one) => one["alias"] !== "" && nameOf(one) === name && !expressionsOf(one).some((part) => columnOf(part) === name))
    return item === undefined ? form(group) : form(item)
  })
}

/** What is known of the rows that windows of a SELECT see; columns are forms of expressions. */
const rowsWithin = (select: Node, parts: ReadonlyArray<Part>): Rows => {
  const sets = Array.isArray(select["group_sets"]) ? select["group_sets"].length : 0
  const groups = groupsOf(select)
  if (groups !== undefined) {
    const columns = new Set(groups)
    // Columns of the same name, of two tables that are joined, are not told apart here.
    return sets > 1 || columns.size < groups.length ? unknown : { keys: [columns], numbers: new Map() }
  }
  const read = rowsOfFrom(select["from_table"], parts)
  const first = fixed(select["where_clause"]).flatMap((one) => read.numbers.get(columnOf(one) ?? "") ?? [])
  return { keys: [...read.keys, ...first], numbers: read.numbers }
}

const isDistinct = (node: Node) => list(node["modifiers"]).some(({ type }) => type === "DISTINCT_MODIFIER")

const namesOf = (node: Node): Columns | undefined => {
  const select = node["type"] === "SET_OPERATION_NODE" && isNode(node["left"]) ? node["left"] : node
  const names = list(select["select_list"]).map(nameOf)
  return select["type"] === "SELECT_NODE" && names.every((name) => name !== undefined) ? new Set(names) : undefined
}

/** What is known of the rows that a SELECT answers. */
const rowsOf = ({ node, parts }: Scope): Rows => {
  const all = namesOf(node)
  if (node["type"] !== "SELECT_NODE") return all !== undefined && node["setop_all"] === false ? { keys: [all], numbers: new Map() } : unknown
  const items = list(node["select_list"])
  const within = rowsWithin(node, parts)
  const left = new Set(items.flatMap((item) => (Array.isArray(item["exclude_list"]) ? item["exclude_list"].map(lower) : [])))
  const isAll = items.some((item) => item["class"] === "STAR") && list(items.find((item) => item["class"] === "STAR")?.["qualified_exclude_list"]).length === 0
  /** The name under which a form is answered. */
  const answered = (one: string) => {
    const item = items.find((candidate) => candidate["class"] !== "STAR" && form(candidate) === one)
    const name = item !== undefined ? nameOf(item) : isAll && !one.startsWith("[") && !left.has(one) ? one : undefined
    // Of two with the same name, others see the first.
    return items.some((other) => other !== item && other["class"] !== "STAR" && nameOf(other) === name) ? undefined : name
  }
  const renamed = (columns: Columns): ReadonlyArray<Columns> => {
    const names = [...columns].map(answered)
    return names.every((name) => name !== undefined) ? [new Set(names)] : []
  }
  const numbered = items.filter((item) => isNumber(item) && nameOf(item) !== undefined)
  const first = fixed(node["qualify"]).flatMap((one) => {
    const item = isNumber(one) ? one : numbered.find((candidate) => nameOf(candidate) === columnOf(one))
    return item === undefined ? [] : renamed(partitionOf(item))
  })
  const numbers = new Map<string, Columns>()
  for (const [name, columns] of within.numbers) for (const names of renamed(columns)) numbers.set(answered(name) ?? "", names)
  for (const item of numbered) for (const names of renamed(partitionOf(item))) numbers.set(nameOf(item)!, names)
  numbers.delete("")
  return { keys: [...within.keys.flatMap(renamed), ...first, ...(all !== undefined && isDistinct(node) ? [all] : [])], numbers }
}

/** Whether a window answers otherwise where rows that are alike in its order come in another order. */
const mindsTies = (window: Node): boolean => {
  const called = calledBy(window)!
  if (called === "rank" || called === "dense_rank") return false
  return !aggregates.has(called) || [window["start"], window["end"]].some((bound) => String(bound).endsWith("_ROWS"))
}

const written = (column: string) => (column === "partition" || column === "offset" ? `"${column}"` : column)

const windowFault = (window: Node, { keys }: Rows): string | undefined => {
  if (list(window["arg_orders"]).length > 0) return "it orders the argument of a window's function; order the window"
  if (!mindsTies(window)) return undefined
  const covered = new Set([...partitionOf(window), ...list(window["orders"]).flatMap(({ expression }) => (isNode(expression) ? form(expression) : []))])
  if (keys.some((key) => isWithin(key, covered))) return undefined
  const what = `${calledBy(window)} OVER an order with ties depends on the order of rows`
  const missing = keys.map((key) => [...key].filter((column) => !covered.has(column)))[0]
  if (missing === undefined) {
    return `${what}, and of the rows that it reads nothing says which columns are unique: let it read silver.telemetry_clean or one part of WITH ` +
      `that passes topic, "partition" and "offset" on or has GROUP BY`
  }
  return missing.every((column) => !column.startsWith("["))
    ? `${what}; append ${missing.map(written).join(", ")} to its ORDER BY`
    : `${what}; append what is grouped by to its ORDER BY`
}

/** The first window of a statement that depends on the order of rows. */
export const orderFault = (statement: Node): string | undefined => {
  for (const { node, parts } of scopesOf(statement)) {
    if (node["type"] !== "SELECT_NODE") continue
    const windows = expressionsOf(node).filter((part) => part["class"] === "WINDOW")
    if (windows.length === 0) continue
    const within = rowsWithin(node, parts)
    for (const window of windows) {
      const found = windowFault(window, within)
      if (found !== undefined) return found
    }
  }
  return undefined
}
