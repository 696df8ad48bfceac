/**
 * Which manifests of a table a commit writes together, so that a plan reads few (the specification allows it; Iceberg's own merge append does it).
 *
 * A large manifest joins only when the smaller ones together are about as large: then each entry is rewritten about log(n) times, not n/100 times.
 */
import type { DataFile, ManifestEntry, ManifestFile } from "./DataFile.ts"
import type { PartitionSpec } from "./PartitionSpec.ts"
import * as PartitionSummary from "./PartitionSummary.ts"
import { compare } from "./SingleValue.ts"
import type { ResolvedEntry } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { intProperty } from "./TableMetadata.ts"
import type { TableSchema } from "./Type.ts"

export const minCountToMergeProperty = "commit.manifest.min-count-to-merge"
export const minCountToMergeDefault = 100
export const targetSizeProperty = "commit.manifest.target-size-bytes"
export const targetSizeDefault = 8 * 1024 * 1024

/** Groups of manifests of one spec, each to become one. Order within a group is that of the list. */
export const plan = (
  manifests: ReadonlyArray<ManifestFile>,
  metadata: TableMetadata
): ReadonlyArray<ReadonlyArray<ManifestFile>> => {
  const minCount = Math.max(2, intProperty(metadata, minCountToMergeProperty, minCountToMergeDefault))
  const targetSize = BigInt(Math.max(1, intProperty(metadata, targetSizeProperty, targetSizeDefault)))
  const bySpec = new Map<number, Array<ManifestFile>>()
  for (const manifest of manifests) {
    if (manifest.content !== "data" || manifest.manifestLength >= targetSize) continue
    const group = bySpec.get(manifest.partitionSpecId) ?? []
    bySpec.set(manifest.partitionSpecId, [...group, manifest])
  }
  return Array.from(bySpec.values()).filter((group) => group.length >= minCount).flatMap((group) => {
    const chosen = new Set(smallest(group, targetSize))
    return chosen.size < 2 ? [] : [group.filter((manifest) => chosen.has(manifest))]
  })
}

const smallest = (group: ReadonlyArray<ManifestFile>, targetSize: bigint): ReadonlyArray<ManifestFile> => {
  const ascending = [...group].sort((a, b) => (a.manifestLength < b.manifestLength ? -1 : 1))
  const out: Array<ManifestFile> = []
  let size = 0n
  for (const manifest of ascending) {
    const tooLarge = out.length >= 1 && manifest.manifestLength > 2n * size
    if (tooLarge || size + manifest.manifestLength > targetSize) break
    out.push(manifest)
    size += manifest.manifestLength
  }
  return out
}

/** Live entries as a merged manifest holds them: existing, with all that they inherited written out. */
export const existing = (entries: ReadonlyArray<ResolvedEntry>): ReadonlyArray<ManifestEntry> =>
  entries.filter((entry) => entry.status !== "deleted").map((entry) => ({ ...entry, status: "existing" }))

/** `sequenceNumber` is when the rows became part of the table: with the commit, which has no number yet, where not given. */
export const added = (
  files: ReadonlyArray<DataFile>,
  snapshotId: bigint,
  sequenceNumber?: bigint
): ReadonlyArray<ManifestEntry> =>
  files.map((dataFile) => ({ status: "added", snapshotId, sequenceNumber, fileSequenceNumber: undefined, dataFile }))

const comparePartitions = (a: DataFile, b: DataFile): number => {
  for (let index = 0; index < a.partition.length; index++) {
    const [left, right] = [a.partition[index] ?? null, b.partition[index] ?? null]
    if (left === null || right === null) {
      if (left !== right) return left === null ? -1 : 1
      continue
    }
    const order = compare(left, right)
    if (order !== 0) return order
  }
  return 0
}

/** Entries of these manifests in groups of neighbouring partitions, each to become one manifest of about the target size. */
export const byPartition = (
  entries: ReadonlyArray<ManifestEntry>,
  from: ReadonlyArray<ManifestFile>,
  metadata: TableMetadata
): ReadonlyArray<ReadonlyArray<ManifestEntry>> => {
  const bytes = from.reduce((sum, manifest) => sum + Number(manifest.manifestLength), 0)
  const groups = Math.max(1, Math.ceil(bytes / Math.max(1, intProperty(metadata, targetSizeProperty, targetSizeDefault))))
  const each = Math.max(1, Math.ceil(entries.length / groups))
  const sorted = [...entries].sort((a, b) => comparePartitions(a.dataFile, b.dataFile))
  return Array.from({ length: Math.ceil(sorted.length / each) }, (_, index) => sorted.slice(index * each, (index + 1) * each))
}

/** What a manifest list says of a manifest, but for its sequence numbers. */
export type ManifestDescription = Omit<ManifestFile, "sequenceNumber" | "minSequenceNumber">

export const describe = (
  manifestPath: string,
  manifestLength: bigint,
  entries: ReadonlyArray<ManifestEntry>,
  spec: PartitionSpec,
  schemas: ReadonlyArray<TableSchema>,
  addedSnapshotId: bigint
): ManifestDescription => {
  const of = (status: ManifestEntry["status"]) => entries.filter((entry) => entry.status === status)
  const rows = (some: ReadonlyArray<ManifestEntry>) => some.reduce((sum, entry) => sum + entry.dataFile.recordCount, 0n)
  const [addedEntries, existingEntries, deletedEntries] = [of("added"), of("existing"), of("deleted")]
  return {
    manifestPath,
    manifestLength,
    partitionSpecId: spec.specId,
    content: "data",
    addedSnapshotId,
    addedFilesCount: addedEntries.length,
    existingFilesCount: existingEntries.length,
    deletedFilesCount: deletedEntries.length,
    addedRowsCount: rows(addedEntries),
    existingRowsCount: rows(existingEntries),
    deletedRowsCount: rows(deletedEntries),
    partitions: PartitionSummary.summarize(entries, spec, schemas),
    keyMetadata: undefined
  }
}
