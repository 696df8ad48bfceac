/**
 * Which columns of files without field ids are which of a table's (specification: "Name Mapping Serialization", "Column Projection"), from the table's
 * property. For lists and maps a mapping says `element`, `key` and `value`, whatever a file calls them.
 */
import { Effect, Either, Schema } from "effect"
import type { FileColumn, FileSchema } from "./FileSchema.ts"
import { mapChildren } from "./FileSchema.ts"
import type { Json, Node } from "./Json.ts"
import { decode as decodeJson, encode as encodeJson } from "./Json.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import type { NestedField, TableSchema } from "./Type.ts"
import { children } from "./Type.ts"

export const property = "schema.name-mapping.default"

export interface MappedField {
  /** Undefined for columns that are known, and not the table's. */
  readonly id: number | undefined
  /** None for a field that no file without ids has. */
  readonly names: ReadonlyArray<string>
  readonly fields: NameMapping
}

export type NameMapping = ReadonlyArray<MappedField>

/** The table's property does not say which column is which. */
export class NameMappingInvalid extends Schema.TaggedError<NameMappingInvalid>()("NameMappingInvalid", {
  table: Schema.String,
  property: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `the property ${this.property} of ${this.table} is no name mapping: ${this.reason}`
  }
}

const decodeFields = (node: Node): NameMapping => {
  const [names, ids] = [new Set<string>(), new Set<number>()]
  return node.list((one) => {
    const field: MappedField = {
      id: one.at("field-id").optional((id) => id.int()),
      names: one.at("names").items().map((name) => name.string()),
      fields: decodeFields(one.at("fields"))
    }
    for (const name of field.names) if (names.size === names.add(name).size) return one.fail(`the name ${name} is there twice`)
    if (field.id !== undefined && ids.size === ids.add(field.id).size) return one.fail(`the field ${field.id} is there twice`)
    return field
  })
}

export const decode = (text: string) =>
  decodeJson(text, (root) => {
    // `null` is no list, though a field may have it for one.
    root.items()
    return decodeFields(root)
  })

const toJson = (mapping: NameMapping): Json =>
  mapping.map(({ fields, id, names }) => ({
    ...(id === undefined ? {} : { "field-id": id }),
    names,
    ...(fields.length === 0 ? {} : { fields: toJson(fields) })
  }))

export const encode = (mapping: NameMapping): string => encodeJson(toJson(mapping))

/** The table's mapping, where it has one. */
export const of = (metadata: TableMetadata): Effect.Effect<NameMapping | undefined, NameMappingInvalid> => {
  const text = metadata.properties[property]
  if (text === undefined) return Effect.succeed(undefined)
  return Effect.mapError(decode(text), ({ message }) => new NameMappingInvalid({ table: metadata.location, property, reason: message }))
}

/**
 * A file's columns with the ids that they have by their names; without one where the mapping does not name them. Of several that are one field it is the
 * one whose name comes first: newer names come behind older ones, and may be names that other columns had.
 */
export const apply = (columns: FileSchema, mapping: NameMapping): FileSchema => {
  const mapped = (column: FileColumn, name: string, among: NameMapping, beside: ReadonlyArray<string>): FileColumn => {
    const found = among.find(({ names }) => names.find((one) => beside.includes(one)) === name)
    const names = column.type.kind === "struct" ? column.type.fields.map((field) => field.name) : undefined
    return {
      name: column.name,
      id: found?.id,
      type: mapChildren(column.type, (child, place) => mapped(child, place, found?.fields ?? [], names ?? [place]))
    }
  }
  const names = columns.map(({ name }) => name)
  return columns.map((column) => mapped(column, column.name, mapping, names))
}

const fresh = ({ id, name, type }: NestedField): MappedField => ({ id, names: [name], fields: children(type).map(fresh) })

/**
 * The mapping of a table whose columns change, as Iceberg's own library has it: a renamed column keeps its names beside the new one, a new column
 * comes in under its name, which no column beside it keeps, and a dropped one stays.
 */
const evolved = (mapping: NameMapping, before: ReadonlyArray<NestedField>, after: ReadonlyArray<NestedField>): NameMapping => {
  const old = new Map(before.map((field) => [field.id, field]))
  const now = new Map(after.map((field) => [field.id, field]))
  const added = after.filter(({ id }) => !old.has(id))
  const given = new Map(after.filter(({ id, name }) => old.get(id)?.name !== name).map(({ id, name }) => [name, id]))
  const kept = mapping.map((field): MappedField => {
    const [was, is] = [old.get(field.id ?? -1), now.get(field.id ?? -1)]
    const names = field.names.filter((name) => (given.get(name) ?? field.id) === field.id)
    if (was === undefined || is === undefined) return { ...field, names }
    return {
      ...field,
      names: was.name === is.name || names.includes(is.name) ? names : [...names, is.name],
      fields: evolved(field.fields, children(was.type), children(is.type))
    }
  })
  return [...kept, ...added.map(fresh)]
}

/** What the table's properties become where its columns become these. A mapping that cannot be read stays as it is: changing columns must not rest on it. */
export const propertiesFor = (metadata: TableMetadata, before: TableSchema, after: TableSchema): Readonly<Record<string, string>> => {
  const text = metadata.properties[property]
  const mapping = text === undefined ? undefined : Either.getOrUndefined(decode(text))
  if (mapping === undefined) return {}
  const next = encode(evolved(mapping, before.fields, after.fields))
  return next === encode(mapping) ? {} : { [property]: next }
}
