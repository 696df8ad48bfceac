/** What a reader must fetch. Plans from metadata and manifests alone; fetching the files is the caller's. */
import { Effect, Schema } from "effect"
import { decode } from "./BoundsBinary.ts"
import type { SingleValue } from "./SingleValue.ts"
import type { DataFile, ManifestFile } from "./DataFile.ts"
import type { Snapshot, Summary } from "./Snapshot.ts"
import type { ResolvedEntry, TableReadError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { lineage, snapshotById } from "./TableMetadata.ts"
import type { Leaf } from "./Type.ts"
import { long } from "./Type.ts"

/** The table has delete files (another engine's merge-on-read), which we do not apply: reading without them would show deleted rows. */
export class UnsupportedDeleteFiles
  extends Schema.TaggedError<UnsupportedDeleteFiles>()("UnsupportedDeleteFiles", {
    table: Schema.String,
    snapshotId: Schema.BigIntFromSelf,
    manifest: Schema.String
  })
{
  override get message() {
    return `${this.table} has delete files (${this.manifest}), which are not supported; ` +
      `rewrite its data files with the engine that wrote them`
  }
}

/** The snapshot was expired, or never was. */
export class SnapshotNotFound extends Schema.TaggedError<SnapshotNotFound>()("SnapshotNotFound", {
  table: Schema.String,
  snapshotId: Schema.BigIntFromSelf
}) {
  override get message() {
    return `${this.table} has no snapshot ${this.snapshotId}`
  }
}

/** A live file and the sequence number at which its rows became part of the table, which rewriting keeps. */
export interface PlannedFile {
  readonly file: DataFile
  readonly sequenceNumber: bigint
}

export interface ScanOptions {
  /** The current snapshot where not given. */
  readonly snapshotId?: bigint | undefined
  /** Only rows that became part of the table after this sequence number. */
  readonly afterSequence?: bigint | undefined
}

export type ScanError = TableReadError | UnsupportedDeleteFiles | SnapshotNotFound

const manifestReadsMax = 4

/** A manifest holds nothing newer than itself. */
const mayHold = (manifest: ManifestFile, afterSequence: bigint | undefined): boolean =>
  manifest.addedFilesCount + manifest.existingFilesCount > 0 &&
  (afterSequence === undefined || manifest.sequenceNumber > afterSequence)

const isWanted = (entry: ResolvedEntry, afterSequence: bigint | undefined): boolean =>
  entry.status !== "deleted" && (afterSequence === undefined || entry.sequenceNumber > afterSequence)

/** Live files of one snapshot; none for a table without a snapshot. */
export const planFiles = Effect.fn("Scan.planFiles")(function*(
  metadata: TableMetadata,
  options: ScanOptions = {}
): Effect.fn.Return<ReadonlyArray<PlannedFile>, ScanError, TableFiles> {
  const snapshotId = options.snapshotId ?? metadata.currentSnapshotId
  if (snapshotId === undefined) return []
  const snapshot = snapshotById(metadata, snapshotId)
  if (snapshot === undefined) return yield* new SnapshotNotFound({ table: metadata.location, snapshotId })
  const files = yield* TableFiles
  const manifests = yield* files.manifestList(snapshot.manifestList)
  const deletes = manifests.find((manifest) => manifest.content === "deletes" && mayHold(manifest, undefined))
  if (deletes !== undefined) {
    return yield* new UnsupportedDeleteFiles({
      table: metadata.location,
      snapshotId,
      manifest: deletes.manifestPath
    })
  }
  const entries = yield* Effect.forEach(
    manifests.filter((manifest) => manifest.content === "data" && mayHold(manifest, options.afterSequence)),
    (manifest) => files.manifest(manifest, metadata),
    { concurrency: manifestReadsMax }
  )
  return entries.flat()
    .filter((entry) => isWanted(entry, options.afterSequence))
    .map((entry) => ({ file: entry.dataFile, sequenceNumber: entry.sequenceNumber }))
})

/** The newest snapshot of the current lineage, current one included, whose summary satisfies the predicate. */
export const findAncestor = (
  metadata: TableMetadata,
  predicate: (summary: Summary) => boolean
): Snapshot | undefined => {
  for (const snapshot of lineage(metadata)) if (predicate(snapshot.summary)) return snapshot
  return undefined
}

/** The least value that the column may have in the file, or undefined where that is not known. Strings may be cut short. */
export const lowerBound = (file: DataFile, leaf: Pick<Leaf, "id" | "type">): SingleValue | undefined => {
  const bytes = file.lowerBounds.get(leaf.id)
  return bytes === undefined ? undefined : decode(leaf.type, bytes)
}

/** The greatest value that the column may have in the file, or undefined where that is not known. */
export const upperBound = (file: DataFile, leaf: Pick<Leaf, "id" | "type">): SingleValue | undefined => {
  const bytes = file.upperBounds.get(leaf.id)
  return bytes === undefined ? undefined : decode(leaf.type, bytes)
}

/** Whether a file may hold a value of a long column in `[start, end)`. True where its bounds are not known. */
export const mayHoldLong = (file: DataFile, fieldId: number, start: bigint, end: bigint): boolean => {
  const low = lowerBound(file, { id: fieldId, type: long })
  const high = upperBound(file, { id: fieldId, type: long })
  return !(typeof low === "bigint" && low >= end) && !(typeof high === "bigint" && high < start)
}
