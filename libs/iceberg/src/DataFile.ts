/** Data files, manifests and what they say of each other (specification: "Manifests", "Manifest Lists"), as plain data. */
import type { Partition } from "./PartitionSpec.ts"

/** Rows of data, or of what was deleted from other files. */
export type FileContent = "data" | "position-deletes" | "equality-deletes"

/** By field id. */
export type Counts = ReadonlyMap<number, bigint>
/** By field id, in the specification's single-value serialisation. */
export type Bounds = ReadonlyMap<number, Uint8Array>

export interface DataFile {
  readonly content: FileContent
  readonly filePath: string
  /** `PARQUET`, `AVRO`, `ORC`. */
  readonly fileFormat: string
  /** Not part of the file's record; a manifest holds files of one spec. */
  readonly specId: number
  readonly partition: Partition
  readonly recordCount: bigint
  readonly fileSizeInBytes: bigint
  readonly columnSizes: Counts
  /** Values, nulls and NaNs included. */
  readonly valueCounts: Counts
  readonly nullValueCounts: Counts
  readonly nanValueCounts: Counts
  readonly lowerBounds: Bounds
  readonly upperBounds: Bounds
  readonly keyMetadata: Uint8Array | undefined
  readonly splitOffsets: ReadonlyArray<bigint> | undefined
  readonly equalityIds: ReadonlyArray<number> | undefined
  readonly sortOrderId: number | undefined
}

export type EntryStatus = "existing" | "added" | "deleted"

/** `undefined` where the value is inherited from the manifest (specification: "Sequence Number Inheritance"). */
export interface ManifestEntry {
  readonly status: EntryStatus
  readonly snapshotId: bigint | undefined
  /** When the rows became part of the table; kept when a file is rewritten. */
  readonly sequenceNumber: bigint | undefined
  /** When the file became part of the table. */
  readonly fileSequenceNumber: bigint | undefined
  readonly dataFile: DataFile
}

/** Values of one partition field over all files of a manifest. */
export interface PartitionFieldSummary {
  readonly containsNull: boolean
  readonly containsNan: boolean | undefined
  readonly lowerBound: Uint8Array | undefined
  readonly upperBound: Uint8Array | undefined
}

export interface ManifestFile {
  readonly manifestPath: string
  readonly manifestLength: bigint
  readonly partitionSpecId: number
  readonly content: "data" | "deletes"
  readonly sequenceNumber: bigint
  /** The least data sequence number of the manifest's live files. */
  readonly minSequenceNumber: bigint
  readonly addedSnapshotId: bigint
  readonly addedFilesCount: number
  readonly existingFilesCount: number
  readonly deletedFilesCount: number
  readonly addedRowsCount: bigint
  readonly existingRowsCount: bigint
  readonly deletedRowsCount: bigint
  readonly partitions: ReadonlyArray<PartitionFieldSummary> | undefined
  readonly keyMetadata: Uint8Array | undefined
}
