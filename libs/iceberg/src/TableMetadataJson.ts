/** Table metadata as JSON (specification: Appendix C, "Table Metadata and Snapshots"). Compact; 64-bit integers whole; unknown fields kept. */
import { Either, Schema } from "effect"
import type { JsonInvalid } from "./Json.ts"
import { decode as decodeJson, encode as encodeJson, type Node } from "./Json.ts"
import {
  decodeSchema,
  decodeSortOrder,
  decodeSpec,
  encodeSchema,
  encodeSortOrder,
  encodeSpec
} from "./SchemaJson.ts"
import { decodeReference, decodeSnapshot, encodeReference, snapshotText } from "./SnapshotJson.ts"
import type { TableMetadata } from "./TableMetadata.ts"

/** A file of a table (metadata, manifest list, manifest) is not what the specification says. */
export class TableFileInvalid extends Schema.TaggedError<TableFileInvalid>()("TableFileInvalid", {
  location: Schema.String,
  path: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.location}${this.path === "" ? "" : `, at ${this.path}`}: ${this.reason}`
  }
}

/** The table is of a format version that we do not read: we would miss what it means. */
export class FormatVersionUnsupported
  extends Schema.TaggedError<FormatVersionUnsupported>()("FormatVersionUnsupported", {
    location: Schema.String,
    formatVersion: Schema.Number
  })
{
  override get message() {
    return `${this.location} is of Iceberg format version ${this.formatVersion}; only version 2 is read`
  }
}

const knownFields = new Set([
  "format-version",
  "table-uuid",
  "location",
  "last-sequence-number",
  "last-updated-ms",
  "last-column-id",
  "schemas",
  "current-schema-id",
  "partition-specs",
  "default-spec-id",
  "last-partition-id",
  "sort-orders",
  "default-sort-order-id",
  "properties",
  "current-snapshot-id",
  "snapshots",
  "snapshot-log",
  "metadata-log",
  "refs",
  "statistics",
  "partition-statistics",
  // Copies of the current ones that some writers leave for readers of version 1. We write without them.
  "schema",
  "partition-spec"
])

const decodeMetadata = (root: Node): TableMetadata => {
  // Some writers say -1 for "none".
  const current = root.at("current-snapshot-id").optional((id) => id.long())
  return {
    formatVersion: 2,
    tableUuid: root.at("table-uuid").string(),
    location: root.at("location").string(),
    lastSequenceNumber: root.at("last-sequence-number").long(),
    lastUpdatedMs: root.at("last-updated-ms").int(),
    lastColumnId: root.at("last-column-id").int(),
    schemas: root.at("schemas").items().map(decodeSchema),
    currentSchemaId: root.at("current-schema-id").int(),
    partitionSpecs: root.at("partition-specs").items().map(decodeSpec),
    defaultSpecId: root.at("default-spec-id").int(),
    lastPartitionId: root.at("last-partition-id").int(),
    sortOrders: root.at("sort-orders").items().map(decodeSortOrder),
    defaultSortOrderId: root.at("default-sort-order-id").int(),
    properties: root.at("properties").strings(),
    currentSnapshotId: current === undefined || current < 0n ? undefined : current,
    snapshots: root.at("snapshots").list(decodeSnapshot),
    snapshotLog: root.at("snapshot-log").list((entry) => ({
      snapshotId: entry.at("snapshot-id").long(),
      timestampMs: entry.at("timestamp-ms").int()
    })),
    metadataLog: root.at("metadata-log").list((entry) => ({
      metadataFile: entry.at("metadata-file").string(),
      timestampMs: entry.at("timestamp-ms").int()
    })),
    refs: root.at("refs").isAbsent()
      ? {}
      : Object.fromEntries(root.at("refs").entries().map(([name, node]) => [name, decodeReference(node)])),
    statistics: root.at("statistics").list((node) => node.value ?? null),
    partitionStatistics: root.at("partition-statistics").list((node) => node.value ?? null),
    extra: root.extra(knownFields)
  }
}

const checkReferences = (root: Node, metadata: TableMetadata): TableMetadata => {
  const ids = new Set(metadata.snapshots.map((snapshot) => snapshot.snapshotId))
  if (!metadata.schemas.some((schema) => schema.schemaId === metadata.currentSchemaId)) {
    root.at("current-schema-id").fail(`no schema has the id ${metadata.currentSchemaId}`)
  }
  if (!metadata.partitionSpecs.some((spec) => spec.specId === metadata.defaultSpecId)) {
    root.at("default-spec-id").fail(`no partition spec has the id ${metadata.defaultSpecId}`)
  }
  if (metadata.currentSnapshotId !== undefined && !ids.has(metadata.currentSnapshotId)) {
    root.at("current-snapshot-id").fail(`no snapshot has the id ${metadata.currentSnapshotId}`)
  }
  return metadata
}

/** The metadata in a file's text, or what is wrong with it and where. */
export const decode = (
  text: string,
  location: string
): Either.Either<TableMetadata, TableFileInvalid | FormatVersionUnsupported> =>
  Either.flatMap(
    Either.mapLeft(
      decodeJson<TableMetadata | number>(text, (root) => {
        const version = root.at("format-version").int()
        return version === 2 ? checkReferences(root, decodeMetadata(root)) : version
      }),
      ({ path, reason }: JsonInvalid) => new TableFileInvalid({ location, path, reason })
    ),
    (decoded) =>
      typeof decoded === "number"
        ? Either.left(new FormatVersionUnsupported({ location, formatVersion: decoded }))
        : Either.right(decoded)
  )

export const encode = (metadata: TableMetadata): string => {
  const head = encodeJson({
    "format-version": metadata.formatVersion,
    "table-uuid": metadata.tableUuid,
    location: metadata.location,
    "last-sequence-number": metadata.lastSequenceNumber,
    "last-updated-ms": metadata.lastUpdatedMs,
    "last-column-id": metadata.lastColumnId,
    schemas: metadata.schemas.map(encodeSchema),
    "current-schema-id": metadata.currentSchemaId,
    "partition-specs": metadata.partitionSpecs.map(encodeSpec),
    "default-spec-id": metadata.defaultSpecId,
    "last-partition-id": metadata.lastPartitionId,
    "sort-orders": metadata.sortOrders.map(encodeSortOrder),
    "default-sort-order-id": metadata.defaultSortOrderId,
    properties: metadata.properties,
    ...(metadata.currentSnapshotId === undefined ? {} : { "current-snapshot-id": metadata.currentSnapshotId }),
    refs: Object.fromEntries(Object.entries(metadata.refs).map(([name, ref]) => [name, encodeReference(ref)])),
    "snapshot-log": metadata.snapshotLog.map((entry) => ({
      "snapshot-id": entry.snapshotId,
      "timestamp-ms": entry.timestampMs
    })),
    "metadata-log": metadata.metadataLog.map((entry) => ({
      "metadata-file": entry.metadataFile,
      "timestamp-ms": entry.timestampMs
    })),
    statistics: metadata.statistics,
    "partition-statistics": metadata.partitionStatistics,
    ...metadata.extra
  })
  return `${head.slice(0, -1)},"snapshots":[${metadata.snapshots.map(snapshotText).join(",")}]}`
}
