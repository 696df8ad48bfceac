/**
 * Everything a table is at one time (specification: "Table Metadata", format version 2), as plain data. Immutable: every change is a new value
 * and a new file, see `TableUpdate`.
 */
import type { Json, JsonObject } from "./Json.ts"
import { invariant } from "@voltlake/domain/Failure"
import type { PartitionSpec } from "./PartitionSpec.ts"
import { firstFieldId } from "./PartitionSpec.ts"
import type { Snapshot, SnapshotReference } from "./Snapshot.ts"
import { positionKey, positionTag } from "./Snapshot.ts"
import { unsorted, type SortOrder } from "./SortOrder.ts"
import type { TableSchema } from "./Type.ts"
import { lastColumnId } from "./Type.ts"

export interface SnapshotLogEntry {
  readonly snapshotId: bigint
  readonly timestampMs: number
}

export interface MetadataLogEntry {
  readonly metadataFile: string
  readonly timestampMs: number
}

export interface TableMetadata {
  readonly formatVersion: 2
  readonly tableUuid: string
  readonly location: string
  readonly lastSequenceNumber: bigint
  /** Milliseconds since 1970. */
  readonly lastUpdatedMs: number
  readonly lastColumnId: number
  readonly schemas: ReadonlyArray<TableSchema>
  readonly currentSchemaId: number
  readonly partitionSpecs: ReadonlyArray<PartitionSpec>
  readonly defaultSpecId: number
  readonly lastPartitionId: number
  readonly sortOrders: ReadonlyArray<SortOrder>
  readonly defaultSortOrderId: number
  readonly properties: Readonly<Record<string, string>>
  readonly currentSnapshotId: bigint | undefined
  readonly snapshots: ReadonlyArray<Snapshot>
  readonly snapshotLog: ReadonlyArray<SnapshotLogEntry>
  readonly metadataLog: ReadonlyArray<MetadataLogEntry>
  readonly refs: Readonly<Record<string, SnapshotReference>>
  readonly statistics: ReadonlyArray<Json>
  readonly partitionStatistics: ReadonlyArray<Json>
  /** Fields that we do not know, kept as they are. */
  readonly extra: JsonObject
}

export interface TableDefinition {
  readonly schema: TableSchema
  /** The first is the default. */
  readonly specs: ReadonlyArray<PartitionSpec>
  readonly sortOrder: SortOrder
  readonly properties: Readonly<Record<string, string>>
}

/** A new table without a snapshot. */
export const make = (
  definition: TableDefinition,
  at: { readonly tableUuid: string; readonly location: string; readonly nowMs: number }
): TableMetadata => {
  const defaultSpec = definition.specs[0]
  invariant(defaultSpec !== undefined, "a table has a partition spec")
  const fieldIds = definition.specs.flatMap((spec) => spec.fields.map((field) => field.fieldId))
  return {
    formatVersion: 2,
    tableUuid: at.tableUuid,
    location: at.location,
    lastSequenceNumber: 0n,
    lastUpdatedMs: at.nowMs,
    lastColumnId: lastColumnId(definition.schema),
    schemas: [definition.schema],
    currentSchemaId: definition.schema.schemaId,
    partitionSpecs: definition.specs,
    defaultSpecId: defaultSpec.specId,
    lastPartitionId: Math.max(firstFieldId - 1, ...fieldIds),
    sortOrders: definition.sortOrder.orderId === 0 ? [unsorted] : [unsorted, definition.sortOrder],
    defaultSortOrderId: definition.sortOrder.orderId,
    properties: definition.properties,
    currentSnapshotId: undefined,
    snapshots: [],
    snapshotLog: [],
    metadataLog: [],
    refs: {},
    statistics: [],
    partitionStatistics: [],
    extra: {}
  }
}

export const snapshotById = (metadata: TableMetadata, id: bigint | undefined): Snapshot | undefined =>
  id === undefined ? undefined : metadata.snapshots.find((snapshot) => snapshot.snapshotId === id)

