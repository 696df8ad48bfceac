/** One table's part of one attempt at a commit: everything is written, nothing is visible. */
import { Clock, Effect, Either } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { TableSwap } from "../Catalog.ts"
import type { DataFile, ManifestEntry, ManifestFile } from "../DataFile.ts"
import * as Expiry from "../Expiry.ts"
import * as ManifestAvro from "../ManifestAvro.ts"
import * as ManifestMerge from "../ManifestMerge.ts"
import * as NewSnapshot from "../NewSnapshot.ts"
import * as Retention from "../Retention.ts"
import type { Snapshot, Summary } from "../Snapshot.ts"
import { positionKey } from "../Snapshot.ts"
import type { EncodedManifest, TableReadError, TableWriteError } from "../TableFiles.ts"
import { TableFiles } from "../TableFiles.ts"
import type { TableMetadata } from "../TableMetadata.ts"
import * as Metadata from "../TableMetadata.ts"
import type { Table } from "../Tables.ts"
import { metadataFileLocation } from "../Tables.ts"
import * as TableUpdate from "../TableUpdate.ts"
import * as RandomId from "./RandomId.ts"

export interface StagedTable {
  readonly swap: TableSwap
  readonly snapshot: Snapshot
  readonly metadata: TableMetadata
  readonly unreferenced: ReadonlyArray<string>
}

/** Manifests of a commit's added files, the same for all attempts. */
export interface AddedFiles {
  readonly snapshotId: bigint
  readonly files: ReadonlyArray<DataFile>
  readonly manifests: ReadonlyArray<EncodedEntries>
}

export interface EncodedEntries extends EncodedManifest {
  readonly description: ManifestMerge.ManifestDescription
}

const manifestReadsMax = 8

type WriteError = TableReadError | TableWriteError

const fileName = (commitId: string, id: string, suffix: string) => `${commitId}-${id}-${suffix}.avro`

const encodeManifest = Effect.fnUntraced(function*(
  commitId: string,
  entries: ReadonlyArray<ManifestEntry>,
  metadata: TableMetadata,
  specId: number,
  snapshotId: bigint
) {
  const spec = Metadata.specById(metadata, specId)
  invariant(spec !== undefined, `the table has a partition spec ${specId}`)
  const location = `${metadata.location}/metadata/${fileName(commitId, yield* RandomId.uuid, `m${specId}`)}`
  const context = { spec, schema: Metadata.currentSchema(metadata), schemas: metadata.schemas }
  const bytes = ManifestAvro.encode({ specId, content: "data", entries }, context, yield* RandomId.bytes16)
  const length = BigInt(bytes.length)
  const description = ManifestMerge.describe(location, length, entries, spec, metadata.schemas, snapshotId)
  return { location, bytes, description }
})

/** One manifest for each partition spec among the files; not written yet. */
export const encodeAdded = Effect.fnUntraced(function*(
  commitId: string,
  added: ReadonlyArray<DataFile>,
  metadata: TableMetadata
): Effect.fn.Return<AddedFiles> {
  const snapshotId = yield* RandomId.snapshotId
  const specIds = Array.from(new Set(added.map((file) => file.specId))).sort((a, b) => a - b)
  const manifests = yield* Effect.forEach(specIds, (specId) => {
    const entries = ManifestMerge.added(added.filter((file) => file.specId === specId), snapshotId)
    return encodeManifest(commitId, entries, metadata, specId, snapshotId)
  })
  return { snapshotId, files: added, manifests }
})

