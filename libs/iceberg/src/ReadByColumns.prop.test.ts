/** Any nested columns, changed in any way after a file was written, against a model that knows values by the ids of their fields. */
import { expect, layer } from "@effect/vitest"
import { Effect, Either, Runtime } from "effect"
import fc from "fast-check"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import * as Column from "./Column.ts"
import { engineType } from "./EngineType.ts"
import * as FieldIdsSql from "./FieldIdsSql.ts"
import * as NameMapping from "./NameMapping.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import type { SchemaChange } from "./SchemaUpdate.ts"
import * as SortOrder from "./SortOrder.ts"
import { currentSchema, type TableMetadata } from "./TableMetadata.ts"
import { evolved, layer as parts, planned, read, tableOf, write, writeForeign } from "./test/ReadTable.ts"
import type { IcebergType, NestedField } from "./Type.ts"
import * as Type from "./Type.ts"

/** Few, so that names are taken over by other columns. */
const names = ["a", "b", "c d", "é'\""]

/** Without ids: those are given by {@link numbered}. */
const typeOf = (depth: number): fc.Arbitrary<IcebergType> => {
  const single = fc.constantFrom<IcebergType>(Type.int, Type.string)
  if (depth === 0) return single
  const inner = typeOf(depth - 1)
  return fc.oneof(
    { weight: 1, arbitrary: single },
    { weight: 3, arbitrary: structOf(depth) },
    { weight: 2, arbitrary: inner.map((type) => Type.list(0, type)) },
    { weight: 2, arbitrary: inner.map((type) => Type.map([0, Type.string], [0, type])) }
  )
}

const structOf = (depth: number): fc.Arbitrary<Type.StructType> =>
  fc.uniqueArray(fc.tuple(fc.constantFrom(...names), typeOf(depth - 1)), { minLength: 1, maxLength: 3, selector: ([name]) => name })
    .map((fields) => Type.struct(fields.map(([name, type]) => Type.optional(0, name, type))))

const numbered = (of: Type.StructType): Type.StructType => {
  let last = 1
  const number = (type: IcebergType): IcebergType => Column.mapChildren(type, (field) => ({ ...field, id: ++last, type: number(field.type) }))
  return number(of) as Type.StructType
}

/** Structs by the ids of their fields, maps as entries. */
type Value = null | number | string | ReadonlyArray<Value> | ReadonlyMap<number, Value> | { readonly entries: ReadonlyArray<readonly [string, Value]> }

const valueOf = (type: IcebergType): fc.Arbitrary<Value> => {
  const some = (): fc.Arbitrary<Value> => {
    switch (type.type) {
      case "struct":
        return fc.tuple(...type.fields.map((field) => valueOf(field.type).map((value) => [field.id, value] as const))).map((fields) => new Map(fields))
      case "list":
        return fc.array(valueOf(type.element), { maxLength: 2 })
      case "map":
        return fc.uniqueArray(fc.tuple(fc.constantFrom("x", "y", "it's"), valueOf(type.value)), { maxLength: 2, selector: ([key]) => key })
          .map((entries) => ({ entries }))
      case "int":
        return fc.integer({ min: -5, max: 5 })
      default:
        return fc.constantFrom("", "s", "it's")
    }
  }
  return fc.option(some(), { nil: null, freq: 4 })
}

const children = (type: IcebergType) => Type.children(type).map((field) => field.type)

const sql = (type: IcebergType, value: Value): string => {
  const [first, second] = children(type)
  const text = () => {
    if (value === null) return "NULL"
    if (typeof value === "string") return literal(value)
    if (typeof value === "number") return String(value)
    if (value instanceof Map && type.type === "struct") {
      return `{${type.fields.map((field) => `${literal(field.name)}: ${sql(field.type, value.get(field.id) as Value)}`).join(", ")}}`
    }
    if ("entries" in value && type.type === "map") {
      const entries = (value as { readonly entries: ReadonlyArray<readonly [string, Value]> }).entries
      return `MAP {${entries.map(([key, one]) => `${sql(first!, key)}: ${sql(second!, one)}`).join(", ")}}`
    }
    return `[${(value as ReadonlyArray<Value>).map((one) => sql(first!, one)).join(", ")}]`
  }
  return `(${text()})::${engineType(type)}`
}

