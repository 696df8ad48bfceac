/**
 * What snapshots of other engines hold, read from their manifests: nobody's summary is trusted. Manifests that the parent lists too are taken by the
 * list's counts, which were checked when they came.
 */
import { Effect } from "effect"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { ManifestFile } from "@voltlake/iceberg/DataFile"
import type { Snapshot } from "@voltlake/iceberg/Snapshot"
import { LocationForeign, TableFiles } from "@voltlake/iceberg/TableFiles"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import type { TableUpdate } from "@voltlake/iceberg/TableUpdate"
import { addedSnapshots, type Held, parentsOf } from "./OwnTables.ts"

const manifestReadsMax = 8

const listedRows = (manifest: ManifestFile) => manifest.addedRowsCount + manifest.existingRowsCount

interface Counted {
  readonly content: ManifestFile["content"]
  readonly rows: bigint
  readonly adds: boolean
}

const listed = (manifest: ManifestFile): Counted => ({ content: manifest.content, rows: listedRows(manifest), adds: false })

/** A manifest's live rows, file by file; each file must lie where we and the cleaner can reach it. */
const counted = Effect.fnUntraced(function*(manifest: ManifestFile, metadata: TableMetadata) {
  const files = yield* TableFiles
  const store = yield* ObjectStore
  const live = (yield* files.manifest(manifest, metadata)).filter((entry) => entry.status !== "deleted")
  const foreign = live.find((entry) => store.keyOf(entry.dataFile.filePath) === undefined)
  if (foreign !== undefined) return yield* new LocationForeign({ location: foreign.dataFile.filePath })
  return {
    content: manifest.content,
    rows: live.reduce((rows, entry) => rows + entry.dataFile.recordCount, 0n),
    adds: live.some((entry) => entry.status === "added")
  } satisfies Counted
})

const sum = (all: ReadonlyArray<Counted>): Held => {
  const rowsOf = (content: ManifestFile["content"]) => all.filter((one) => one.content === content).reduce((rows, one) => rows + one.rows, 0n)
  return { rows: rowsOf("data"), deletes: rowsOf("deletes"), addsDataFiles: all.some((one) => one.content === "data" && one.adds) }
}

/** Of the snapshots that the updates add and of their parents, which may be among the added ones. */
export const read = Effect.fn("SnapshotContents.read")(function*(metadata: TableMetadata, updates: ReadonlyArray<TableUpdate>) {
  const files = yield* TableFiles
  const lists = new Map<bigint, ReadonlyMap<string, ManifestFile>>()
  const held = new Map<bigint, Held>()
  const listOf = (snapshot: Snapshot) => Effect.map(files.manifestList(snapshot.manifestList), (all) => new Map(all.map((one) => [one.manifestPath, one])))
  for (const parent of parentsOf(metadata, updates)) {
    const list = yield* listOf(parent)
    lists.set(parent.snapshotId, list)
    held.set(parent.snapshotId, sum(Array.from(list.values(), listed)))
  }
  for (const snapshot of addedSnapshots(updates)) {
    const list = yield* listOf(snapshot)
    const before = snapshot.parentSnapshotId === undefined ? undefined : lists.get(snapshot.parentSnapshotId)
    const all = yield* Effect.forEach(list.values(), (manifest) => {
      const known = before?.get(manifest.manifestPath)
      return known === undefined ? counted(manifest, metadata) : Effect.succeed(listed(known))
    }, { concurrency: manifestReadsMax })
    lists.set(snapshot.snapshotId, list)
    held.set(snapshot.snapshotId, sum(all))
  }
  return held
})
