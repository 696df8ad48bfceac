/**
 * The columns that a Parquet file has, as the engine shows them: what lists and maps are made of in a file (groups within groups, under names that
 * differ between writers) is taken away.
 */
import { type FileMetaData, parquetSchema, type SchemaElement, type SchemaTree } from "hyparquet"

export interface FileLeaf {
  readonly kind: "leaf"
  readonly physical: string
  /** What the bytes mean; the engine's type follows from it. */
  readonly meaning: "text" | "uuid" | "local time" | "instant" | "other"
  /** All that the file says of the type, so that columns whose types differ are not taken for alike. */
  readonly detail: Pick<SchemaElement, "logical_type" | "converted_type" | "precision" | "scale" | "type_length">
}

export type FileType =
  | FileLeaf
  | { readonly kind: "struct"; readonly fields: ReadonlyArray<FileColumn> }
  | { readonly kind: "list"; readonly element: FileColumn }
  | { readonly kind: "map"; readonly key: FileColumn; readonly value: FileColumn }
  /** Groups that no writer of Iceberg's makes. */
  | { readonly kind: "strange" }

export interface FileColumn {
  readonly name: string
  /** The table's field that it is. */
  readonly id: number | undefined
  readonly type: FileType
}

export type FileSchema = ReadonlyArray<FileColumn>

const meaningOf = ({ converted_type, logical_type, type }: SchemaElement): FileLeaf["meaning"] => {
  if (logical_type?.type === "TIMESTAMP") return logical_type.isAdjustedToUTC ? "instant" : "local time"
  if (logical_type?.type === "UUID") return "uuid"
  const said: string | undefined = logical_type?.type ?? converted_type
  return type === "BYTE_ARRAY" && ["STRING", "UTF8", "ENUM", "JSON"].includes(said ?? "") ? "text" : "other"
}

const leaf = (element: SchemaElement): FileLeaf => {
  const { converted_type, logical_type, precision, scale, type_length } = element
  // What the file does not say is left out.
  const detail = Object.fromEntries(Object.entries({ converted_type, logical_type, precision, scale, type_length }).filter(([, said]) => said !== undefined))
  return { kind: "leaf", physical: element.type ?? "", meaning: meaningOf(element), detail }
}

const strange: FileType = { kind: "strange" }

/** Specification of Parquet: "Nested Types", with the forms that old writers have. */
const typeOf = ({ children, element }: SchemaTree): FileType => {
  if (children.length === 0) return element.type === undefined ? strange : leaf(element)
  const said: string | undefined = element.logical_type?.type ?? element.converted_type
  const [only] = children
  const repeated = children.length === 1 && only!.element.repetition_type === "REPEATED" ? only! : undefined
  if (said === "LIST") {
    if (repeated === undefined) return strange
    return { kind: "list", element: repeated.children.length === 1 ? column(repeated.children[0]!) : once(repeated) }
  }
  if (said === "MAP" || said === "MAP_KEY_VALUE") {
    const [key, value] = repeated?.children ?? []
    return repeated?.children.length === 2 ? { kind: "map", key: column(key!), value: column(value!) } : strange
  }
  return { kind: "struct", fields: children.map(column) }
}

/** What is repeated, without that it is. */
const once = (tree: SchemaTree): FileColumn => ({
  name: tree.element.name,
  id: tree.element.field_id !== undefined && tree.element.field_id >= 0 ? tree.element.field_id : undefined,
  type: typeOf(tree)
})

/** Something repeated that no group calls a list is one all the same. */
const column = (tree: SchemaTree): FileColumn => {
  const one = once(tree)
  if (tree.element.repetition_type !== "REPEATED") return one
  return { ...one, type: tree.children.length === 1 ? strange : { kind: "list", element: { ...one, id: undefined } } }
}

export const ofFooter = (footer: FileMetaData): FileSchema => parquetSchema(footer).children.map(column)

export const childrenOf = (type: FileType): ReadonlyArray<FileColumn> => {
  switch (type.kind) {
    case "struct":
      return type.fields
    case "list":
      return [type.element]
    case "map":
      return [type.key, type.value]
    default:
      return []
  }
}

export const mapChildren = (type: FileType, change: (column: FileColumn, place: string) => FileColumn): FileType => {
  switch (type.kind) {
    case "struct":
      return { kind: "struct", fields: type.fields.map((field) => change(field, field.name)) }
    case "list":
      return { kind: "list", element: change(type.element, "element") }
    case "map":
      return { kind: "map", key: change(type.key, "key"), value: change(type.value, "value") }
    default:
      return type
  }
}

/** Whether any column has an id: then what has none is not the table's. */
export const hasIds = (columns: FileSchema): boolean => columns.some(({ id, type }) => id !== undefined || hasIds(childrenOf(type)))

/** Equal for files that the same statement reads. */
export const key = (columns: FileSchema): string => JSON.stringify(columns)
