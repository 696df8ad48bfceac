/** Schemas, partition specs and sort orders as JSON (specification: Appendix C). */
import type { Json, Node } from "./Json.ts"
import type { PartitionField, PartitionSpec, UnboundField } from "./PartitionSpec.ts"
import type { SortField, SortOrder } from "./SortOrder.ts"
import * as Transform from "./Transform.ts"
import type { IcebergType, NestedField, PlainPrimitive, PrimitiveType, TableSchema } from "./Type.ts"

const plainPrimitives: ReadonlySet<string> = new Set<PlainPrimitive>([
  "boolean",
  "int",
  "long",
  "float",
  "double",
  "date",
  "time",
  "timestamp",
  "timestamptz",
  "string",
  "uuid",
  "binary"
])

export const primitiveText = (type: PrimitiveType): string => {
  switch (type.type) {
    case "decimal":
      return `decimal(${type.precision}, ${type.scale})`
    case "fixed":
      return `fixed[${type.length}]`
    default:
      return type.type
  }
}

const decodePrimitive = (node: Node): PrimitiveType => {
  const text = node.string()
  if (plainPrimitives.has(text)) return { type: text as PlainPrimitive }
  const decimal = /^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(text)
  if (decimal !== null) return { type: "decimal", precision: Number(decimal[1]), scale: Number(decimal[2]) }
  const fixed = /^fixed\[(\d+)\]$/.exec(text)
  if (fixed !== null) return { type: "fixed", length: Number(fixed[1]) }
  return node.fail(`unknown type ${text}`)
}

const decodeField = (node: Node): NestedField => ({
  id: node.at("id").int(),
  name: node.at("name").string(),
  required: node.at("required").boolean(),
  type: decodeType(node.at("type")),
  doc: node.at("doc").optional((doc) => doc.string())
})

export const decodeType = (node: Node): IcebergType => {
  if (typeof node.value === "string") return decodePrimitive(node)
  const kind = node.at("type").string()
  switch (kind) {
    case "struct":
      return { type: "struct", fields: node.at("fields").items().map(decodeField) }
    case "list":
      return {
        type: "list",
        elementId: node.at("element-id").int(),
        element: decodeType(node.at("element")),
        elementRequired: node.at("element-required").boolean()
      }
    case "map":
      return {
        type: "map",
        keyId: node.at("key-id").int(),
        key: decodeType(node.at("key")),
        valueId: node.at("value-id").int(),
        value: decodeType(node.at("value")),
        valueRequired: node.at("value-required").boolean()
      }
    default:
      return node.at("type").fail(`unknown type ${kind}`)
  }
}

export const encodeType = (type: IcebergType): Json => {
  switch (type.type) {
    case "struct":
      return { type: "struct", fields: type.fields.map(encodeField) }
    case "list":
      return {
        type: "list",
        "element-id": type.elementId,
        element: encodeType(type.element),
        "element-required": type.elementRequired
      }
    case "map":
      return {
        type: "map",
        "key-id": type.keyId,
        key: encodeType(type.key),
        "value-id": type.valueId,
        value: encodeType(type.value),
        "value-required": type.valueRequired
      }
    default:
      return primitiveText(type)
  }
}

const encodeField = (field: NestedField): Json => ({
  id: field.id,
  name: field.name,
  required: field.required,
  type: encodeType(field.type),
  ...(field.doc === undefined ? {} : { doc: field.doc })
})

export const decodeSchema = (node: Node): TableSchema => ({
  schemaId: node.at("schema-id").optional((id) => id.int()) ?? 0,
  fields: node.at("fields").items().map(decodeField),
  identifierFieldIds: node.at("identifier-field-ids").list((id) => id.int())
})

export const encodeSchema = (schema: TableSchema): Json => ({
  type: "struct",
  "schema-id": schema.schemaId,
  fields: schema.fields.map(encodeField),
  ...(schema.identifierFieldIds.length === 0 ? {} : { "identifier-field-ids": schema.identifierFieldIds })
})

const decodeUnboundField = (node: Node): UnboundField => ({
  sourceId: node.at("source-id").int(),
  fieldId: node.at("field-id").optional((id) => id.int()),
  name: node.at("name").string(),
  transform: Transform.fromText(node.at("transform").string())
})

const encodeUnboundField = (field: UnboundField): Json => ({
  name: field.name,
  transform: Transform.toText(field.transform),
  "source-id": field.sourceId,
  ...(field.fieldId === undefined ? {} : { "field-id": field.fieldId })
})

/** Fields of a spec that a table is to have, which may have no ids yet. */
export const decodeUnboundFields = (node: Node): ReadonlyArray<UnboundField> => node.items().map(decodeUnboundField)

export const encodeUnboundFields = (fields: ReadonlyArray<UnboundField>): Json => fields.map(encodeUnboundField)

const decodePartitionField = (node: Node): PartitionField => ({
  ...decodeUnboundField(node),
  fieldId: node.at("field-id").int()
})

export const decodeSpec = (node: Node): PartitionSpec => ({
  specId: node.at("spec-id").int(),
  fields: node.at("fields").items().map(decodePartitionField)
})

export const encodeSpecFields = (spec: PartitionSpec): Json => encodeUnboundFields(spec.fields)

export const encodeSpec = (spec: PartitionSpec): Json => ({ "spec-id": spec.specId, fields: encodeSpecFields(spec) })

const oneOf = <const A extends string>(node: Node, choices: ReadonlyArray<A>): A => {
  const text = node.string()
  return choices.find((choice) => choice === text) ?? node.fail(`expected one of ${choices.join(", ")}, found ${text}`)
}

const decodeSortField = (node: Node): SortField => ({
  transform: Transform.fromText(node.at("transform").string()),
  sourceId: node.at("source-id").int(),
  direction: oneOf(node.at("direction"), ["asc", "desc"]),
  nullOrder: oneOf(node.at("null-order"), ["nulls-first", "nulls-last"])
})

export const decodeSortOrder = (node: Node): SortOrder => ({
  orderId: node.at("order-id").int(),
  fields: node.at("fields").items().map(decodeSortField)
})

export const encodeSortOrder = (order: SortOrder): Json => ({
  "order-id": order.orderId,
  fields: order.fields.map((field) => ({
    transform: Transform.toText(field.transform),
    "source-id": field.sourceId,
    direction: field.direction,
    "null-order": field.nullOrder
  }))
})
