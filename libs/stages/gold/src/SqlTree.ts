/** The engine's parse tree of a model (`Connection.readStatement`), as far as the checks of models look at it. */

export type Node = Readonly<Record<string, unknown>>

export const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value)

export const list = (value: unknown): ReadonlyArray<Node> => (Array.isArray(value) ? value.filter(isNode) : [])

/** Names are compared without regard to case, as the engine does. */
export const lower = (value: unknown): string => String(value ?? "").toLowerCase()

/** Of a column's reference: its name, without that of its table. */
export const columnOf = (expression: Node): string | undefined =>
  expression["class"] === "COLUMN_REF" && Array.isArray(expression["column_names"]) ? lower(expression["column_names"].at(-1)) : undefined

/** The name under which an item of a SELECT is seen; none where the engine makes one up. */
export const nameOf = (item: Node): string | undefined => (item["alias"] !== "" && item["alias"] !== undefined ? lower(item["alias"]) : columnOf(item))

/** Of a function, with a window or without. */
export const calledBy = (part: Node): string | undefined =>
  part["class"] === "FUNCTION" || part["class"] === "WINDOW" ? lower(part["function_name"]) : undefined

/** A SELECT or a set operation, and the parts of WITH that it sees, earliest first. */
export interface Scope {
  readonly node: Node
  readonly parts: ReadonlyArray<Part>
}

export interface Part {
  readonly name: string
  readonly node: Node
  /** As it is in the tree. */
  readonly entry: Node
}

const queryOf = (value: unknown): Node => (isNode(value) && isNode(value["node"]) ? value["node"] : {})

export const subqueryOf = (from: Node): Node => queryOf(from["subquery"])

/** The parts of WITH at the beginning of a statement. */
export const partsOf = (statement: Node): ReadonlyArray<Part> => {
  const map = isNode(statement["cte_map"]) ? list(statement["cte_map"]["map"]) : []
  return map.map((entry) => ({ name: lower(entry["key"]), node: queryOf(isNode(entry["value"]) ? entry["value"]["query"] : undefined), entry }))
}

/** The expressions of a SELECT, those of its subqueries and parts left out; each with what it is made of. */
export const expressionsOf = (select: Node): ReadonlyArray<Node> => {
  const found: Array<Node> = []
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(walk)
    if (!isNode(value)) return
    if (typeof value["class"] === "string") found.push(value)
    for (const [key, one] of Object.entries(value)) if (key !== "cte_map" && key !== "from_table" && key !== "subquery") walk(one)
  }
  walk(select)
  return found
}

/** All SELECTs and set operations of a statement, the parts of WITH first, outer ones before inner ones. */
export const scopesOf = (statement: Node): ReadonlyArray<Scope> => {
  const found: Array<Scope> = []
  const walk = (value: unknown, parts: ReadonlyArray<Part>): void => {
    if (Array.isArray(value)) return value.forEach((one) => walk(one, parts))
    if (!isNode(value)) return
    if (typeof value["type"] === "string" && value["type"].endsWith("_NODE")) found.push({ node: value, parts })
    for (const [key, one] of Object.entries(value)) if (key !== "cte_map") walk(one, parts)
  }
  const parts = partsOf(statement)
  parts.forEach(({ node }, index) => walk(node, parts.slice(0, index)))
  walk(statement, parts)
  return found
}

/** Tables that are read directly in the FROM of a SELECT, and what its joins and subqueries are made of is not among them. */
export const sourcesOf = (from: unknown): ReadonlyArray<Node> => {
  if (!isNode(from)) return []
  return from["type"] === "JOIN" ? [...sourcesOf(from["left"]), ...sourcesOf(from["right"])] : [from]
}

/** The full name of a table in FROM, as far as it is given. */
export const tableName = (from: Node): string =>
  [from["catalog_name"], from["schema_name"], from["table_name"]].filter((part) => part !== "" && part !== undefined).map(lower).join(".")

const isDouble = (node: Node) =>
  node["class"] === "CONSTANT" && isNode(node["value"]) && isNode(node["value"]["type"]) && node["value"]["type"]["id"] === "DOUBLE" && typeof node["value"]["value"] === "number"

/** The engine would write a double as digits, and read these as a DECIMAL. */
const castDouble = ({ alias, type, value }: Node): Node => ({
  class: "CAST",
  type: "OPERATOR_CAST",
  alias: alias ?? "",
  child: { class: "CONSTANT", type, alias: "", value: { type: { id: "VARCHAR", type_info: null }, is_null: false, value: (value as Node)["value"]!.toString() } },
  cast_type: { id: "DOUBLE", type_info: null },
  try_cast: false
})

/**
 * The tree of one SELECT as a statement that the engine turns into text again (`json_deserialize_sql`). Places are left out, and whole numbers that
 * JavaScript cannot hold are made smaller: for the types of what it answers, never for its rows.
 */
export const serialized = (statement: Node): string => {
  const plain = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(plain)
    if (isNode(value)) {
      if (isDouble(value)) return castDouble(value)
      return Object.fromEntries(Object.entries(value).filter(([key]) => key !== "query_location").map(([key, one]) => [key, plain(one)]))
    }
    return typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) ? Math.sign(value) * Number.MAX_SAFE_INTEGER : value
  }
  return JSON.stringify({ error: false, statements: [{ node: plain(statement), named_param_map: [] }] })
}

/** What an expression says, whatever it is called, wherever it stands, and from whichever table its columns are named. */
export const form = (expression: Node): string => {
  const column = columnOf(expression)
  if (column !== undefined) return column
  const plain = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(plain)
    if (!isNode(value)) return value
    return columnOf(value) ?? Object.entries(value).flatMap(([key, one]) => (key === "alias" || key === "query_location" ? [] : [[key, plain(one)]]))
  }
  return JSON.stringify(plain(expression))
}
