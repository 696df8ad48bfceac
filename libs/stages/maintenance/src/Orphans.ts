/**
 * Finds files below a table that no table metadata names: what processes left that died before their commit. They are put on the list of files that
 * nothing names any more, from where the cleaner deletes them once the grace period is over.
 *
 * A process that slept for days must not commit files that are gone. So the commit ids that the files' names bear are retired first, which the catalog
 * refuses from then on, and only then is looked once more whether a commit of theirs has become visible. A metadata file that could still be swapped
 * in, since the table has not gone past its number, is left alone.
 */
import { Clock, Duration, Effect, Stream } from "effect"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { ManifestFile } from "@voltlake/iceberg/DataFile"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { metadataVersion, type Table, Tables } from "@voltlake/iceberg/Tables"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"

/** Iceberg's own default. Files of a commit under way are younger, other engines' included. */
export const olderThanDefault = Duration.days(3)

const statisticsPaths = (metadata: TableMetadata): ReadonlyArray<string> =>
  [...metadata.statistics, ...metadata.partitionStatistics].flatMap((entry) =>
    typeof entry === "object" && entry !== null && "statistics-path" in entry && typeof entry["statistics-path"] === "string"
      ? [entry["statistics-path"]]
      : [])

/** Every file that the table names, in any of its snapshots. Manifests are read one at a time. */
const named = Effect.fnUntraced(function*({ metadata, metadataLocation }: Table) {
  const files = yield* TableFiles
  const out = new Set([metadataLocation, ...metadata.metadataLog.map((entry) => entry.metadataFile), ...statisticsPaths(metadata)])
  const manifests = new Map<string, ManifestFile>()
  for (const { manifestList } of metadata.snapshots) {
    out.add(manifestList)
    for (const manifest of yield* files.manifestList(manifestList)) manifests.set(manifest.manifestPath, manifest)
  }
  for (const manifest of manifests.values()) {
    out.add(manifest.manifestPath)
    for (const { dataFile } of yield* files.manifest(manifest, metadata)) out.add(dataFile.filePath)
  }
  return out
})

const fileName = (location: string) => location.slice(location.lastIndexOf("/") + 1)

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
const namedByCommit = new RegExp(`^(${uuid})-[^/]*\\.(?:parquet|avro)$`)
/** Files that another engine wrote for a commit of ours lie in a folder that it names. */
const stagedForCommit = new RegExp(`/staged/(${uuid})/`)

const commitIdOf = (location: string): string | undefined => (stagedForCommit.exec(location) ?? namedByCommit.exec(fileName(location)))?.[1]

const mayBecomeCurrent = (location: string, current: string): boolean => {
  const version = metadataVersion(location)
  const at = metadataVersion(current)
  return version !== undefined && (at === undefined || version > at)
}

/** What to remove below a table, and how much that is. */
export interface Found {
  readonly locations: ReadonlyArray<string>
  readonly bytes: number
}

/** Files below the table that it does not name and that were written `olderThan` ago or before. Changes nothing. */
export const find = Effect.fn("Orphans.find")(function*(table: Table, olderThan: Duration.Duration) {
  const store = yield* ObjectStore
  const folder = store.keyOf(table.metadata.location.replace(/\/+$/, ""))
  // A table elsewhere is not ours to tidy.
  if (folder === undefined) return { locations: [], bytes: 0 } satisfies Found
  const known = yield* named(table)
  const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(olderThan)
  return yield* store.list(`${folder}/`).pipe(
    Stream.filter(({ modifiedAtMs }) => modifiedAtMs <= before),
    Stream.map(({ key, sizeBytes }) => ({ location: store.location(key), sizeBytes })),
    Stream.filter(({ location }) => !known.has(location) && !mayBecomeCurrent(location, table.metadataLocation)),
    Stream.runFold({ locations: [], bytes: 0 } as Found, ({ bytes, locations }, { location, sizeBytes }) => ({
      locations: [...locations, location],
      bytes: bytes + sizeBytes
    }))
  )
})

/** Hands the table's orphans to the cleaner. */
export const remove = Effect.fn("Orphans.remove")(function*(identifier: TableIdentifier, olderThan: Duration.Duration) {
  const tables = yield* Tables
  const catalog = yield* Catalog
  const first = yield* find(yield* tables.load(identifier), olderThan)
  if (first.locations.length === 0) return first
  yield* catalog.retire(Array.from(new Set(first.locations.flatMap((location) => commitIdOf(location) ?? []))))
  const known = yield* named(yield* tables.load(identifier))
  const locations = first.locations.filter((location) => !known.has(location))
  yield* catalog.unreference(locations)
  yield* Effect.logInfo("found files that no table names").pipe(Effect.annotateLogs({ table: render(identifier), files: locations.length }))
  return { ...first, locations }
})
