/** Columns by dotted path, at any depth: `speed`, `headers.element.key`. */
import { Either, Schema } from "effect"
import type { IcebergType, NestedField, TableSchema } from "./Type.ts"
import { children } from "./Type.ts"

/** The table has no column of that name. */
export class ColumnNotFound extends Schema.TaggedError<ColumnNotFound>()("ColumnNotFound", {
  table: Schema.String,
  column: Schema.String,
  /** What there is, where the search ended. */
  known: Schema.Array(Schema.String)
}) {
  override get message() {
    return `${this.table} has no column ${this.column}; there ${this.known.length === 0 ? "is nothing" : `are ${this.known.join(", ")}`}`
  }
}

export interface Column {
  readonly field: NestedField
  readonly path: string
  /** Those that it lies in, outermost first. */
  readonly parents: ReadonlyArray<NestedField>
}

/** Every column, nested ones after those that they lie in. */
export const all = (schema: TableSchema): ReadonlyArray<Column> => {
  const out: Array<Column> = []
  const visit = (field: NestedField, parents: ReadonlyArray<Column>): void => {
    const above = parents.at(-1)
    const path = above === undefined ? field.name : `${above.path}.${field.name}`
    const column = { field, path, parents: parents.map((parent) => parent.field) }
    out.push(column)
    for (const child of children(field.type)) visit(child, [...parents, column])
  }
  for (const field of schema.fields) visit(field, [])
  return out
}

export const byId = (schema: TableSchema, id: number): Column | undefined => all(schema).find((column) => column.field.id === id)

/** The column at a path. `table` is for the error. */
export const find = (schema: TableSchema, path: string, table: string): Either.Either<Column, ColumnNotFound> => {
  const columns = all(schema)
  const found = columns.find((column) => column.path === path)
  if (found !== undefined) return Either.right(found)
  const nearest = columns.findLast((column) => path.startsWith(`${column.path}.`))
  const known = nearest === undefined ? schema.fields : children(nearest.field.type)
  return Either.left(new ColumnNotFound({ table, column: path, known: known.map((field) => field.name) }))
}

/** Whether the column lies in a list or a map, where it has any number of values per row. */
export const isRepeated = (column: Column): boolean => column.parents.some((parent) => parent.type.type !== "struct")

/** A type with some of its children changed. Names, ids and places of what lists and maps hold stay theirs. */
export const mapChildren = (type: IcebergType, change: (field: NestedField) => NestedField): IcebergType => {
  switch (type.type) {
    case "struct":
      return { type: "struct", fields: type.fields.map(change) }
    case "list": {
      const [element] = children(type).map(change)
      return { ...type, elementId: element!.id, element: element!.type, elementRequired: element!.required }
    }
    case "map": {
      const [key, value] = children(type).map(change)
      return { ...type, keyId: key!.id, key: key!.type, valueId: value!.id, value: value!.type, valueRequired: value!.required }
    }
    default:
      return type
  }
}
