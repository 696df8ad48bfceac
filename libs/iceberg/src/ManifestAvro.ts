/**
 * Manifests as Avro (specification: "Manifests", "Avro" in Appendix A), format version 2. Reads by field id, so other writers' manifests too.
 */
import { Either } from "effect"
import type { DataFile, EntryStatus, FileContent, ManifestEntry } from "./DataFile.ts"
import * as AvroContainer from "./internal/AvroContainer.ts"
import type { Raw } from "./internal/AvroFields.ts"
import * as Fields from "./internal/AvroFields.ts"
import type { Statistics } from "./internal/ManifestStatistics.ts"
import * as ManifestStatistics from "./internal/ManifestStatistics.ts"
import { encode as encodeJson } from "./Json.ts"
import type { Partition, PartitionSpec, PartitionValue } from "./PartitionSpec.ts"
import { fieldTypes } from "./PartitionSpec.ts"
import { encodeSchema, encodeSpecFields } from "./SchemaJson.ts"
import { TableFileInvalid } from "./TableMetadataJson.ts"
import type { PrimitiveType, TableSchema } from "./Type.ts"

export interface ManifestContents {
  readonly specId: number
  readonly content: "data" | "deletes"
  readonly entries: ReadonlyArray<ManifestEntry>
}

/** What a manifest is written with: its files' spec, the table's schemas, of which the last is the current one. */
export interface ManifestContext {
  readonly spec: PartitionSpec
  readonly schema: TableSchema
  readonly schemas: ReadonlyArray<TableSchema>
}

const statuses: ReadonlyArray<EntryStatus> = ["existing", "added", "deleted"]
const contents: ReadonlyArray<FileContent> = ["data", "position-deletes", "equality-deletes"]

/** The Avro type of a partition value (specification: Appendix A). */
const avroType = (type: PrimitiveType, fieldId: number): unknown => {
  switch (type.type) {
    case "boolean":
    case "int":
    case "long":
    case "float":
    case "double":
    case "string":
      return type.type
    case "binary":
      return "bytes"
    case "date":
      return { type: "int", logicalType: "date" }
    case "time":
      return { type: "long", logicalType: "time-micros" }
    case "timestamp":
      return { type: "long", logicalType: "timestamp-micros", "adjust-to-utc": false }
    case "timestamptz":
      return { type: "long", logicalType: "timestamp-micros", "adjust-to-utc": true }
    case "uuid":
      return { type: "fixed", name: `uuid_${fieldId}`, size: 16, logicalType: "uuid" }
    case "fixed":
      return { type: "fixed", name: `fixed_${fieldId}`, size: type.length }
    case "decimal": {
      const size = decimalSize(type.precision)
      const { precision, scale } = type
      return { type: "fixed", name: `decimal_${fieldId}`, size, logicalType: "decimal", precision, scale }
    }
  }
}

const decimalSize = (precision: number): number => {
  let size = 1
  while (2n ** BigInt(8 * size - 1) <= 10n ** BigInt(precision) - 1n) size++
  return size
}

/** A map as Iceberg writes it into Avro: an array of pairs, since Avro's own maps have text keys. */
const pairs = (keyId: number, valueId: number, value: "long" | "bytes") => ({
  type: "array",
  logicalType: "map",
  items: {
    type: "record",
    name: `k${keyId}_v${valueId}`,
    fields: [
      { name: "key", type: "int", "field-id": keyId },
      { name: "value", type: value, "field-id": valueId }
    ]
  }
})

const required = (id: number, name: string, type: unknown) => ({ name, type, "field-id": id })
const optional = (id: number, name: string, type: unknown) => ({
  name,
  type: Fields.nullable(type),
  default: null,
  "field-id": id
})

/** Names that Avro allows, as Iceberg makes them: `_xHH` for a character that it does not. */
const avroName = (name: string) =>
  name
    .replace(/^[^A-Za-z_]/, (first) => (/\d/.test(first) ? `_${first}` : escaped(first)))
    .replace(/[^A-Za-z0-9_]/g, escaped)
const escaped = (character: string) => `_x${character.charCodeAt(0).toString(16).toUpperCase()}`

