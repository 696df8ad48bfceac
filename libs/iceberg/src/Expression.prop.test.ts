/** Pruning never hides a matching row: for every type, every transform, every test, over rows written as files with cut bounds. */
import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import { encode, truncateLower, truncateUpper } from "./BoundsBinary.ts"
import type { DataFile, ManifestEntry } from "./DataFile.ts"
import type { Bound, Expression, Predicate } from "./Expression.ts"
import * as Expr from "./Expression.ts"
import { describe as describeManifest } from "./ManifestMerge.ts"
import * as Metrics from "./Metrics.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import type { SingleValue } from "./SingleValue.ts"
import { compare } from "./SingleValue.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Values from "./test/Values.ts"
import * as Transform from "./Transform.ts"
import type { PrimitiveType } from "./Type.ts"
import * as Type from "./Type.ts"

type Row = SingleValue | null

const matches = ({ op, values }: Predicate, row: Row): boolean => {
  if (op === "is-null") return row === null
  if (row === null) return false
  const value = values[0]!
  switch (op) {
    case "not-null":
      return true
    case "is-nan":
      return Number.isNaN(row)
    case "not-nan":
      return !Number.isNaN(row)
    case "in":
      return values.some((one) => compare(row, one) === 0)
    case "not-in":
      return values.every((one) => compare(row, one) !== 0)
    case "starts-with":
      return (row as string).startsWith(value as string)
    case "not-starts-with":
      return !(row as string).startsWith(value as string)
    case "=":
      return compare(row, value) === 0
    case "!=":
      return compare(row, value) !== 0
    case "<":
      return compare(row, value) < 0
    case "<=":
      return compare(row, value) <= 0
    case ">":
      return compare(row, value) > 0
    case ">=":
      return compare(row, value) >= 0
  }
}

const holds = (bound: Bound, row: Row): boolean => Expr.mayHold(bound, (predicate) => matches(predicate, row))

const extreme = (rows: ReadonlyArray<SingleValue>, sign: number) => rows.reduce((best, row) => (compare(row, best) * sign > 0 ? row : best))

const isNan = (row: Row) => Number.isNaN(row)

/** A file with metrics of these rows, as our writer keeps them. */
const fileOf = (type: PrimitiveType, rows: ReadonlyArray<Row>, partition: PartitionSpec.Partition): DataFile => {
  const present = rows.filter((row) => row !== null && !isNan(row)) as ReadonlyArray<SingleValue>
  const low = present.length === 0 ? undefined : truncateLower(type, extreme(present, -1))
  const high = present.length === 0 ? undefined : truncateUpper(type, extreme(present, 1))
  return {
    ...Fixture.fakeFile("f", BigInt(rows.length)),
    partition,
    valueCounts: new Map([[1, BigInt(rows.length)]]),
    nullValueCounts: new Map([[1, BigInt(rows.filter((row) => row === null).length)]]),
    nanValueCounts: new Map([[1, BigInt(rows.filter(isNan).length)]]),
    lowerBounds: new Map(low === undefined ? [] : [[1, encode(type, low)]]),
    upperBounds: new Map(high === undefined ? [] : [[1, encode(type, high)]])
  }
}

const expressionOf = (type: PrimitiveType, rows: ReadonlyArray<Row>): fc.Arbitrary<Expression> => {
  const own = rows.filter((row) => row !== null && !isNan(row)) as ReadonlyArray<SingleValue>
  const anyValue = Values.ofType(type).filter((value) => !isNan(value))
  const value = own.length === 0 ? anyValue : fc.oneof(anyValue, fc.constantFrom(...own))
  const column = fc.constant("c")
  const tests: Array<fc.Arbitrary<Expression>> = [
    fc.record({ op: fc.constantFrom("=", "!=", "<", "<=", ">", ">="), column, value }),
    fc.record({ op: fc.constantFrom("in", "not-in"), column, values: fc.array(value, { maxLength: 3 }) }),
    fc.record({ op: fc.constantFrom("is-null", "not-null", "is-nan", "not-nan"), column })
  ]
  if (type.type === "string") {
    const start = fc.tuple(value, fc.nat(20)).map(([text, length]) => Array.from(text as string).slice(0, length).join(""))
    tests.push(fc.record({ op: fc.constantFrom("starts-with", "not-starts-with"), column, value: start }))
  }
  const test = fc.oneof(...tests)
  return fc.oneof(
    { weight: 4, arbitrary: test },
    { weight: 1, arbitrary: test.map(Expr.not) },
    { weight: 1, arbitrary: fc.array(test, { maxLength: 3 }).map((of) => Expr.and(...of)) },
    { weight: 1, arbitrary: fc.array(test, { maxLength: 3 }).map((of) => Expr.not(Expr.or(...of))) }
  )
}

const rowsOf = (type: PrimitiveType) => {
  const special: ReadonlyArray<Row> = type.type === "float" || type.type === "double" ? [null, NaN] : [null]
  const row = fc.oneof({ weight: 4, arbitrary: Values.ofType(type) }, { weight: 1, arbitrary: fc.constantFrom(...special) })
  return fc.array(row, { minLength: 1, maxLength: 4 })
}

const transforms: ReadonlyArray<Transform.Transform> = [
  Transform.identity,
  Transform.year,
  Transform.month,
  Transform.day,
  Transform.hour,
  Transform.alwaysNull,
  Transform.bucket(3),
  Transform.truncate(3),
  Transform.truncate(1000)
]