export const currentSnapshot = (metadata: TableMetadata): Snapshot | undefined =>
  snapshotById(metadata, metadata.currentSnapshotId)

export const currentSchema = (metadata: TableMetadata): TableSchema => {
  const schema = metadata.schemas.find((candidate) => candidate.schemaId === metadata.currentSchemaId)
  invariant(schema !== undefined, "the current schema is among the schemas")
  return schema
}

export const defaultSpec = (metadata: TableMetadata): PartitionSpec => {
  const spec = specById(metadata, metadata.defaultSpecId)
  invariant(spec !== undefined, "the default partition spec is among the specs")
  return spec
}

/** Unsorted where the metadata names an order that it does not hold. */
export const defaultSortOrder = (metadata: TableMetadata): SortOrder =>
  metadata.sortOrders.find((order) => order.orderId === metadata.defaultSortOrderId) ?? unsorted

export const specById = (metadata: TableMetadata, id: number): PartitionSpec | undefined =>
  metadata.partitionSpecs.find((spec) => spec.specId === id)

/** From `from` (the current snapshot, where not given) to its oldest ancestor that is still kept. */
export const lineage = function*(metadata: TableMetadata, from = metadata.currentSnapshotId): Generator<Snapshot> {
  const byId = new Map(metadata.snapshots.map((snapshot) => [snapshot.snapshotId, snapshot]))
  let at = from === undefined ? undefined : byId.get(from)
  while (at !== undefined) {
    yield at
    // Deleted so that a damaged chain that bites its own tail ends.
    byId.delete(at.snapshotId)
    at = at.parentSnapshotId === undefined ? undefined : byId.get(at.parentSnapshotId)
  }
}

const recordsAfter = ({ summary }: Snapshot): number => Number(summary["total-records"])
const recordsBefore = (snapshot: Snapshot): number =>
  recordsAfter(snapshot) - Number(snapshot.summary["added-records"] ?? 0) + Number(snapshot.summary["deleted-records"] ?? 0)

/**
 * The snapshot that the position's tag names, where it stands before a gap: other engines committed several times, and their expiry dropped what was
 * in between. Nothing says any more that it is an ancestor, so there must be room for what is missing, and as many rows on both sides. Where the gap
 * is a rewind, the rows that were rewound are missing on this side.
 */
const beyondGap = (metadata: TableMetadata, oldest: Snapshot): Snapshot | undefined => {
  const tagged = snapshotById(metadata, metadata.refs[positionTag]?.snapshotId)
  const parent = oldest.parentSnapshotId
  if (tagged === undefined || snapshotById(metadata, parent) !== undefined || tagged.sequenceNumber + 1n >= oldest.sequenceNumber) return undefined
  // Some engines take an expired parent's name away.
  if (parent !== undefined && tagged.parentSnapshotId === parent) return undefined
  const records = recordsAfter(tagged)
  return records === recordsAfter(oldest) || records === recordsBefore(oldest) ? tagged : undefined
}

/** The {@link lineage}, on beyond a gap that an expiry left where the tag of the position stands behind it. */
export const positionLineage = function*(metadata: TableMetadata, from = metadata.currentSnapshotId): Generator<Snapshot> {
  let oldest: Snapshot | undefined
  for (const snapshot of lineage(metadata, from)) yield oldest = snapshot
  const tagged = oldest === undefined ? undefined : beyondGap(metadata, oldest)
  if (tagged !== undefined) yield* lineage(metadata, tagged.snapshotId)
}

/** The snapshot from which the table's position is read: the nearest that has one, from `from` (the current one, where not given) back. */
export const positionSnapshot = (metadata: TableMetadata, from = metadata.currentSnapshotId): Snapshot | undefined => {
  for (const snapshot of positionLineage(metadata, from)) if (snapshot.summary[positionKey] !== undefined) return snapshot
  return undefined
}

/** An integer property, or the default where it is absent or no integer. */
export const intProperty = (metadata: TableMetadata, key: string, otherwise: number): number => {
  const text = metadata.properties[key]
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : otherwise
}