const partitionSchema = (spec: PartitionSpec, types: ReadonlyArray<PrimitiveType>) => ({
  type: "record",
  name: "r102",
  fields: spec.fields.map((field, index) =>
    optional(field.fieldId, avroName(field.name), avroType(types[index]!, field.fieldId))
  )
})

const dataFileSchema = (partition: unknown) => ({
  type: "record",
  name: "r2",
  fields: [
    required(134, "content", "int"),
    required(100, "file_path", "string"),
    required(101, "file_format", "string"),
    required(102, "partition", partition),
    required(103, "record_count", "long"),
    required(104, "file_size_in_bytes", "long"),
    optional(108, "column_sizes", pairs(117, 118, "long")),
    optional(109, "value_counts", pairs(119, 120, "long")),
    optional(110, "null_value_counts", pairs(121, 122, "long")),
    optional(137, "nan_value_counts", pairs(138, 139, "long")),
    optional(125, "lower_bounds", pairs(126, 127, "bytes")),
    optional(128, "upper_bounds", pairs(129, 130, "bytes")),
    optional(131, "key_metadata", "bytes"),
    optional(132, "split_offsets", { type: "array", items: "long", "element-id": 133 }),
    optional(135, "equality_ids", { type: "array", items: "int", "element-id": 136 }),
    optional(140, "sort_order_id", "int")
  ]
})

const entrySchema = (partition: unknown) => ({
  type: "record",
  name: "manifest_entry",
  fields: [
    required(0, "status", "int"),
    optional(1, "snapshot_id", "long"),
    optional(3, "sequence_number", "long"),
    optional(4, "file_sequence_number", "long"),
    required(2, "data_file", dataFileSchema(partition))
  ]
})

const toPairs = <A>(map: ReadonlyMap<number, A>, value: (a: A) => unknown) =>
  map.size === 0 ? null : Array.from(map, ([key, a]) => ({ key, value: value(a) }))

const long = (value: bigint) => value

/** A partition value as Avro takes it. */
const toAvro = (value: PartitionValue, type: PrimitiveType): unknown => {
  if (value === null) return null
  if (value instanceof Uint8Array) return Fields.asBuffer(value)
  if (type.type === "decimal") return toFixedDecimal(BigInt(value as bigint), decimalSize(type.precision))
  return value
}

const toFixedDecimal = (value: bigint, size: number): Buffer => {
  const hex = BigInt.asUintN(size * 8, value).toString(16).padStart(size * 2, "0")
  return Buffer.from(hex, "hex")
}

const fromAvro = (value: unknown, type: PrimitiveType | undefined): PartitionValue => {
  if (value === null || value === undefined) return null
  if (type?.type === "decimal" && value instanceof Uint8Array) {
    const hex = Buffer.from(value).toString("hex")
    return hex === "" ? null : BigInt.asIntN(value.length * 8, BigInt(`0x${hex}`))
  }
  return value as PartitionValue
}

const toRecord = (entry: ManifestEntry, names: ReadonlyArray<string>, types: ReadonlyArray<PrimitiveType>) => {
  const file = entry.dataFile
  return {
    status: statuses.indexOf(entry.status),
    snapshot_id: entry.snapshotId ?? null,
    sequence_number: entry.sequenceNumber ?? null,
    file_sequence_number: entry.fileSequenceNumber ?? null,
    data_file: {
      content: contents.indexOf(file.content),
      file_path: file.filePath,
      file_format: file.fileFormat,
      partition: Object.fromEntries(
        names.map((name, index) => [name, toAvro(file.partition[index] ?? null, types[index]!)])
      ),
      record_count: file.recordCount,
      file_size_in_bytes: file.fileSizeInBytes,
      column_sizes: toPairs(file.columnSizes, long),
      value_counts: toPairs(file.valueCounts, long),
      null_value_counts: toPairs(file.nullValueCounts, long),
      nan_value_counts: toPairs(file.nanValueCounts, long),
      lower_bounds: toPairs(file.lowerBounds, Fields.asBuffer),
      upper_bounds: toPairs(file.upperBounds, Fields.asBuffer),
      key_metadata: file.keyMetadata === undefined ? null : Fields.asBuffer(file.keyMetadata),
      split_offsets: file.splitOffsets ?? null,
      equality_ids: file.equalityIds ?? null,
      sort_order_id: file.sortOrderId ?? null
    }
  }
}

