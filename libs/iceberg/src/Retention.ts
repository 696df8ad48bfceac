/**
 * Which files nothing names any more once snapshots are dropped. They are not deleted here: readers that planned before may still need them.
 *
 * A table whose snapshots form one line, of which the oldest go, is the common case, and cheap: manifests leave a line only forward, so what the oldest
 * kept snapshot does not list, no later one does, but for manifests that a kept snapshot itself added. With several lines (tags and branches on old
 * snapshots, rollbacks) what kept snapshots name is read and compared.
 */
import { Effect } from "effect"
import type { ManifestFile } from "./DataFile.ts"
import type { Json } from "./Json.ts"
import type { Snapshot } from "./Snapshot.ts"
import type { EntryPath, TableReadError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { lineage } from "./TableMetadata.ts"

/** A snapshot whose list need not be written yet. */
export interface NewestSnapshot {
  readonly snapshot: Snapshot
  readonly manifests: ReadonlyArray<ManifestFile>
}

/** The manifests of some snapshots, by path. */
type Manifests = ReadonlyMap<string, ManifestFile>

const listReadsMax = 8
const manifestReadsMax = 8

/** Kept snapshots without a kept parent: where lines of snapshots now begin. */
const roots = (kept: TableMetadata): ReadonlyArray<Snapshot> => {
  const ids = new Set(kept.snapshots.map((snapshot) => snapshot.snapshotId))
  return kept.snapshots.filter((snapshot) =>
    snapshot.parentSnapshotId === undefined || !ids.has(snapshot.parentSnapshotId)
  )
}

/** Data files that these snapshots deleted. The deleting snapshot's own manifests say so; later ones may not. */
const deletedDataFiles = Effect.fnUntraced(function*(manifests: Iterable<ManifestFile>, deletedBy: ReadonlySet<bigint>) {
  const files = yield* TableFiles
  const withDeletes = Array.from(manifests).filter((manifest) =>
    manifest.deletedFilesCount > 0 && deletedBy.has(manifest.addedSnapshotId)
  )
  const deletedIn = (manifest: ManifestFile) =>
    Effect.map(files.paths(manifest), (entries) =>
      entries.filter((entry) => entry.status === "deleted" && deletedBy.has(entry.snapshotId)).map(({ filePath }) => filePath))
  return (yield* Effect.forEach(withDeletes, deletedIn, { concurrency: manifestReadsMax })).flat()
})

/** Whoever sets statistics may name any file: what the table itself consists of is never given up by them. */
const isOfTheTable = /\.(parquet|orc|avro|json)$/i

const statisticsFiles = (metadata: TableMetadata): ReadonlyArray<string> => {
  const pathIn = (statistics: Json) =>
    typeof statistics === "object" && statistics !== null && "statistics-path" in statistics ? statistics["statistics-path"] : undefined
  return [...metadata.statistics, ...metadata.partitionStatistics].map(pathIn)
    .filter((path) => typeof path === "string")
    .filter((path) => !isOfTheTable.test(path))
}

interface Dropped {
  readonly snapshots: ReadonlyArray<Snapshot>
  readonly manifests: Manifests
}

/** The oldest of one line are dropped: `root` is the oldest that is kept. */
const alongLine = Effect.fnUntraced(function*(
  dropped: Dropped,
  root: Snapshot,
  listOf: (snapshots: ReadonlyArray<Snapshot>) => Effect.Effect<Manifests, TableReadError>,
  kept: TableMetadata
) {
  const ofRoot = yield* listOf([root])
  const keptIds = new Set(kept.snapshots.map((snapshot) => snapshot.snapshotId))
  const manifests = Array.from(dropped.manifests.values()).filter((manifest) =>
    !ofRoot.has(manifest.manifestPath) && !keptIds.has(manifest.addedSnapshotId)
  )
  const deletedBy = new Set([...dropped.snapshots, root].map((snapshot) => snapshot.snapshotId))
  const dataFiles = yield* deletedDataFiles(new Map([...dropped.manifests, ...ofRoot]).values(), deletedBy)
  return { manifests, dataFiles }
})

/** What is known of some files together: the greatest data sequence number and the least file sequence number. */
interface Candidates {
  readonly paths: Set<string>
  newest: bigint
  oldest: bigint
}

/**
 * A manifest holds no live file that is older than its least data sequence number, and none that became part of the table after it was written
 * (specification: "Sequence Numbers").
 */
const mayHold = (manifest: ManifestFile, { newest, oldest }: Candidates): boolean =>
  manifest.addedFilesCount + manifest.existingFilesCount > 0 && manifest.minSequenceNumber <= newest && manifest.sequenceNumber >= oldest

/**
 * A file is live in every manifest that carries it on: it is gone with the last of them. Of the kept manifests, which may be those of a whole old table,
 * only those are read that may carry one of the files in question, a few at a time, until none is left.
 */
const comparing = Effect.fnUntraced(function*(
  dropped: Dropped,
  listOf: (snapshots: ReadonlyArray<Snapshot>) => Effect.Effect<Manifests, TableReadError>,
  kept: TableMetadata
) {
  const files = yield* TableFiles
  const named = yield* listOf(kept.snapshots)
  const manifests = Array.from(dropped.manifests.values()).filter((manifest) => !named.has(manifest.manifestPath))
  const forEachLive = (of: Iterable<ManifestFile>, isRead: (manifest: ManifestFile) => boolean, see: (entry: EntryPath) => void) =>
    Effect.forEach(of, (manifest) =>
      Effect.suspend(() =>
        isRead(manifest)
          ? Effect.map(files.paths(manifest), (entries) => entries.filter(({ status }) => status !== "deleted").forEach(see))
          : Effect.void
      ), { concurrency: manifestReadsMax, discard: true })
  const dataFiles = Effect.gen(function*() {
    const candidates: Candidates = { paths: new Set(), newest: 0n, oldest: 0n }
    yield* forEachLive(manifests, () => true, ({ filePath, fileSequenceNumber, sequenceNumber }) => {
      if (candidates.paths.size === 0 || fileSequenceNumber < candidates.oldest) candidates.oldest = fileSequenceNumber
      if (sequenceNumber > candidates.newest) candidates.newest = sequenceNumber
      candidates.paths.add(filePath)
    })
    const mayMatter = (manifest: ManifestFile) => candidates.paths.size > 0 && mayHold(manifest, candidates)
    yield* forEachLive(named.values(), mayMatter, ({ filePath }) => void candidates.paths.delete(filePath))
    return Array.from(candidates.paths)
  })
  // Where a manifest is gone, what it named is not known: left to the removal of orphans.
  return { manifests, dataFiles: yield* Effect.catchTag(dataFiles, "ObjectNotFound", () => Effect.succeed([])) }
})

/**
 * Manifest lists, manifests, data files and statistics that only snapshots name which `before` has and `after` has not. `newest` is the snapshot that
 * `after` has and `before` has not.
 */
export const namedByDroppedOnly = Effect.fn("Retention.namedByDroppedOnly")(function*(
  before: TableMetadata,
  after: TableMetadata,
  newest: NewestSnapshot | undefined
): Effect.fn.Return<ReadonlyArray<string>, TableReadError, TableFiles> {
  const keptIds = new Set(after.snapshots.map((snapshot) => snapshot.snapshotId))
  const keptStatistics = new Set(statisticsFiles(after))
  const statistics = statisticsFiles(before).filter((path) => !keptStatistics.has(path))
  const snapshots = before.snapshots.filter((snapshot) => !keptIds.has(snapshot.snapshotId))
  if (snapshots.length === 0) return statistics
  const files = yield* TableFiles
  const read = (snapshot: Snapshot) => {
    if (snapshot.snapshotId === newest?.snapshot.snapshotId) return Effect.succeed(newest.manifests)
    const list = files.manifestList(snapshot.manifestList)
    // One that is dropped and gone was cleaned away before: what it named went with it. What one that is kept names must not be taken for nothing.
    return keptIds.has(snapshot.snapshotId) ? list : Effect.catchTag(list, "ObjectNotFound", () => Effect.succeed([]))
  }
  const listOf = (some: ReadonlyArray<Snapshot>): Effect.Effect<Manifests, TableReadError> =>
    Effect.map(Effect.forEach(some, read, { concurrency: listReadsMax }), (all) =>
      new Map(all.flat().map((file) => [file.manifestPath, file])))
  const dropped = { snapshots, manifests: yield* listOf(snapshots) }
  const begin = roots(after)
  const root = begin[0]
  const all = { ...before, snapshots: [...before.snapshots, ...after.snapshots] }
  const ancestors = new Set(root === undefined ? [] : Array.from(lineage(all, root.snapshotId), (snapshot) => snapshot.snapshotId))
  const isLine = begin.length === 1 && snapshots.every((snapshot) => ancestors.has(snapshot.snapshotId))
  const { dataFiles, manifests } = isLine ? yield* alongLine(dropped, root!, listOf, after) : yield* comparing(dropped, listOf, after)
  return [
    ...snapshots.map((snapshot) => snapshot.manifestList),
    ...manifests.map((manifest) => manifest.manifestPath),
    ...new Set(dataFiles),
    ...statistics
  ]
})