const entry = (dataFile: DataFile): ManifestEntry => ({ status: "added", snapshotId: 1n, sequenceNumber: 1n, fileSequenceNumber: 1n, dataFile })

let [pruned, kept] = [0, 0]

for (const type of Values.types) {
  it(`never hides a row of ${type.type}`, () => {
    const schema = Type.schema([Type.optional(1, "c", type)])
    fc.assert(fc.property(rowsOf(type).chain((rows) => fc.tuple(fc.constant(rows), expressionOf(type, rows))), ([rows, expression]) => {
      const bound = Either.getOrThrow(Expr.bind(expression, schema, "t"))
      const expected = rows.some((row) => holds(bound, row))
      const found = Metrics.fileMayHold(bound, fileOf(type, rows, []))
      if (expected) expect(found).toBe(true)
      if (found) kept++
      else pruned++
      for (const transform of transforms.filter((one) => Transform.accepts(one, type))) {
        const spec = PartitionSpec.make(0, [{ sourceId: 1, fieldId: 1000, name: "p", transform }])
        const filter = Metrics.partitionFilter(bound, spec, [schema])
        const partitions = rows.map((row) => [Transform.apply(transform, type, row)])
        rows.forEach((row, index) => {
          if (holds(bound, row)) expect(filter.mayHoldPartition(partitions[index]!), Transform.toText(transform)).toBe(true)
        })
        const entries = rows.map((row, index) => entry(fileOf(type, [row], partitions[index]!)))
        const described = describeManifest("m", 1n, entries, spec, [schema], 1n)
        const manifest = { ...described, sequenceNumber: 1n, minSequenceNumber: 1n }
        if (expected) expect(filter.mayHoldManifest(manifest), Transform.toText(transform)).toBe(true)
      }
    }), { numRuns: 300 })
  })
}

it("did prune", () => {
  expect(pruned).toBeGreaterThan(500)
  expect(kept).toBeGreaterThan(500)
})

const day = (text: string) => Date.parse(text) / 86_400_000
const micros = (text: string) => BigInt(Date.parse(text)) * 1000n
const timed = Type.schema([Type.optional(1, "at", Type.timestamptz), Type.optional(2, "id", Type.string), Type.optional(3, "n", Type.long)])
const spec = PartitionSpec.make(0, [
  { sourceId: 1, fieldId: 1000, name: "day", transform: Transform.day },
  { sourceId: 2, fieldId: 1001, name: "id_2", transform: Transform.truncate(2) },
  { sourceId: 3, fieldId: 1002, name: "n_8", transform: Transform.bucket(8) }
])

const partition: PartitionSpec.Partition = [day("2026-11-24"), "ab", Transform.apply(Transform.bucket(8), Type.long, 5n)]
const given: ReadonlyArray<readonly [string, Expression, boolean]> = [
  ["its day", Expr.test("at", ">=", micros("2026-11-24T10:00:00Z")), true],
  ["a later day", Expr.test("at", ">=", micros("2026-11-25T00:00:00Z")), false],
  ["what is before it", Expr.test("at", "<", micros("2026-11-24T00:00:00Z")), false],
  ["what is behind it", Expr.test("at", ">", micros("2026-11-24T23:59:59.999Z") + 999n), false],
  ["an earlier day", Expr.test("at", "<", micros("2026-11-23T23:00:00Z")), false],
  ["its beginning", { op: "starts-with", column: "id", value: "a" }, true],
  ["a longer beginning", { op: "starts-with", column: "id", value: "abc" }, true],
  ["another beginning", { op: "starts-with", column: "id", value: "acc" }, false],
  ["its bucket", Expr.test("n", "=", 5), true],
  ["another bucket", Expr.test("n", "=", 6), false],
  ["any bucket", Expr.test("n", ">", 6), true],
  ["no value", { op: "is-null", column: "at" }, false],
  ["either", Expr.or(Expr.test("n", "=", 6), Expr.test("id", "=", "abx")), true],
  ["neither", Expr.and(Expr.test("n", "=", 5), Expr.test("id", "=", "x")), false]
]

for (const [what, expression, expected] of given) {
  it(`${expected ? "keeps" : "prunes"} a partition asked for ${what}`, () => {
    const bound = Either.getOrThrow(Expr.bind(expression, timed, "t"))
    expect(Metrics.partitionFilter(bound, spec, [timed]).mayHoldPartition(partition)).toBe(expected)
  })
}

it("refuses what cannot be tested, and names what is there", () => {
  const error = (expression: Expression, schema = Fixture.schema) => Either.getOrThrow(Either.flip(Expr.bind(expression, schema, "t")))
  expect(error(Expr.test("nope", "=", 1))).toMatchObject({ _tag: "ColumnNotFound", column: "nope", known: Fixture.schema.fields.map((field) => field.name) })
  expect(error(Expr.test("topic", "=", 1))).toMatchObject({ _tag: "ExpressionInvalid", column: "topic", reason: "1 is no string" })
  expect(error(Expr.test("offset", "=", 1.5))).toMatchObject({ reason: "1.5 is no long" })
  expect(error(Expr.test("speed", ">", NaN))).toMatchObject({ reason: "NaN is no double" })
  expect(error({ op: "starts-with", column: "offset", value: "1" })).toMatchObject({ reason: "a long has no beginning" })
  expect(error(Expr.test("headers.element.key", "=", "k"))).toMatchObject({ reason: "it has any number of values in a row" })
  expect(error({ op: "is-null", column: "headers" })).toMatchObject({ reason: "a list has no single value" })
})
