/** What a table is, as a process sees it that starts now: for tests of commits. */
import { Chunk, Effect, Stream } from "effect"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Action from "../Action.ts"
import { Catalog } from "../Catalog.ts"
import type { DataFile, ManifestEntry } from "../DataFile.ts"
import * as ManifestAvro from "../ManifestAvro.ts"
import * as ManifestMerge from "../ManifestMerge.ts"
import * as NewSnapshot from "../NewSnapshot.ts"
import { TableFiles } from "../TableFiles.ts"
import type { TableIdentifier } from "../TableIdentifier.ts"
import * as Metadata from "../TableMetadata.ts"
import * as Tables from "../Tables.ts"
import * as Transaction from "../Transaction.ts"

const nameOf = (file: DataFile) => /([^/]+)\.parquet$/.exec(file.filePath)![1]!

export const load = (table: TableIdentifier) => Effect.flatMap(Tables.Tables, (tables) => tables.load(table))

const manifests = (metadata: Metadata.TableMetadata, snapshot: { readonly manifestList: string }) =>
  Effect.gen(function*() {
    const files = yield* TableFiles
    const list = yield* files.manifestList(snapshot.manifestList)
    return yield* Effect.forEach(list, (manifest) => Effect.map(files.manifest(manifest, metadata), (entries) => ({ manifest, entries })))
  })

/** Live data files of the current snapshot with their sequence numbers: `a@1`. */
export const live = (table: TableIdentifier) =>
  Effect.gen(function*() {
    const { metadata } = yield* load(table)
    const current = Metadata.currentSnapshot(metadata)
    const all = current === undefined ? [] : yield* manifests(metadata, current)
    return all.flatMap(({ entries }) => entries)
      .filter((entry) => entry.status !== "deleted" && entry.dataFile.content === "data")
      .map((entry) => `${nameOf(entry.dataFile)}@${entry.sequenceNumber}`)
      .sort()
  })

export const manifestsOf = (table: TableIdentifier) =>
  Effect.flatMap(load(table), ({ metadata }) => manifests(metadata, Metadata.currentSnapshot(metadata)!))

/** Keys of the store. */
export const keys = Effect.flatMap(ObjectStore, (store) =>
  Effect.map(Stream.runCollect(store.list("")), (found) => Chunk.toReadonlyArray(found).map(({ key }) => key).sort()))

/** Keys of all files that the tables name, and of those that the catalog knows to be named no more. */
export const accountedFor = (tables: ReadonlyArray<TableIdentifier>) =>
  Effect.gen(function*() {
    const store = yield* ObjectStore
    const locations = new Set(yield* (yield* Catalog).expiredFiles(0))
    for (const table of tables) {
      const { metadata, metadataLocation } = yield* load(table)
      locations.add(metadataLocation)
      for (const entry of metadata.metadataLog) locations.add(entry.metadataFile)
      for (const snapshot of metadata.snapshots) {
        locations.add(snapshot.manifestList)
        for (const { entries, manifest } of yield* manifests(metadata, snapshot)) {
          locations.add(manifest.manifestPath)
          for (const entry of entries) if (entry.status !== "deleted") locations.add(entry.dataFile.filePath)
        }
      }
    }
    return Array.from(locations, (location) => store.keyOf(location)).filter((key) => key !== undefined)
  })

/** Another engine's commit of delete files, through updates as it would send them. */
export const addDeletes = (table: TableIdentifier, deletes: ReadonlyArray<DataFile>, commitId: string) =>
  Effect.gen(function*() {
    const files = yield* TableFiles
    const { metadata } = yield* load(table)
    const parent = Metadata.currentSnapshot(metadata)!
    const spec = Metadata.defaultSpec(metadata)
    const sequenceNumber = NewSnapshot.nextSequenceNumber(metadata)
    const snapshotId = sequenceNumber + 1000n
    const entries: ReadonlyArray<ManifestEntry> = ManifestMerge.added(deletes, snapshotId)
    const location = `${metadata.location}/metadata/${commitId}-deletes.avro`
    const context = { spec, schema: Metadata.currentSchema(metadata), schemas: metadata.schemas }
    const bytes = ManifestAvro.encode({ specId: spec.specId, content: "deletes", entries }, context, new Uint8Array(16))
    yield* files.putManifest({ location, bytes })
    const description = ManifestMerge.describe(location, BigInt(bytes.length), entries, spec, metadata.schemas, snapshotId)
    const listed = { ...description, content: "deletes" as const, sequenceNumber, minSequenceNumber: sequenceNumber }
    const manifestList = `${metadata.location}/metadata/${commitId}-list.avro`
    const contents = { snapshotId, manifestList, operation: "delete" as const, added: [], removed: [], summary: {} }
    const made = NewSnapshot.make(metadata, contents, metadata.lastUpdatedMs)
    const snapshot = { ...made, summary: { operation: "delete" } }
    yield* files.putManifestList(manifestList, [listed, ...(yield* files.manifestList(parent.manifestList))], snapshot)
    const main = { snapshotId, type: "branch" as const, extra: {} }
    const request = Action.requested(
      [{ type: "assert-ref-snapshot-id", ref: "main", snapshotId: parent.snapshotId }],
      [{ action: "add-snapshot", snapshot }, { action: "set-snapshot-ref", name: "main", reference: main }]
    )
    yield* Transaction.commit({ commitId, changes: [{ table, actions: [request] }] })
    return sequenceNumber
  })
