/**
 * Which files nothing names any more once snapshots are dropped. They are not deleted here: readers that planned before may still need them.
 *
 * A table whose snapshots form one line, of which the oldest go, is the common case, and cheap: manifests leave a line only forward, so what the oldest
 * kept snapshot does not list, no later one does, but for manifests that a kept snapshot itself added. With several lines (tags and branches on old
 * snapshots, rollbacks) all that kept snapshots name is read and compared.
 */
import { Effect } from "effect"
import type { ManifestFile } from "./DataFile.ts"
import type { Json } from "./Json.ts"
import type { Snapshot } from "./Snapshot.ts"
import type { ResolvedEntry, TableReadError } from "./TableFiles.ts"
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

const readEntries = Effect.fnUntraced(function*(manifests: ReadonlyArray<ManifestFile>, metadata: TableMetadata) {
  const files = yield* TableFiles
  return (yield* Effect.forEach(manifests, (manifest) => files.manifest(manifest, metadata), { concurrency: manifestReadsMax })).flat()
})

const pathOf = (entry: ResolvedEntry) => entry.dataFile.filePath

/** Data files that these snapshots deleted. The deleting snapshot's own manifests say so; later ones may not. */
const deletedDataFiles = Effect.fnUntraced(function*(
  manifests: Iterable<ManifestFile>,
  deletedBy: ReadonlySet<bigint>,
  metadata: TableMetadata
) {
  const withDeletes = Array.from(manifests).filter((manifest) =>
    manifest.deletedFilesCount > 0 && deletedBy.has(manifest.addedSnapshotId)
  )
  const entries = yield* readEntries(withDeletes, metadata)
  return entries.filter((entry) => entry.status === "deleted" && deletedBy.has(entry.snapshotId)).map(pathOf)
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
  const dataFiles = yield* deletedDataFiles(new Map([...dropped.manifests, ...ofRoot]).values(), deletedBy, kept)
  return { manifests, dataFiles }
})

/** A file is live in every manifest that carries it on: it is gone with the last of them. */
const comparing = Effect.fnUntraced(function*(
  dropped: Dropped,
  listOf: (snapshots: ReadonlyArray<Snapshot>) => Effect.Effect<Manifests, TableReadError>,
  kept: TableMetadata
) {
  const named = yield* listOf(kept.snapshots)
  const manifests = Array.from(dropped.manifests.values()).filter((manifest) => !named.has(manifest.manifestPath))
  const livePaths = (of: ReadonlyArray<ManifestFile>) =>
    Effect.map(readEntries(of, kept), (entries) => new Set(entries.filter((entry) => entry.status !== "deleted").map(pathOf)))
  const dataFiles = Effect.gen(function*() {
    const candidates = yield* livePaths(manifests)
    const live = candidates.size === 0 ? candidates : yield* livePaths(Array.from(named.values()))
    return Array.from(candidates).filter((path) => !live.has(path))
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
