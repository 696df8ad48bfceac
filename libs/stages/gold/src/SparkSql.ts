/**
 * A model's statement as Spark is told it: made anew from the engine's parse tree, so that both engines compute the same rows from the same file. A model that
 * cannot be told so is refused by `ModelCheck`, whichever engine is to compute it.
 */
import { Effect, Either } from "effect"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { hasAggregate, selectsOf, type TypedSelect, Untyped } from "./ExpressionTypes.ts"
import { isNode, list, lower, type Node, partsOf, subqueryOf } from "./SqlTree.ts"
import { identifier, type Told, teller } from "./SparkExpression.ts"

/** Longer ones are made of expressions that stand for each other many times over. */
const lengthMax = 200_000

const refuse = (reason: string): Told => Either.left(reason)

const joins: Readonly<Record<string, string>> = {
  INNER: "JOIN",
  LEFT: "LEFT JOIN",
  RIGHT: "RIGHT JOIN",
  FULL: "FULL JOIN",
  SEMI: "LEFT SEMI JOIN",
  ANTI: "LEFT ANTI JOIN"
}

const names = (value: unknown): ReadonlyArray<string> => (Array.isArray(value) ? value.map(String) : [])

const columnList = (value: unknown): string => (names(value).length === 0 ? "" : `(${names(value).map(identifier).join(", ")})`)

const statementTeller = (selects: ReadonlyMap<Node, TypedSelect>, sql: string) => {
  const tableOf = (from: Node): string => {
    const name = String(from["table_name"])
    const alias = from["alias"] === "" || from["alias"] === undefined ? name : String(from["alias"])
    return `${identifier(name)} AS ${identifier(alias)}${columnList(from["column_name_alias"])}`
  }

  const valuesOf = (from: Node, tell: (node: Node) => Told): Told => {
    const rows: ReadonlyArray<unknown> = Array.isArray(from["values"]) ? from["values"] : []
    const told = rows.map((row) => Either.map(Either.all(list(row).map(tell)), (cells) => `(${cells.join(", ")})`))
    return Either.map(Either.all(told), (all) => `VALUES ${all.join(", ")}`)
  }

  const fromOf = (from: Node, tell: (node: Node) => Told): Told => {
    switch (from["type"]) {
      case "BASE_TABLE":
        return Either.right(tableOf(from))
      case "EXPRESSION_LIST":
        return valuesOf(from, tell)
      case "SUBQUERY": {
        const alias = from["alias"] === "" || from["alias"] === undefined ? "" : ` AS ${identifier(String(from["alias"]))}`
        return Either.map(nodeOf(subqueryOf(from)), (inner) => `(${inner})${alias}${columnList(from["column_name_alias"])}`)
      }
      case "JOIN":
        return joinOf(from, tell)
      default:
        return refuse(`it reads from ${String(from["type"])}, which Spark has not`)
    }
  }

  const joinOf = (from: Node, tell: (node: Node) => Told): Told => {
    const kind = from["ref_type"] === "CROSS" ? "CROSS JOIN" : joins[String(from["join_type"])]
    if (kind === undefined || from["ref_type"] === "NATURAL") return refuse("it has a NATURAL join, which depends on columns to come; write ON")
    if (!isNode(from["left"]) || !isNode(from["right"])) return refuse("it joins nothing")
    const using = names(from["using_columns"])
    const condition = using.length > 0
      ? Either.right(` USING (${using.map(identifier).join(", ")})`)
      : isNode(from["condition"])
      ? Either.map(tell(from["condition"]), (on) => ` ON ${on}`)
      : Either.right("")
    const isNested = from["right"]["type"] === "JOIN"
    return Either.map(
      Either.all([fromOf(from["left"], tell), fromOf(from["right"], tell), condition]),
      ([left, right, on]) => `${left} ${kind} ${isNested ? `(${right})` : right}${on}`
    )
  }

  const isUsing = (from: unknown): boolean =>
    isNode(from) && from["type"] === "JOIN" && (names(from["using_columns"]).length > 0 || isUsing(from["left"]) || isUsing(from["right"]))

  const itemOf = (item: Node, from: unknown, tell: (node: Node) => Told): Told => {
    if (item["class"] === "STAR") {
      // After USING the engines have the columns in orders of their own.
      if (isUsing(from)) return refuse("it has * over a join by USING; name the columns")
      const of = item["relation_name"] === "" || item["relation_name"] === undefined ? "*" : `${identifier(String(item["relation_name"]))}.*`
      const without = names(item["exclude_list"])
      return Either.right(without.length === 0 ? of : `${of} EXCEPT (${without.map(identifier).join(", ")})`)
    }
    const alias = item["alias"] === "" || item["alias"] === undefined ? "" : ` AS ${identifier(String(item["alias"]))}`
    return Either.map(tell(item), (expression) => `${expression}${alias}`)
  }

  const groupsOf = (select: Node, tell: (node: Node) => Told): Told => {
    const sets = Array.isArray(select["group_sets"]) ? select["group_sets"] : []
    if (sets.length > 1) return refuse("it groups by several sets of columns at once; join or unite such parts")
    const all = select["aggregate_handling"] === "FORCE_AGGREGATES"
      ? list(select["select_list"]).filter((item) => !hasAggregate(item))
      : list(select["group_expressions"])
    // By Spark a number would be the place of an item.
    const groups = all.filter((group) => group["class"] !== "CONSTANT")
    if (groups.length < all.length && groups.length === 0) return refuse("it groups by a constant alone")
    return Either.map(Either.all(groups.map(tell)), (told) => (told.length === 0 ? "" : ` GROUP BY ${told.join(", ")}`))
  }

  const selectOf = (node: Node): Told =>
    Either.gen(function*() {
      const typed = selects.get(node)
      if (typed === undefined) return yield* refuse("it has a part that cannot be told")
      const select = typed.node
      const tell = teller(typed, sql)
      if (isNode(select["qualify"])) return yield* refuse("it has QUALIFY, which Spark has not; number the rows in one part of WITH and choose in the next")
      const from = isNode(select["from_table"]) ? select["from_table"] : {}
      if (from["type"] === "EXPRESSION_LIST") return yield* fromOf(from, tell)
      const items = yield* Either.all(list(select["select_list"]).map((item) => itemOf(item, from, tell)))
      const source = from["type"] === "EMPTY" ? "" : ` FROM ${yield* fromOf(from, tell)}`
      const where = isNode(select["where_clause"]) ? ` WHERE ${yield* tell(select["where_clause"])}` : ""
      const groups = yield* groupsOf(select, tell)
      const having = isNode(select["having"]) ? ` HAVING ${yield* tell(select["having"])}` : ""
      return `SELECT ${distinctOf(node)}${items.join(", ")}${source}${where}${groups}${having}`
    })

  const setOf = (node: Node): Told => {
    const kind = String(node["setop_type"])
    const [left, right] = [node["left"], node["right"]]
    if (!["UNION", "EXCEPT", "INTERSECT"].includes(kind) || !isNode(left) || !isNode(right)) return refuse(`it has ${kind}, which Spark has not alike`)
    return Either.zipWith(nodeOf(left), nodeOf(right), (a, b) => `(${a}) ${kind}${node["setop_all"] === true ? " ALL" : ""} (${b})`)
  }

  /** What it is ordered by at its end does not matter for its rows. */
  const nodeOf = (node: Node): Told => (node["type"] === "SELECT_NODE" ? selectOf(node) : setOf(node))

  return (statement: Node): Told => {
    const parts = partsOf(statement).map(({ entry, name, node }) =>
      Either.map(nodeOf(node), (told) => `${identifier(name)}${columnList(isNode(entry["value"]) ? entry["value"]["aliases"] : [])} AS (${told})`))
    return Either.zipWith(Either.all(parts), nodeOf(statement), (told, body) => (told.length === 0 ? body : `WITH ${told.join(", ")} ${body}`))
  }
}

