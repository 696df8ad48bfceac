/**
 * A table that a client asks for, as the updates that make it (OpenAPI: `CreateTableRequest`). Pure.
 *
 * The ids that clients give columns are only names within the request: the table's own begin at 1, parents before children, as Iceberg's reference
 * implementation counts them. Partition fields begin at 1000.
 */
import type { Node } from "@voltlake/iceberg/Json"
import type { UnboundField } from "@voltlake/iceberg/PartitionSpec"
import { decodeSchema, decodeSortOrder, decodeUnboundFields } from "@voltlake/iceberg/SchemaJson"
import type { SortOrder } from "@voltlake/iceberg/SortOrder"
import { lastAdded, type TableUpdate } from "@voltlake/iceberg/TableUpdate"
import type { IcebergType, NestedField, TableSchema } from "@voltlake/iceberg/Type"

export interface NewTable {
  readonly name: string
  /** Below the warehouse by the table's name, where the client does not say. */
  readonly location: string | undefined
  readonly schema: TableSchema
  readonly fields: ReadonlyArray<UnboundField>
  readonly order: SortOrder | undefined
  readonly properties: Readonly<Record<string, string>>
  /** Nothing is made yet: the client commits it later, with `assert-create`. */
  readonly isStaged: boolean
}

const formatVersionProperty = "format-version"
const formatVersion = "2"

export const decode = (root: Node): NewTable => {
  const { [formatVersionProperty]: version = formatVersion, ...properties } = root.at("properties").strings()
  if (version !== formatVersion) {
    return root.at("properties").at(formatVersionProperty).fail(`tables of format version ${version} are not written here, only of ${formatVersion}`)
  }
  return {
    name: root.at("name").string(),
    location: root.at("location").optional((node) => node.string()),
    schema: decodeSchema(root.at("schema")),
    fields: root.at("partition-spec").optional((spec) => decodeUnboundFields(spec.at("fields"))) ?? [],
    order: root.at("write-order").optional(decodeSortOrder),
    properties,
    isStaged: root.at("stage-create").optional((node) => node.boolean()) ?? false
  }
}

export const updatesOf = (table: NewTable): ReadonlyArray<TableUpdate> => {
  const { idOf, schema } = withFreshIds(table.schema)
  const bound = <A extends { readonly sourceId: number }>(field: A): A => ({ ...field, sourceId: idOf(field.sourceId) })
  return [
    { action: "add-schema", schema, lastColumnId: undefined },
    { action: "set-current-schema", schemaId: lastAdded },
    { action: "add-spec", fields: table.fields.map((field) => ({ ...bound(field), fieldId: undefined })) },
    { action: "set-default-spec", specId: lastAdded },
    ...(table.order === undefined ? [] : [
      { action: "add-sort-order" as const, sortOrder: { ...table.order, fields: table.order.fields.map(bound) } },
      { action: "set-default-sort-order" as const, sortOrderId: lastAdded }
    ]),
    { action: "set-properties", updates: table.properties }
  ]
}

/** Ids of one level before those of the levels below it. An id that no column had is left to whoever checks it. */
export const withFreshIds = (schema: TableSchema) => {
  const ids = new Map<number, number>()
  let last = 0
  const give = (id: number) => {
    last += 1
    ids.set(id, last)
    return last
  }
  const level = (fields: ReadonlyArray<NestedField>): ReadonlyArray<NestedField> => {
    const own = fields.map((field) => ({ ...field, id: give(field.id) }))
    return own.map((field) => ({ ...field, type: within(field.type) }))
  }
  const within = (type: IcebergType): IcebergType => {
    switch (type.type) {
      case "struct":
        return { ...type, fields: level(type.fields) }
      case "list": {
        const elementId = give(type.elementId)
        return { ...type, elementId, element: within(type.element) }
      }
      case "map": {
        const [keyId, valueId] = [give(type.keyId), give(type.valueId)]
        return { ...type, keyId, valueId, key: within(type.key), value: within(type.value) }
      }
      default:
        return type
    }
  }
  const fields = level(schema.fields)
  const idOf = (id: number) => ids.get(id) ?? -1
  return { schema: { schemaId: 0, fields, identifierFieldIds: schema.identifierFieldIds.map(idOf) }, idOf }
}
