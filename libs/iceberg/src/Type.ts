/**
 * Types and schemas of Iceberg tables (specification: "Schemas and Data Types"), as plain data. Format version 2: no nanosecond timestamps, no variant.
 *
 * Column paths are dotted, with `element` for what a list holds and `key` and `value` for what a map holds.
 */

export type PlainPrimitive =
  | "boolean"
  | "int"
  | "long"
  | "float"
  | "double"
  | "date"
  | "time"
  | "timestamp"
  | "timestamptz"
  | "string"
  | "uuid"
  | "binary"

export type PrimitiveType =
  | { readonly type: PlainPrimitive }
  | { readonly type: "decimal"; readonly precision: number; readonly scale: number }
  | { readonly type: "fixed"; readonly length: number }

export interface StructType {
  readonly type: "struct"
  readonly fields: ReadonlyArray<NestedField>
}

export interface ListType {
  readonly type: "list"
  readonly elementId: number
  readonly element: IcebergType
  readonly elementRequired: boolean
}

export interface MapType {
  readonly type: "map"
  readonly keyId: number
  readonly key: IcebergType
  readonly valueId: number
  readonly value: IcebergType
  readonly valueRequired: boolean
}

export type IcebergType = PrimitiveType | StructType | ListType | MapType

export interface NestedField {
  readonly id: number
  readonly name: string
  readonly required: boolean
  readonly type: IcebergType
  readonly doc: string | undefined
}

/** A table's columns. Field ids are unique through all levels and never used again. */
export interface TableSchema {
  readonly schemaId: number
  readonly fields: ReadonlyArray<NestedField>
  readonly identifierFieldIds: ReadonlyArray<number>
}

/** A primitive column at any depth. Metrics and bounds are kept for these. */
export interface Leaf {
  readonly id: number
  readonly path: string
  readonly type: PrimitiveType
  /** Inside a list or a map, where a column has any number of values per row. */
  readonly repeated: boolean
}

export const boolean: PrimitiveType = { type: "boolean" }
export const int: PrimitiveType = { type: "int" }
export const long: PrimitiveType = { type: "long" }
export const float: PrimitiveType = { type: "float" }
export const double: PrimitiveType = { type: "double" }
export const date: PrimitiveType = { type: "date" }
export const time: PrimitiveType = { type: "time" }
export const timestamp: PrimitiveType = { type: "timestamp" }
export const timestamptz: PrimitiveType = { type: "timestamptz" }
export const string: PrimitiveType = { type: "string" }
export const uuid: PrimitiveType = { type: "uuid" }
export const binary: PrimitiveType = { type: "binary" }
export const decimal = (precision: number, scale: number): PrimitiveType => ({ type: "decimal", precision, scale })
export const fixed = (length: number): PrimitiveType => ({ type: "fixed", length })
export const struct = (fields: ReadonlyArray<NestedField>): StructType => ({ type: "struct", fields })

export const list = (elementId: number, element: IcebergType, elementRequired = false): ListType => ({
  type: "list",
  elementId,
  element,
  elementRequired
})

export const map = (
  key: readonly [id: number, type: IcebergType],
  value: readonly [id: number, type: IcebergType],
  valueRequired = false
): MapType => ({ type: "map", keyId: key[0], key: key[1], valueId: value[0], value: value[1], valueRequired })

export const required = (id: number, name: string, type: IcebergType, doc?: string): NestedField => ({
  id,
  name,
  required: true,
  type,
  doc
})

export const optional = (id: number, name: string, type: IcebergType, doc?: string): NestedField => ({
  id,
  name,
  required: false,
  type,
  doc
})

export const schema = (fields: ReadonlyArray<NestedField>, schemaId = 0): TableSchema => ({
  schemaId,
  fields,
  identifierFieldIds: []
})

export const isPrimitive = (type: IcebergType): type is PrimitiveType =>
  type.type !== "struct" && type.type !== "list" && type.type !== "map"

/** A type's direct children, with the names that paths use. */
export const children = (type: IcebergType): ReadonlyArray<NestedField> => {
  switch (type.type) {
    case "struct":
      return type.fields
    case "list":
      return [(type.elementRequired ? required : optional)(type.elementId, "element", type.element)]
    case "map":
      return [
        required(type.keyId, "key", type.key),
        (type.valueRequired ? required : optional)(type.valueId, "value", type.value)
      ]
    default:
      return []
  }
}

export const leaves = (of: TableSchema): ReadonlyArray<Leaf> => {
  const out: Array<Leaf> = []
  const visit = (field: NestedField, above: string, repeated: boolean): void => {
    const path = above === "" ? field.name : `${above}.${field.name}`
    if (isPrimitive(field.type)) out.push({ id: field.id, path, type: field.type, repeated })
    else for (const child of children(field.type)) visit(child, path, repeated || field.type.type !== "struct")
  }
  for (const field of of.fields) visit(field, "", false)
  return out
}

/** Every field id in use, of all levels. */
export const fieldIds = (of: TableSchema): ReadonlyArray<number> => {
  const visit = (field: NestedField): ReadonlyArray<number> => [field.id, ...children(field.type).flatMap(visit)]
  return of.fields.flatMap(visit)
}

export const lastColumnId = (of: TableSchema): number => Math.max(0, ...fieldIds(of))

export const leafById = (of: TableSchema, id: number): Leaf | undefined => leaves(of).find((leaf) => leaf.id === id)

export const leafByPath = (of: TableSchema, path: string): Leaf | undefined =>
  leaves(of).find((leaf) => leaf.path === path)
