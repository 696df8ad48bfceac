/**
 * Conditions on a table's rows, and what can be said of them without the rows. Pure.
 *
 * They mean what SQL means: a comparison with NULL holds of no row; NaN is greater than every number. What is said is inclusive: "may hold a match"
 * is never wrong, only sometimes too careful.
 */
import { Either, Schema } from "effect"
import * as Column from "./Column.ts"
import type { ColumnNotFound } from "./Column.ts"
import { primitiveText } from "./SchemaJson.ts"
import type { SingleValue } from "./SingleValue.ts"
import { compare } from "./SingleValue.ts"
import * as Transform from "./Transform.ts"
import type { PrimitiveType, TableSchema } from "./Type.ts"
import { isPrimitive } from "./Type.ts"

type Comparison = "=" | "!=" | "<" | "<=" | ">" | ">="
type SetTest = "in" | "not-in"
type PrefixTest = "starts-with" | "not-starts-with"
type ValueTest = "is-null" | "not-null" | "is-nan" | "not-nan"

/** Columns are dotted paths. A number may be given for a long column, and a bigint for an int one. */
export type Expression =
  | { readonly op: "and" | "or"; readonly of: ReadonlyArray<Expression> }
  | { readonly op: "not"; readonly of: Expression }
  | { readonly op: Comparison; readonly column: string; readonly value: SingleValue }
  | { readonly op: SetTest; readonly column: string; readonly values: ReadonlyArray<SingleValue> }
  | { readonly op: PrefixTest; readonly column: string; readonly value: string }
  | { readonly op: ValueTest; readonly column: string }

/** A test of one column, whose values are of its type. */
export interface Predicate {
  readonly op: Comparison | SetTest | PrefixTest | ValueTest
  readonly column: Column.Column
  readonly type: PrimitiveType
  readonly values: ReadonlyArray<SingleValue>
}

/** An expression of a schema's columns, without "not". No parts: "and" holds of all rows, "or" of none. */
export type Bound = { readonly op: "and" | "or"; readonly of: ReadonlyArray<Bound> } | Predicate

/** The column cannot be tested so. */
export class ExpressionInvalid extends Schema.TaggedError<ExpressionInvalid>()("ExpressionInvalid", {
  table: Schema.String,
  column: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `column ${this.column} of ${this.table} cannot be tested so: ${this.reason}`
  }
}

export type ExpressionError = ColumnNotFound | ExpressionInvalid

export const everything: Expression = { op: "and", of: [] }

export const and = (...of: ReadonlyArray<Expression>): Expression => ({ op: "and", of })
export const or = (...of: ReadonlyArray<Expression>): Expression => ({ op: "or", of })
export const not = (of: Expression): Expression => ({ op: "not", of })
export const test = (column: string, op: Comparison, value: SingleValue): Expression => ({ op, column, value })

const opposites = {
  and: "or",
  or: "and",
  "=": "!=",
  "!=": "=",
  "<": ">=",
  "<=": ">",
  ">": "<=",
  ">=": "<",
  in: "not-in",
  "not-in": "in",
  "starts-with": "not-starts-with",
  "not-starts-with": "starts-with",
  "is-null": "not-null",
  "not-null": "is-null",
  "is-nan": "not-nan",
  "not-nan": "is-nan"
} as const

const isJunction = (expression: Expression): expression is Extract<Expression, { readonly op: "and" | "or" }> =>
  expression.op === "and" || expression.op === "or"

/** The expression on this schema's columns. */
export const bind = (expression: Expression, schema: TableSchema, table: string, negated = false): Either.Either<Bound, ExpressionError> => {
  if (expression.op === "not") return bind(expression.of, schema, table, !negated)
  if (isJunction(expression)) {
    const op = negated ? opposites[expression.op] : expression.op
    return Either.map(Either.all(expression.of.map((part) => bind(part, schema, table, negated))), (of) => ({ op, of }))
  }
  const given = "values" in expression ? expression.values : "value" in expression ? [expression.value] : []
  return Either.flatMap(Column.find(schema, expression.column, table), (column): Either.Either<Bound, ExpressionError> => {
    const invalid = (reason: string) => Either.left(new ExpressionInvalid({ table, column: column.path, reason }))
    const { type } = column.field
    if (!isPrimitive(type)) return invalid(`a ${type.type} has no single value`)
    if (Column.isRepeated(column)) return invalid("it has any number of values in a row")
    if (expression.op.endsWith("starts-with") && type.type !== "string") return invalid(`a ${type.type} has no beginning`)
    const values = given.map((value) => ofType(value, type))
    const wrong = values.indexOf(undefined)
    if (wrong >= 0) return invalid(`${String(given[wrong])} is no ${primitiveText(type)}`)
    const op: Predicate["op"] = negated ? opposites[expression.op] : expression.op
    return Either.right({ op, column, type, values: values as ReadonlyArray<SingleValue> })
  })
}