/** A manifest of files of one spec. `sync` are any 16 bytes, best random ones. */
export const encode = (manifest: ManifestContents, context: ManifestContext, sync: Uint8Array): Uint8Array => {
  const types = fieldTypes(context.spec, context.schemas)
  const names = context.spec.fields.map((field) => avroName(field.name))
  const schema = entrySchema(partitionSchema(context.spec, types))
  const metadata = new Map([
    ["schema", encodeJson(encodeSchema(context.schema))],
    ["schema-id", String(context.schema.schemaId)],
    ["partition-spec", encodeJson(encodeSpecFields(context.spec))],
    ["partition-spec-id", String(context.spec.specId)],
    ["format-version", "2"],
    ["content", manifest.content]
  ])
  const records = manifest.entries.map((entry) => toRecord(entry, names, types))
  return AvroContainer.encode(schema, AvroContainer.typeOf(schema), metadata, sync, records)
}

const fixedNames: ReadonlyArray<readonly [number, string]> = [
  [0, "status"],
  [1, "snapshot_id"],
  [3, "sequence_number"],
  [4, "file_sequence_number"],
  [2, "data_file"],
  [134, "content"],
  [100, "file_path"],
  [101, "file_format"],
  [102, "partition"],
  [103, "record_count"],
  [104, "file_size_in_bytes"],
  [108, "column_sizes"],
  [109, "value_counts"],
  [110, "null_value_counts"],
  [137, "nan_value_counts"],
  [125, "lower_bounds"],
  [128, "upper_bounds"],
  [131, "key_metadata"],
  [132, "split_offsets"],
  [135, "equality_ids"],
  [140, "sort_order_id"]
]

/** Fields of a file's record but for the statistics. */
const plainFileFields = fixedNames.map(([, name]) => name).filter((name) => !ManifestStatistics.isOf(name))

const partitionName = (fieldId: number) => `partition_${fieldId}`

const readStatus = (raw: Raw): EntryStatus => statuses[Fields.int(raw, "status")] ?? "existing"

const readDataFile = (raw: Raw, spec: PartitionSpec, types: ReadonlyArray<PrimitiveType>, statistics: Statistics): DataFile => {
  return {
    content: contents[Fields.optional(raw, "content", Fields.int) ?? 0] ?? "data",
    filePath: Fields.text(raw, "file_path"),
    fileFormat: Fields.text(raw, "file_format"),
    specId: spec.specId,
    partition: readPartition(raw, spec, types),
    recordCount: Fields.long(raw, "record_count"),
    fileSizeInBytes: Fields.long(raw, "file_size_in_bytes"),
    ...statistics,
    keyMetadata: Fields.optional(raw, "key_metadata", Fields.bytes),
    splitOffsets: Fields.optional(raw, "split_offsets", Fields.items) as ReadonlyArray<bigint> | undefined,
    equalityIds: Fields.optional(raw, "equality_ids", Fields.items) as ReadonlyArray<number> | undefined,
    sortOrderId: Fields.optional(raw, "sort_order_id", Fields.int)
  }
}

/** What tells whether an entry matters, before the rest of it is decoded. */
export interface EntryHead {
  readonly status: EntryStatus
  /** Inherited where not given. */
  readonly sequenceNumber: bigint | undefined
  readonly partition: Partition
  /** The file's statistics of these columns only. */
  readonly statistics: (fieldIds: ReadonlySet<number>) => Statistics
}

/** What an entry says of its file, but for what the file holds. What it inherits from the manifest is `undefined`. */
export interface EntryPath extends Omit<ManifestEntry, "dataFile"> {
  readonly filePath: string
}

