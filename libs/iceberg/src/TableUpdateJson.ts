/** Updates and requirements as JSON, as Iceberg's REST catalog protocol has them (OpenAPI: `TableUpdate`, `TableRequirement`). */
import type { Json, Node } from "./Json.ts"
import {
  decodeSchema,
  decodeSortOrder,
  decodeUnboundFields,
  encodeSchema,
  encodeSortOrder,
  encodeUnboundFields
} from "./SchemaJson.ts"
import { decodeReference, decodeSnapshot, encodeReference, encodeSnapshot } from "./SnapshotJson.ts"
import type { TableRequirement } from "./TableRequirement.ts"
import type { TableUpdate } from "./TableUpdate.ts"

const decodeStatistics = (node: Node) => {
  const statistics = node.object()
  return { snapshotId: node.at("snapshot-id").long(), statistics }
}

export const decodeUpdate = (node: Node): TableUpdate => {
  const action = node.at("action").string()
  switch (action) {
    case "assign-uuid":
      return { action, uuid: node.at("uuid").string() }
    case "upgrade-format-version":
      return { action, formatVersion: node.at("format-version").int() }
    case "add-schema":
      return { action, schema: decodeSchema(node.at("schema")), lastColumnId: node.at("last-column-id").optional((id) => id.int()) }
    case "set-current-schema":
      return { action, schemaId: node.at("schema-id").int() }
    case "add-spec":
      return { action, fields: decodeUnboundFields(node.at("spec").at("fields")) }
    case "set-default-spec":
      return { action, specId: node.at("spec-id").int() }
    case "add-sort-order":
      return { action, sortOrder: decodeSortOrder(node.at("sort-order")) }
    case "set-default-sort-order":
      return { action, sortOrderId: node.at("sort-order-id").int() }
    case "add-snapshot":
      return { action, snapshot: decodeSnapshot(node.at("snapshot")) }
    case "remove-snapshots":
      return { action, snapshotIds: node.at("snapshot-ids").items().map((id) => id.long()) }
    case "set-snapshot-ref":
      return { action, name: node.at("ref-name").string(), reference: decodeReference(node, ["action", "ref-name"]) }
    case "remove-snapshot-ref":
      return { action, name: node.at("ref-name").string() }
    case "set-location":
      return { action, location: node.at("location").string() }
    case "set-properties":
      return { action, updates: node.at("updates").strings() }
    case "remove-properties":
      return { action, removals: node.at("removals").items().map((key) => key.string()) }
    case "set-statistics":
      return { action, ...decodeStatistics(node.at("statistics")) }
    case "set-partition-statistics":
      return { action, ...decodeStatistics(node.at("partition-statistics")) }
    case "remove-statistics":
    case "remove-partition-statistics":
      return { action, snapshotId: node.at("snapshot-id").long() }
    case "remove-partition-specs":
      return { action, specIds: node.at("spec-ids").items().map((id) => id.int()) }
    case "remove-schemas":
      return { action, schemaIds: node.at("schema-ids").items().map((id) => id.int()) }
    default:
      return node.at("action").fail(`unknown action ${action}`)
  }
}

const updateFields = (update: TableUpdate): Readonly<Record<string, Json>> => {
  switch (update.action) {
    case "assign-uuid":
      return { uuid: update.uuid }
    case "upgrade-format-version":
      return { "format-version": update.formatVersion }
    case "add-schema":
      return {
        schema: encodeSchema(update.schema),
        ...(update.lastColumnId === undefined ? {} : { "last-column-id": update.lastColumnId })
      }
    case "set-current-schema":
      return { "schema-id": update.schemaId }
    case "add-spec":
      return { spec: { fields: encodeUnboundFields(update.fields) } }
    case "set-default-spec":
      return { "spec-id": update.specId }
    case "add-sort-order":
      return { "sort-order": encodeSortOrder(update.sortOrder) }
    case "set-default-sort-order":
      return { "sort-order-id": update.sortOrderId }
    case "add-snapshot":
      return { snapshot: encodeSnapshot(update.snapshot) }
    case "remove-snapshots":
      return { "snapshot-ids": update.snapshotIds }
    case "set-snapshot-ref":
      return { "ref-name": update.name, ...encodeReference(update.reference) }
    case "remove-snapshot-ref":
      return { "ref-name": update.name }
    case "set-location":
      return { location: update.location }
    case "set-properties":
      return { updates: update.updates }
    case "remove-properties":
      return { removals: update.removals }
    case "set-statistics":
      return { "snapshot-id": update.snapshotId, statistics: update.statistics }
    case "set-partition-statistics":
      return { "partition-statistics": update.statistics }
    case "remove-statistics":
    case "remove-partition-statistics":
      return { "snapshot-id": update.snapshotId }
    case "remove-partition-specs":
      return { "spec-ids": update.specIds }
    case "remove-schemas":
      return { "schema-ids": update.schemaIds }
  }
}

export const encodeUpdate = (update: TableUpdate): Json => ({ action: update.action, ...updateFields(update) })

export const decodeRequirement = (node: Node): TableRequirement => {
  const type = node.at("type").string()
  switch (type) {
    case "assert-create":
      return { type }
    case "assert-table-uuid":
      return { type, uuid: node.at("uuid").string() }
    case "assert-ref-snapshot-id":
      return { type, ref: node.at("ref").string(), snapshotId: node.at("snapshot-id").optional((id) => id.long()) }
    case "assert-last-assigned-field-id":
      return { type, lastAssignedFieldId: node.at("last-assigned-field-id").int() }
    case "assert-current-schema-id":
      return { type, currentSchemaId: node.at("current-schema-id").int() }
    case "assert-last-assigned-partition-id":
      return { type, lastAssignedPartitionId: node.at("last-assigned-partition-id").int() }
    case "assert-default-spec-id":
      return { type, defaultSpecId: node.at("default-spec-id").int() }
    case "assert-default-sort-order-id":
      return { type, defaultSortOrderId: node.at("default-sort-order-id").int() }
    default:
      return node.at("type").fail(`unknown requirement ${type}`)
  }
}

const requirementFields = (requirement: TableRequirement): Readonly<Record<string, Json>> => {
  switch (requirement.type) {
    case "assert-create":
      return {}
    case "assert-table-uuid":
      return { uuid: requirement.uuid }
    case "assert-ref-snapshot-id":
      return { ref: requirement.ref, "snapshot-id": requirement.snapshotId ?? null }
    case "assert-last-assigned-field-id":
      return { "last-assigned-field-id": requirement.lastAssignedFieldId }
    case "assert-current-schema-id":
      return { "current-schema-id": requirement.currentSchemaId }
    case "assert-last-assigned-partition-id":
      return { "last-assigned-partition-id": requirement.lastAssignedPartitionId }
    case "assert-default-spec-id":
      return { "default-spec-id": requirement.defaultSpecId }
    case "assert-default-sort-order-id":
      return { "default-sort-order-id": requirement.defaultSortOrderId }
  }
}

export const encodeRequirement = (requirement: TableRequirement): Json => ({
  type: requirement.type,
  ...requirementFields(requirement)
})