const integers: ReadonlyArray<PrimitiveType["type"]> = ["int", "date"]
const longs: ReadonlyArray<PrimitiveType["type"]> = ["long", "time", "timestamp", "timestamptz", "decimal"]

/** The value as the type holds it; undefined where it is none. NaN is tested for by "is-nan". */
const ofType = (value: SingleValue, { type }: PrimitiveType): SingleValue | undefined => {
  switch (typeof value) {
    case "boolean":
      return type === "boolean" ? value : undefined
    case "string":
      return type === "string" ? value : undefined
    case "bigint":
      return longs.includes(type) ? value : integers.includes(type) ? Number(value) : undefined
    case "number":
      if (Number.isNaN(value)) return undefined
      if (type === "float" || type === "double") return value
      if (!Number.isSafeInteger(value)) return undefined
      return integers.includes(type) ? value : longs.includes(type) ? BigInt(value) : undefined
    default:
      return type === "binary" || type === "fixed" || type === "uuid" ? value : undefined
  }
}

/** Whether it may hold, given what may be said of each test. */
export const mayHold = (bound: Bound, ofTest: (predicate: Predicate) => boolean): boolean => {
  if (!("of" in bound)) return ofTest(bound)
  return bound.op === "and" ? bound.of.every((part) => mayHold(part, ofTest)) : bound.of.some((part) => mayHold(part, ofTest))
}

/** What is known of some values of a column, or of a partition field. Numbers that are not NaN lie between `low` and `high`. */
export interface ValueRange {
  readonly low: SingleValue | undefined
  readonly high: SingleValue | undefined
  readonly mayBeNull: boolean
  readonly mayBeNan: boolean
  readonly isAllNull: boolean
}

const known = (bound: SingleValue | undefined) => (Number.isNaN(bound) ? undefined : bound)

const prefix = (text: string, length: number) => Array.from(text).slice(0, length).join("")

/** Whether the test may hold of a value in the range. */
export const mayMatch = ({ op, values }: Pick<Predicate, "op" | "values">, range: ValueRange): boolean => {
  if (op === "is-null") return range.mayBeNull
  if (range.isAllNull) return false
  const [low, high] = [known(range.low), known(range.high)]
  const value = values[0]!
  const isBetween = (one: SingleValue) => (low === undefined || compare(low, one) <= 0) && (high === undefined || compare(high, one) >= 0)
  /** All that is not null is this one value. */
  const isOnly = (one: SingleValue) =>
    !range.mayBeNan && low !== undefined && high !== undefined && compare(low, one) === 0 && compare(high, one) === 0
  switch (op) {
    case "not-null":
    case "not-nan":
      return true
    case "is-nan":
      return range.mayBeNan
    case "=":
      return isBetween(value)
    case "in":
      return values.some(isBetween)
    case "!=":
      return !isOnly(value)
    case "not-in":
      return !values.some(isOnly)
    case "<":
      return low === undefined || compare(low, value) < 0
    case "<=":
      return low === undefined || compare(low, value) <= 0
    case ">":
      return range.mayBeNan || high === undefined || compare(high, value) > 0
    case ">=":
      return range.mayBeNan || high === undefined || compare(high, value) >= 0
    case "starts-with": {
      const length = Array.from(value as string).length
      return (low === undefined || compare(prefix(low as string, length), value) <= 0) && (high === undefined || compare(high, value) >= 0)
    }
    case "not-starts-with":
      return !(typeof low === "string" && typeof high === "string" && low.startsWith(value as string) && high.startsWith(value as string))
  }
}

/** The next whole number; other values have no neighbour, and stand for their own. Transforms of order take no fractions. */
const neighbour = (value: SingleValue, by: 1 | -1): SingleValue =>
  typeof value === "bigint" ? value + BigInt(by) : typeof value === "number" ? value + by : value

/** A test of partition values that holds of every value whose source the predicate holds of; undefined where there is none. */
export const project = (
  { op, type, values }: Predicate,
  transform: Transform.Transform
): Pick<Predicate, "op" | "values"> | undefined => {
  if (transform.type === "void" || transform.type === "unknown" || !Transform.accepts(transform, type)) return undefined
  if (transform.type === "identity") return { op, values }
  if (op === "is-null" || op === "not-null") return { op, values: [] }
  const results = () => values.map((value) => Transform.apply(transform, type, value)!)
  if (op === "=" || op === "in") return { op, values: results() }
  if (transform.type === "bucket") return undefined
  // Neighbours share a partition, so that its borders belong to both sides; of whole numbers the neighbour is known.
  const beside = (by: 1 | -1) => [Transform.apply(transform, type, neighbour(values[0]!, by))!]
  if (op === "<") return { op: "<=", values: beside(-1) }
  if (op === "<=") return { op: "<=", values: results() }
  if (op === ">") return { op: ">=", values: beside(1) }
  if (op === ">=") return { op: ">=", values: results() }
  if (op !== "starts-with" || transform.type !== "truncate") return undefined
  const isWhole = Array.from(values[0] as string).length <= transform.width
  return isWhole ? { op, values } : { op: "=", values: results() }
}