/** The parent's manifests that have live files, small ones merged where they are many. */
const carriedOn = Effect.fnUntraced(function*(
  commitId: string,
  metadata: TableMetadata,
  snapshotId: bigint,
  note: (location: string) => void
): Effect.fn.Return<ReadonlyArray<ManifestFile>, WriteError, TableFiles> {
  const parent = Metadata.currentSnapshot(metadata)
  if (parent === undefined) return []
  const files = yield* TableFiles
  const listed = yield* files.manifestList(parent.manifestList)
  // A manifest of deletions only has told its story in the snapshot that made it.
  const live = listed.filter((manifest) => manifest.addedFilesCount + manifest.existingFilesCount > 0)
  const groups = ManifestMerge.plan(live, metadata)
  if (groups.length === 0) return live
  const gone = new Set(groups.flat())
  const merged = yield* Effect.forEach(groups, (group) =>
    Effect.gen(function*() {
      const resolved = yield* Effect.forEach(group, (manifest) => files.manifest(manifest, metadata), {
        concurrency: manifestReadsMax
      })
      const entries = ManifestMerge.existing(resolved.flat())
      const specId = group[0]!.partitionSpecId
      const manifest = yield* encodeManifest(commitId, entries, metadata, specId, snapshotId)
      note(manifest.location)
      yield* files.putManifest(manifest)
      const minSequenceNumber = group.reduce(
        (least, manifest) => (manifest.minSequenceNumber < least ? manifest.minSequenceNumber : least),
        group[0]!.minSequenceNumber
      )
      return { ...manifest.description, sequenceNumber: NewSnapshot.nextSequenceNumber(metadata), minSequenceNumber }
    }))
  return [...merged, ...live.filter((manifest) => !gone.has(manifest))]
})

/** The updates, and after them the drop of snapshots that are too many. */
const applied = (metadata: TableMetadata, updates: ReadonlyArray<TableUpdate.TableUpdate>, at: TableUpdate.UpdateTime) =>
  Either.gen(function*() {
    const all = yield* TableUpdate.apply(metadata, updates, at)
    const dropped = Expiry.surplusSnapshots(all.metadata)
    if (dropped.length === 0) return { ...all, dropped }
    const removal = { action: "remove-snapshots" as const, snapshotIds: dropped.map((one) => one.snapshotId) }
    return { ...(yield* TableUpdate.apply(metadata, [...updates, removal], at)), dropped }
  })

/** Writes manifest list and metadata for one table. `note` hears of every file before it is written. */
export const stage = Effect.fnUntraced(function*(
  commitId: string,
  table: Table,
  added: AddedFiles,
  summary: Summary,
  note: (location: string) => void
): Effect.fn.Return<StagedTable, WriteError, TableFiles> {
  const files = yield* TableFiles
  const { metadata, metadataLocation } = table
  const sequenceNumber = NewSnapshot.nextSequenceNumber(metadata)
  const carried = yield* carriedOn(commitId, metadata, added.snapshotId, note)
  const manifests: ReadonlyArray<ManifestFile> = [
    ...added.manifests.map(({ description }) => ({
      ...description,
      sequenceNumber,
      minSequenceNumber: sequenceNumber
    })),
    ...carried
  ]
  const manifestList = `${metadata.location}/metadata/${fileName(commitId, yield* RandomId.uuid, "list")}`
  const nowMs = yield* Clock.currentTimeMillis
  const contents = { snapshotId: added.snapshotId, manifestList, operation: "append" as const, added: added.files, removed: [], summary }
  const snapshot = NewSnapshot.make(metadata, contents, nowMs)
  const updated = yield* Effect.orDie(applied(metadata, NewSnapshot.updates(metadata, snapshot), { nowMs, metadataLocation }))
  const gone = yield* Retention.namedByDroppedOnly(updated.dropped, updated.metadata, { snapshot, manifests })
  const next = yield* metadataFileLocation(metadata.location, metadataLocation)
  note(manifestList)
  note(next)
  yield* Effect.all([files.putManifestList(manifestList, manifests, snapshot), files.putMetadata(next, updated.metadata)], {
    concurrency: "unbounded",
    discard: true
  })
  return {
    swap: {
      table: table.identifier,
      expected: metadataLocation,
      next,
      snapshotId: added.snapshotId,
      position: snapshot.summary[positionKey]
    },
    snapshot,
    metadata: updated.metadata,
    unreferenced: [...updated.unreferenced, ...gone]
  }
})