const distinctOf = (node: Node): string => (list(node["modifiers"]).some(({ type }) => type === "DISTINCT_MODIFIER") ? "DISTINCT " : "")

/**
 * The statement for Spark. What it reads has to be there for the connection, with the types that it will have. Fails with `Untyped`, whose reason says what is
 * not the same in Spark, and what to write instead.
 */
export const statement = Effect.fn("SparkSql.statement")(function*(connection: Connection, sql: string) {
  const { tree } = yield* connection.readStatement(sql).pipe(Effect.mapError(({ reason }) => new Untyped({ reason })))
  const node = isNode(tree) && isNode(tree["node"]) ? tree["node"] : {}
  const told = yield* Either.mapLeft(statementTeller(yield* selectsOf(connection, node), sql)(node), (reason) => new Untyped({ reason }))
  return told.length > lengthMax ? yield* new Untyped({ reason: "its expressions are too deep to be told to Spark; put inner ones into parts of WITH" }) : told
})

/** A condition on the rows of `table`, for Spark. */
export const condition = Effect.fn("SparkSql.condition")(function*(connection: Connection, test: string, table: string) {
  const begin = "SELECT "
  const end = ` FROM ${identifier(table)} AS ${identifier(table)}`
  const told = yield* statement(connection, `${begin}(${test}\n) FROM ${table}`)
  const isOne = told.startsWith(begin) && lower(told).endsWith(lower(end))
  return isOne ? told.slice(begin.length, -end.length) : yield* new Untyped({ reason: "it is not one condition" })
})