const readPartition = (file: Raw, spec: PartitionSpec, types: ReadonlyArray<PrimitiveType>): Partition => {
  const partition = Fields.record(file, "partition")
  return spec.fields.map((field, index) => fromAvro(partition[partitionName(field.fieldId)], types[index]))
}

const readEntry = (raw: Raw) => ({
  status: readStatus(raw),
  snapshotId: Fields.optional(raw, "snapshot_id", Fields.long),
  sequenceNumber: Fields.optional(raw, "sequence_number", Fields.long),
  fileSequenceNumber: Fields.optional(raw, "file_sequence_number", Fields.long)
})

const entryFields = ["status", "snapshot_id", "sequence_number", "file_sequence_number", "data_file"]

/** An entry's schema with these fields of its file only. */
const onlyOfFile = (schema: unknown, ofEntry: ReadonlyArray<string>, ofFile: ReadonlyArray<string>) =>
  Fields.onlyFields(schema, ofEntry, (name, type) => (name === "data_file" ? Fields.onlyFields(type, ofFile) : type))

const orInvalid = <A>(location: string, read: () => A): Either.Either<A, TableFileInvalid> =>
  Either.try({
    try: read,
    catch: (cause) => new TableFileInvalid({ location, path: "", reason: cause instanceof Error ? cause.message : String(cause) })
  })

/**
 * The entries as they are written; what they inherit from the manifest is `undefined`. The spec is the one that the manifest list names. Only those
 * that `wants` wants, where it is given.
 */
export const decode = (
  bytes: Uint8Array,
  spec: PartitionSpec,
  schemas: ReadonlyArray<TableSchema>,
  location: string,
  wants?: (head: EntryHead) => boolean
): Either.Either<ManifestContents, TableFileInvalid> =>
  orInvalid(location, () => {
    const container = AvroContainer.decode(bytes)
    const types = fieldTypes(spec, schemas)
    const names = new Map([
      ...fixedNames,
      ...spec.fields.map((field) => [field.fieldId, partitionName(field.fieldId)] as const)
    ])
    const schema = Fields.renameById(container.schema, names)
    const type = AvroContainer.typeOf(schema)
    const readHead = wants && AvroContainer.partReader(type, onlyOfFile(schema, ["status", "sequence_number", "data_file"], ["partition"]))
    const readPlain = AvroContainer.partReader(type, onlyOfFile(schema, entryFields, plainFileFields))
    const statisticsOf = ManifestStatistics.reader(schema)
    const isWanted = (raw: Raw, block: Buffer, position: number) =>
      wants === undefined || wants({
        status: readStatus(raw),
        sequenceNumber: Fields.optional(raw, "sequence_number", Fields.long),
        partition: readPartition(Fields.record(raw, "data_file"), spec, types),
        statistics: (fieldIds) => statisticsOf(block, position, fieldIds)
      })
    const entries: Array<ManifestEntry> = []
    container.each((block, position) => {
      if (readHead !== undefined) {
        const head = readHead(block, position)
        if (!isWanted(head.value, block, position)) return head.offset
      }
      const { offset, value } = readPlain(block, position)
      const dataFile = readDataFile(Fields.record(value, "data_file"), spec, types, statisticsOf(block, position))
      entries.push({ ...readEntry(value), dataFile })
      return offset
    })
    return { specId: spec.specId, content: container.metadata.get("content") === "deletes" ? "deletes" as const : "data" as const, entries }
  })

/** The files' paths, and what became of them. Much cheaper than all of it, in time and memory. */
export const decodePaths = (bytes: Uint8Array, location: string): Either.Either<ReadonlyArray<EntryPath>, TableFileInvalid> =>
  orInvalid(location, () => {
    const container = AvroContainer.decode(bytes)
    const schema = Fields.renameById(container.schema, new Map(fixedNames))
    const read = AvroContainer.partReader(AvroContainer.typeOf(schema), onlyOfFile(schema, entryFields, ["file_path"]))
    const paths: Array<EntryPath> = []
    container.each((block, position) => {
      const { offset, value } = read(block, position)
      paths.push({ ...readEntry(value), filePath: Fields.text(Fields.record(value, "data_file"), "file_path") })
      return offset
    })
    return paths
  })
