/**
 * Which files nothing names any more once snapshots are dropped. They are not deleted here: readers that planned before may still need them.
 *
 * Manifests leave a line of snapshots only forward, so what the oldest kept snapshot of a line does not list, no later one of it does, but for
 * manifests that a kept snapshot itself added.
 */
import { Effect } from "effect"
import type { ManifestFile } from "./DataFile.ts"
import type { Snapshot } from "./Snapshot.ts"
import type { TableReadError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"

const listReadsMax = 8

/** Kept snapshots without a kept parent: where lines of snapshots now begin. */
const roots = (kept: TableMetadata): ReadonlyArray<Snapshot> => {
  const ids = new Set(kept.snapshots.map((snapshot) => snapshot.snapshotId))
  return kept.snapshots.filter((snapshot) =>
    snapshot.parentSnapshotId === undefined || !ids.has(snapshot.parentSnapshotId)
  )
}

/** Data files that these snapshots deleted. The deleting snapshot's own manifests say so; later ones may not. */
const deletedDataFiles = Effect.fnUntraced(function*(
  manifests: Iterable<ManifestFile>,
  deletedBy: ReadonlySet<bigint>,
  metadata: TableMetadata
) {
  const files = yield* TableFiles
  const withDeletes = Array.from(manifests).filter((manifest) =>
    manifest.deletedFilesCount > 0 && deletedBy.has(manifest.addedSnapshotId)
  )
  const entries = yield* Effect.forEach(withDeletes, (manifest) => files.manifest(manifest, metadata))
  return entries.flat()
    .filter((entry) => entry.status === "deleted" && deletedBy.has(entry.snapshotId))
    .map((entry) => entry.dataFile.filePath)
})

/**
 * Manifest lists, manifests and data files that only dropped snapshots name. `kept` is the table without them; `newest` is its newest snapshot,
 * whose list need not be written yet.
 */
export const namedByDroppedOnly = Effect.fn("Retention.namedByDroppedOnly")(function*(
  dropped: ReadonlyArray<Snapshot>,
  kept: TableMetadata,
  newest: { readonly snapshot: Snapshot; readonly manifests: ReadonlyArray<ManifestFile> }
): Effect.fn.Return<ReadonlyArray<string>, TableReadError, TableFiles> {
  if (dropped.length === 0) return []
  const files = yield* TableFiles
  // A list that is gone was cleaned away before: what it named went with it.
  const listOf = (snapshot: Snapshot) =>
    snapshot.snapshotId === newest.snapshot.snapshotId
      ? Effect.succeed(newest.manifests)
      : Effect.catchTag(files.manifestList(snapshot.manifestList), "ObjectNotFound", () => Effect.succeed([]))
  const begin = roots(kept)
  const lists = (snapshots: ReadonlyArray<Snapshot>) =>
    Effect.map(Effect.forEach(snapshots, listOf, { concurrency: listReadsMax }), (all) => all.flat())
  const droppedManifests = new Map((yield* lists(dropped)).map((file) => [file.manifestPath, file]))
  const rootManifests = new Map((yield* lists(begin)).map((file) => [file.manifestPath, file]))
  const keptIds = new Set(kept.snapshots.map((snapshot) => snapshot.snapshotId))
  const goneManifests = Array.from(droppedManifests.values()).filter((manifest) =>
    !rootManifests.has(manifest.manifestPath) && !keptIds.has(manifest.addedSnapshotId)
  )
  // With several lines a file deleted in one may live in another: left to the removal of orphans.
  const dataFiles = begin.length > 1 ? [] : yield* deletedDataFiles(
    [...droppedManifests.values(), ...rootManifests.values()],
    new Set([...dropped, ...begin].map((snapshot) => snapshot.snapshotId)),
    kept
  )
  return [
    ...dropped.map((snapshot) => snapshot.manifestList),
    ...goneManifests.map((manifest) => manifest.manifestPath),
    ...new Set(dataFiles)
  ]
})
