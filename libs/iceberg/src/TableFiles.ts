/**
 * A table's own files (metadata, manifest lists, manifests) over the object store. They never change once written, so what was read or written is
 * remembered, within bounds.
 */
import { Context, Effect, Layer, Schema } from "effect"
import type { ObjectExists, ObjectNotFound, ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { DataFile, EntryStatus, ManifestEntry, ManifestFile } from "./DataFile.ts"
import * as BoundedCache from "./internal/BoundedCache.ts"
import type { Statistics } from "./internal/ManifestStatistics.ts"
import * as RandomId from "./internal/RandomId.ts"
import * as ManifestAvro from "./ManifestAvro.ts"
import * as ManifestListAvro from "./ManifestListAvro.ts"
import type { Partition } from "./PartitionSpec.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { specById } from "./TableMetadata.ts"
import type { FormatVersionUnsupported, TableFileInvalid } from "./TableMetadataJson.ts"
import * as TableMetadataJson from "./TableMetadataJson.ts"

/** A table names a file that lies outside our object store. */
export class LocationForeign extends Schema.TaggedError<LocationForeign>()("LocationForeign", {
  location: Schema.String
}) {
  override get message() {
    return `${this.location} lies outside the object store`
  }
}

export type TableReadError =
  | ObjectNotFound
  | ObjectStoreError
  | LocationForeign
  | TableFileInvalid
  | FormatVersionUnsupported

export type TableWriteError = ObjectExists | ObjectStoreError | LocationForeign

/** A manifest's entry with what it inherits filled in. */
export interface ResolvedEntry {
  readonly status: EntryStatus
  readonly snapshotId: bigint
  readonly sequenceNumber: bigint
  readonly fileSequenceNumber: bigint
  readonly dataFile: DataFile
}

/** What tells whether an entry matters. */
export interface EntrySelector {
  readonly sequenceNumber: bigint
  readonly partition: Partition
  /** The file's statistics, at least those of these columns. */
  readonly statistics: (fieldIds: ReadonlySet<number>) => Statistics
}

/** An entry without what it says of the file's content. */
export interface EntryPath extends Omit<ResolvedEntry, "dataFile"> {
  readonly filePath: string
}

/** A manifest as bytes: its length is known before it is written, so that the list that names it can be written at the same time. */
export interface EncodedManifest {
  readonly location: string
  readonly bytes: Uint8Array
}

export class TableFiles extends Context.Tag("@voltlake/iceberg/TableFiles")<TableFiles, {
  readonly metadata: (location: string) => Effect.Effect<TableMetadata, TableReadError>
  readonly putMetadata: (location: string, metadata: TableMetadata) => Effect.Effect<void, TableWriteError>
  readonly manifestList: (location: string) => Effect.Effect<ReadonlyArray<ManifestFile>, TableReadError>
  readonly putManifestList: (
    location: string,
    manifests: ReadonlyArray<ManifestFile>,
    owner: ManifestListAvro.ManifestListOwner
  ) => Effect.Effect<void, TableWriteError>
  /** `metadata` is the table's: it holds the manifest's partition spec. */
  readonly manifest: (
    file: ManifestFile,
    metadata: TableMetadata
  ) => Effect.Effect<ReadonlyArray<ResolvedEntry>, TableReadError>
  /** The manifest's live entries that `wants` wants. Of a large manifest the others are never decoded. */
  readonly selected: (
    file: ManifestFile,
    metadata: TableMetadata,
    wants: (head: EntrySelector) => boolean
  ) => Effect.Effect<ReadonlyArray<ResolvedEntry>, TableReadError>
  /** All entries, deleted ones too, without what they say of their files' content. Not remembered. */
  readonly paths: (file: ManifestFile) => Effect.Effect<ReadonlyArray<EntryPath>, TableReadError>
  readonly putManifest: (manifest: EncodedManifest) => Effect.Effect<void, TableWriteError>
  /** Deletes what can be deleted, and does not fail: for files that nobody needs. */
  readonly discard: (locations: Iterable<string>) => Effect.Effect<void>
}>() {}

/** Metadata of some tables and their last commits. Successive ones share their snapshots. */
const metadataMax = 64
/** Manifest files over all lists; successive lists share them. */
const listedManifestsMax = 50_000
/** An entry of a wide table takes some 10 kB. */
const manifestEntriesMax = 4000
/** A manifest of so few entries is decoded whole, and remembered. */
const manifestEntriesSmall = 400
/** Of larger manifests as bytes, for plans that read few of their entries. */
const manifestBytesMax = 64 * 1024 * 1024

const resolve = <A extends Omit<ManifestEntry, "dataFile">>(entries: ReadonlyArray<A>, file: ManifestFile) =>
  entries.map((entry) => ({
    ...entry,
    snapshotId: entry.snapshotId ?? file.addedSnapshotId,
    sequenceNumber: entry.sequenceNumber ?? file.sequenceNumber,
    fileSequenceNumber: entry.fileSequenceNumber ?? file.sequenceNumber
  }))

const make = Effect.gen(function*() {
  const store = yield* ObjectStore
  const metadatas = BoundedCache.make<TableMetadata>(metadataMax, () => 1)
  const lists = BoundedCache.make<ReadonlyArray<ManifestFile>>(listedManifestsMax, (list) => list.length + 1)
  const manifests = BoundedCache.make<ReadonlyArray<ResolvedEntry>>(manifestEntriesMax, (entries) => entries.length + 1)

  const keyOf = (location: string) => {
    const key = store.keyOf(location)
    return key === undefined ? Effect.fail(new LocationForeign({ location })) : Effect.succeed(key)
  }
  const read = (location: string) => Effect.flatMap(keyOf(location), store.get)
  const put = (location: string, body: Uint8Array) =>
    Effect.flatMap(keyOf(location), (key) => store.putIfAbsent(key, body))

  const bytes = BoundedCache.make<Uint8Array>(manifestBytesMax, (body) => body.length)

  const readManifest = (file: ManifestFile, metadata: TableMetadata, wants?: (head: ManifestAvro.EntryHead) => boolean) => {
    const spec = specById(metadata, file.partitionSpecId)
    if (spec === undefined) {
      const reason = `the table has no partition spec ${file.partitionSpecId}`
      return Effect.fail(
        new TableMetadataJson.TableFileInvalid({ location: file.manifestPath, path: "partition_spec_id", reason })
      )
    }
    const body = wants === undefined ? read(file.manifestPath) : bytes.get(file.manifestPath, read(file.manifestPath))
    return Effect.flatMap(body, (bytes) =>
      Effect.map(ManifestAvro.decode(bytes, spec, metadata.schemas, file.manifestPath, wants), ({ entries }) =>
        resolve(entries, file)))
  }

  return TableFiles.of({
    metadata: (location) =>
      metadatas.get(
        location,
        Effect.flatMap(read(location), (bytes) => TableMetadataJson.decode(new TextDecoder().decode(bytes), location))
      ),
    putMetadata: (location, metadata) =>
      Effect.suspend(() => put(location, new TextEncoder().encode(TableMetadataJson.encode(metadata)))).pipe(
        Effect.tap(() => Effect.sync(() => metadatas.set(location, metadata)))
      ),
    manifestList: (location) =>
      lists.get(location, Effect.flatMap(read(location), (bytes) => ManifestListAvro.decode(bytes, location))),
    putManifestList: (location, list, owner) =>
      Effect.flatMap(RandomId.bytes16, (sync) => put(location, ManifestListAvro.encode(list, owner, sync))).pipe(
        Effect.tap(() => Effect.sync(() => lists.set(location, list)))
      ),
    manifest: (file, metadata) => manifests.get(file.manifestPath, readManifest(file, metadata)),
    selected: (file, metadata, wants) => {
      const entries = file.addedFilesCount + file.existingFilesCount + file.deletedFilesCount
      if (entries > manifestEntriesSmall) {
        return readManifest(file, metadata, ({ partition, sequenceNumber, statistics, status }) =>
          status !== "deleted" && wants({ partition, sequenceNumber: sequenceNumber ?? file.sequenceNumber, statistics }))
      }
      return Effect.map(manifests.get(file.manifestPath, readManifest(file, metadata)), (all) =>
        all.filter(({ dataFile, sequenceNumber, status }) =>
          status !== "deleted" && wants({ partition: dataFile.partition, sequenceNumber, statistics: () => dataFile })))
    },
    paths: (file) =>
      Effect.flatMap(read(file.manifestPath), (bytes) =>
        Effect.map(ManifestAvro.decodePaths(bytes, file.manifestPath), (entries) => resolve(entries, file))),
    putManifest: ({ location, bytes }) => put(location, bytes),
    discard: (locations) =>
      Effect.forEach(
        locations,
        (location) => keyOf(location).pipe(Effect.flatMap(store.delete), Effect.ignoreLogged),
        { discard: true, concurrency: 4 }
      )
  })
})

export const layer: Layer.Layer<TableFiles, never, ObjectStore> = Layer.effect(TableFiles, make)
