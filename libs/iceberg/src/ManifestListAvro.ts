/** Manifest lists as Avro (specification: "Manifest Lists"), format version 2. Reads by field id, so other writers' lists too. */
import { Either } from "effect"
import type { ManifestFile, PartitionFieldSummary } from "./DataFile.ts"
import * as AvroContainer from "./internal/AvroContainer.ts"
import type { Raw } from "./internal/AvroFields.ts"
import * as Fields from "./internal/AvroFields.ts"
import { TableFileInvalid } from "./TableMetadataJson.ts"

const field = (id: number, name: string, type: unknown) => ({ name, type, "field-id": id })
const optional = (id: number, name: string, type: unknown) => ({
  name,
  type: Fields.nullable(type),
  default: null,
  "field-id": id
})

const schema = {
  type: "record",
  name: "manifest_file",
  fields: [
    field(500, "manifest_path", "string"),
    field(501, "manifest_length", "long"),
    field(502, "partition_spec_id", "int"),
    field(517, "content", "int"),
    field(515, "sequence_number", "long"),
    field(516, "min_sequence_number", "long"),
    field(503, "added_snapshot_id", "long"),
    field(504, "added_files_count", "int"),
    field(505, "existing_files_count", "int"),
    field(506, "deleted_files_count", "int"),
    field(512, "added_rows_count", "long"),
    field(513, "existing_rows_count", "long"),
    field(514, "deleted_rows_count", "long"),
    optional(507, "partitions", {
      type: "array",
      "element-id": 508,
      items: {
        type: "record",
        name: "r508",
        fields: [
          field(509, "contains_null", "boolean"),
          optional(518, "contains_nan", "boolean"),
          optional(510, "lower_bound", "bytes"),
          optional(511, "upper_bound", "bytes")
        ]
      }
    }),
    optional(519, "key_metadata", "bytes")
  ]
}

const type = AvroContainer.typeOf(schema)

const names: ReadonlyMap<number, string> = new Map([
  ...schema.fields.map((entry) => [entry["field-id"], entry.name] as const),
  [509, "contains_null"] as const,
  [518, "contains_nan"] as const,
  [510, "lower_bound"] as const,
  [511, "upper_bound"] as const
])

const bufferOrNull = (value: Uint8Array | undefined) => (value === undefined ? null : Fields.asBuffer(value))

const toRecord = (manifest: ManifestFile) => ({
  manifest_path: manifest.manifestPath,
  manifest_length: manifest.manifestLength,
  partition_spec_id: manifest.partitionSpecId,
  content: manifest.content === "deletes" ? 1 : 0,
  sequence_number: manifest.sequenceNumber,
  min_sequence_number: manifest.minSequenceNumber,
  added_snapshot_id: manifest.addedSnapshotId,
  added_files_count: manifest.addedFilesCount,
  existing_files_count: manifest.existingFilesCount,
  deleted_files_count: manifest.deletedFilesCount,
  added_rows_count: manifest.addedRowsCount,
  existing_rows_count: manifest.existingRowsCount,
  deleted_rows_count: manifest.deletedRowsCount,
  partitions: manifest.partitions?.map((summary) => ({
    contains_null: summary.containsNull,
    contains_nan: summary.containsNan ?? null,
    lower_bound: bufferOrNull(summary.lowerBound),
    upper_bound: bufferOrNull(summary.upperBound)
  })) ?? null,
  key_metadata: bufferOrNull(manifest.keyMetadata)
})

export interface ManifestListOwner {
  readonly snapshotId: bigint
  readonly parentSnapshotId: bigint | undefined
  readonly sequenceNumber: bigint
}

/** `sync` are any 16 bytes, best random ones. */
export const encode = (
  manifests: ReadonlyArray<ManifestFile>,
  owner: ManifestListOwner,
  sync: Uint8Array
): Uint8Array =>
  AvroContainer.encode(
    schema,
    type,
    new Map([
      ["snapshot-id", String(owner.snapshotId)],
      ["parent-snapshot-id", owner.parentSnapshotId === undefined ? "null" : String(owner.parentSnapshotId)],
      ["sequence-number", String(owner.sequenceNumber)],
      ["format-version", "2"]
    ]),
    sync,
    manifests.map(toRecord)
  )

const readSummary = (value: unknown): PartitionFieldSummary => {
  const raw = value as Raw
  return {
    containsNull: Fields.bool(raw, "contains_null"),
    containsNan: Fields.optional(raw, "contains_nan", Fields.bool),
    lowerBound: Fields.optional(raw, "lower_bound", Fields.bytes),
    upperBound: Fields.optional(raw, "upper_bound", Fields.bytes)
  }
}

/** Where version 1 left a count out, there may be such files: none would hide them. Sequence numbers of version 1 are 0. */
const unknownCount = 1

const readManifest = (raw: Raw): ManifestFile => ({
  manifestPath: Fields.text(raw, "manifest_path"),
  manifestLength: Fields.long(raw, "manifest_length"),
  partitionSpecId: Fields.int(raw, "partition_spec_id"),
  content: Fields.optional(raw, "content", Fields.int) === 1 ? "deletes" : "data",
  sequenceNumber: Fields.optional(raw, "sequence_number", Fields.long) ?? 0n,
  minSequenceNumber: Fields.optional(raw, "min_sequence_number", Fields.long) ?? 0n,
  addedSnapshotId: Fields.long(raw, "added_snapshot_id"),
  addedFilesCount: Fields.optional(raw, "added_files_count", Fields.int) ?? unknownCount,
  existingFilesCount: Fields.optional(raw, "existing_files_count", Fields.int) ?? unknownCount,
  deletedFilesCount: Fields.optional(raw, "deleted_files_count", Fields.int) ?? unknownCount,
  addedRowsCount: Fields.optional(raw, "added_rows_count", Fields.long) ?? 0n,
  existingRowsCount: Fields.optional(raw, "existing_rows_count", Fields.long) ?? 0n,
  deletedRowsCount: Fields.optional(raw, "deleted_rows_count", Fields.long) ?? 0n,
  partitions: Fields.optional(raw, "partitions", Fields.items)?.map(readSummary),
  keyMetadata: Fields.optional(raw, "key_metadata", Fields.bytes)
})

export const decode = (
  bytes: Uint8Array,
  location: string
): Either.Either<ReadonlyArray<ManifestFile>, TableFileInvalid> =>
  Either.try({
    try: () => {
      const container = AvroContainer.decode(bytes)
      return container.records(Fields.renameById(container.schema, names)).map(readManifest)
    },
    catch: (cause) =>
      new TableFileInvalid({ location, path: "", reason: cause instanceof Error ? cause.message : String(cause) })
  })
