/**
 * DuckDB's SQL for a table's columns from a file's (specification: "Column Projection"): by ids at every depth, whatever a file calls its columns and
 * in whatever order it has them. What a file does not have is its partition's value where the table is partitioned by it as it is, otherwise NULL.
 */
import { Either } from "effect"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import { engineType, nothing } from "./EngineType.ts"
import type { FileColumn, FileLeaf, FileSchema } from "./FileSchema.ts"
import type { IcebergType, NestedField, PrimitiveType } from "./Type.ts"
import { children, isPrimitive } from "./Type.ts"

export type ReadColumn = Pick<NestedField, "id" | "name" | "type">

/** A column of the file that is not of the form that the table's must have. */
export interface FormUnfit {
  readonly column: string
  readonly reason: string
}

/** SQL of the value of a field that a file does not have; undefined: there is none. */
export type Absent = (id: number) => string | undefined

const expected = (type: IcebergType) => (isPrimitive(type) ? "leaf" : type.type)

const said: Readonly<Record<FileColumn["type"]["kind"], string>> = {
  leaf: "a single value",
  struct: "a struct",
  list: "a list",
  map: "a map",
  strange: "of a form that nothing is known of"
}

const unfit = (column: string, reason: string) => Either.left<FormUnfit>({ column, reason })

/** A single value. Where an engine's cast would mean something else by the bytes, or ask for the session's time zone, it is not asked. */
const single = (to: PrimitiveType, { meaning, physical }: FileLeaf, value: string): string => {
  const bytes = meaning === "other" && (physical === "BYTE_ARRAY" || physical === "FIXED_LEN_BYTE_ARRAY")
  switch (to.type) {
    case "string":
      if (bytes) return `decode(${value})`
      break
    case "binary":
    case "fixed":
      if (meaning === "text") return `encode(${value})`
      break
    case "uuid":
      if (bytes) return `hex(${value})::UUID`
      break
    case "timestamp":
    case "timestamptz":
      if (meaning !== (to.type === "timestamp" ? "local time" : "instant")) return `make_${to.type}(epoch_us(${value}))`
  }
  return `${value}::${engineType(to)}`
}

/** Whether a file's column is the table's in all names, so that the engine finds everything in it by itself. */
const isAlike = (type: IcebergType, column: FileColumn): boolean => {
  if (isPrimitive(type)) return column.type.kind === "leaf" && single(type, column.type, "") === `::${engineType(type)}`
  const wanted = children(type)
  const there = column.type.kind === "struct"
    ? column.type.fields
    : column.type.kind === "list"
    ? [column.type.element]
    : column.type.kind === "map"
    ? [column.type.key, column.type.value]
    : []
  return column.type.kind === type.type && wanted.length === there.length &&
    wanted.every((field, at) => field.id === there[at]!.id && (type.type !== "struct" || field.name === there[at]!.name) && isAlike(field.type, there[at]!))
}

interface Place {
  readonly path: string
  /** How many lists and maps it lies in. */
  readonly depth: number
  readonly absent: Absent
}

const within = (place: Place, name: string, deeper = 0): Place => ({ ...place, path: `${place.path}.${name}`, depth: place.depth + deeper })

const oneOf = (field: ReadColumn, columns: FileSchema, value: (column: FileColumn) => string, place: Place): Either.Either<string, FormUnfit> => {
  const found = columns.filter(({ id }) => id === field.id)
  if (found.length > 1) return unfit(place.path, `is ${found.map(({ name }) => name).join(" and ")} at once`)
  const [column] = found
  if (column === undefined) return Either.right(place.absent(field.id) ?? nothing(field.type))
  const others = columns.filter(({ name }) => name !== column.name && name.toLowerCase() === column.name.toLowerCase())
  if (others.length > 0) return unfit(place.path, `is ${column.name} beside ${others[0]!.name}, which the engine does not tell apart`)
  return project(field.type, column, value(column), place)
}

/** What a list or a map holds: it cannot be absent, nor ever have had another id. */
const held = (column: FileColumn, field: NestedField, value: string, place: Place): Either.Either<string, FormUnfit> =>
  column.id === field.id
    ? project(field.type, column, value, within(place, field.name, 1))
    : unfit(place.path, `has no ${field.name} that is known to be the table's`)

/** A value of the table's type from the file's column, whose value is `value`. */
const project = (type: IcebergType, column: FileColumn, value: string, place: Place): Either.Either<string, FormUnfit> => {
  const from = column.type
  if (from.kind !== expected(type)) return unfit(place.path, `is ${said[from.kind]}, and in the table ${said[expected(type)]}`)
  if (isPrimitive(type) && from.kind === "leaf") return Either.right(single(type, from, value))
  if (isAlike(type, column)) return Either.right(`${value}::${engineType(type)}`)
  const item = `item${place.depth}`
  if (type.type === "struct" && from.kind === "struct") {
    return Either.map(
      Either.all(type.fields.map((field) =>
        Either.map(
          oneOf(field, from.fields, ({ name }) => `struct_extract(${value}, ${literal(name)})`, within(place, field.name)),
          (sql) => `${literal(field.name)}: ${sql}`
        ))),
      (fields) => `CASE WHEN ${value} IS NULL THEN ${nothing(type)} ELSE {${fields.join(", ")}} END`
    )
  }
  const [first, second] = children(type)
  if (from.kind === "list") {
    return Either.map(held(from.element, first!, item, place), (element) => `list_transform(${value}, lambda ${item}: ${element})`)
  }
  if (from.kind !== "map") return unfit(place.path, `is ${said[from.kind]}`)
  return Either.gen(function*() {
    const key = yield* held(from.key, first!, `${item}.key`, place)
    const mapped = yield* held(from.value, second!, `${item}.value`, place)
    return `map_from_entries(list_transform(map_entries(${value}), lambda ${item}: {'key': ${key}, 'value': ${mapped}}))`
  })
}

/** Of each column, SQL that gives its value from the file's columns, which stand in a relation `rows`. */
export const columns = (
  wanted: ReadonlyArray<ReadColumn>,
  file: FileSchema,
  absent: Absent
): Either.Either<ReadonlyArray<string>, FormUnfit> =>
  Either.all(wanted.map((field) => {
    const place: Place = { path: field.name, depth: 0, absent }
    return Either.map(oneOf(field, file, ({ name }) => `rows.${quoted(name)}`, place), (sql) => `${sql} AS ${quoted(field.name)}`)
  }))