/** What a reader with this type sees of the value, as JSON has it. */
const seen = (type: IcebergType, value: Value | undefined): unknown => {
  if (value === null || value === undefined) return null
  if (type.type === "struct") return Object.fromEntries(type.fields.map((field) => [field.name, seen(field.type, (value as ReadonlyMap<number, Value>).get(field.id))]))
  if (type.type === "list") return (value as ReadonlyArray<Value>).map((one) => seen(type.element, one))
  if (type.type !== "map") return value
  const { entries } = value as { readonly entries: ReadonlyArray<readonly [string, Value]> }
  return Object.fromEntries(entries.map(([key, one]) => [key, seen(type.value, one)]))
}

interface Change {
  readonly change: "add" | "drop" | "rename" | "move"
  /** Which column, of those that there are. */
  readonly at: number
  readonly name: string
  readonly type: IcebergType
}

const changeOf: fc.Arbitrary<Change> = fc.record({
  change: fc.constantFrom("add", "drop", "rename", "rename", "move"),
  at: fc.nat(),
  name: fc.constantFrom(...names),
  type: typeOf(1)
})

const schemaChange = (metadata: TableMetadata, { at, change, name, type }: Change): SchemaChange => {
  const columns = Column.all(currentSchema(metadata))
  const column = columns[at % columns.length]!.path
  switch (change) {
    case "add":
      return { change, type, column: `${column}.${name}` }
    case "rename":
      return { change, column, name }
    case "move":
      return { change, column, place: "first" }
    case "drop":
      return { change, column }
  }
}

/** Those of the changes that the table takes. */
const changed = Effect.fnUntraced(function*(metadata: TableMetadata, changes: ReadonlyArray<Change>) {
  let now = metadata
  for (const one of changes) now = Either.getOrElse(yield* Effect.either(evolved(now, [schemaChange(now, one)])), () => now)
  return now
})

const mappingOf = (fields: ReadonlyArray<NestedField>): NameMapping.NameMapping =>
  fields.map(({ id, name, type }) => ({ id, names: [name], fields: mappingOf(Type.children(type)) }))

const cases = structOf(3).map(numbered).chain((root) =>
  fc.record({
    root: fc.constant(root),
    rows: fc.array(valueOf(root).filter((value) => value !== null), { minLength: 1, maxLength: 3 }),
    changes: fc.array(changeOf, { maxLength: 6 }),
    origin: fc.constantFrom("ours", "others'", "others', without ids")
  }))

layer(parts, { excludeTestServices: true })("columns of any shape", (it) => {
  it.effect("are read by the ids of their fields, however they changed since", () =>
    Effect.gen(function*() {
      const run = Runtime.runPromise(yield* Effect.runtime<Effect.Effect.Context<ReturnType<typeof write>>>())
      const holds = Effect.fnUntraced(function*({ changes, origin, root, rows }: typeof cases extends fc.Arbitrary<infer A> ? A : never) {
        const key = Type.required(1, "voltlake_row", Type.int)
        const schema = Type.schema([key, ...root.fields])
        const properties = { [NameMapping.property]: NameMapping.encode(mappingOf(schema.fields)) }
        const table = yield* tableOf({ schema, specs: [PartitionSpec.make(0, [])], sortOrder: SortOrder.ascending(1, [1]), properties: {} })
        const query = rows.map((row, at) =>
          `SELECT ${at}::INTEGER AS voltlake_row, ${
            root.fields.map((field) => `${sql(field.type, (row as ReadonlyMap<number, Value>).get(field.id)!)} AS ${quoted(field.name)}`).join(", ")
          }`).join(" UNION ALL ")
        const hasIds = origin !== "others', without ids"
        const file = origin === "ours" ? yield* write(table, query, []) : yield* writeForeign(table, query, hasIds ? FieldIdsSql.render(schema) : "{}")
        // The mapping is that of the file's names, whose meaning a table's own mapping may give away (see its own test).
        const after = { ...(yield* changed(table, changes)), properties: hasIds ? {} : properties }
        const { fields } = currentSchema(after)
        const index = fields.find(({ id }) => id === 1)
        if (index === undefined) return
        const found = yield* read(after, [planned(file)], fields.map(({ name }, at) => `to_json(${quoted(name)})::VARCHAR AS c${at}`).join(", "), quoted(index.name))
        const parsed = found.map((row) => fields.map((_, at) => JSON.parse(String(row[`c${at}`] ?? "null")) as unknown))
        expect(parsed).toEqual(rows.map((row, at) =>
          fields.map((field) => field.id === 1 ? at : seen(field.type, (row as ReadonlyMap<number, Value>).get(field.id)))))
      })
      yield* Effect.promise(() => fc.assert(fc.asyncProperty(cases, (one) => run(holds(one))), { numRuns: 150 }))
    }), 60_000)
})
