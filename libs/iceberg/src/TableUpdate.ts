/**
 * How a table's metadata changes by a commit. Pure: (metadata, change, time) gives new metadata.
 *
 * The new snapshot's time is after the last update even where the clock is wrong; `main` and the tag `voltlake-position` move to it; keys of ours in
 * the summary of the nearest ancestor that has any are carried on.
 */
import type { DataFile } from "./DataFile.ts"
import type { Json } from "./Json.ts"
import type { Snapshot, SnapshotReference, Summary } from "./Snapshot.ts"
import { mainBranch, ownPrefix, positionTag } from "./Snapshot.ts"
import type { SnapshotLogEntry, TableMetadata } from "./TableMetadata.ts"
import { currentSnapshot, intProperty, lineage } from "./TableMetadata.ts"

export const previousVersionsMaxProperty = "write.metadata.previous-versions-max"
export const previousVersionsMaxDefault = 100
export const snapshotsMaxProperty = "voltlake.snapshots-max"
export const snapshotsMaxDefault = 200

export interface Append {
  readonly snapshotId: bigint
  readonly manifestList: string
  readonly files: ReadonlyArray<DataFile>
  /** Keys of the caller for the summary; they win over inherited ones. */
  readonly summary: Summary
}

export interface UpdateTime {
  readonly nowMs: number
  /** Where `metadata` was read from: it joins the metadata log. */
  readonly metadataLocation: string
}

/** Metadata, and the metadata files that its log no longer names. */
export interface Updated {
  readonly metadata: TableMetadata
  readonly snapshot: Snapshot
  readonly unreferenced: ReadonlyArray<string>
}

/** The sequence number that the next snapshot gets. */
export const nextSequenceNumber = (metadata: TableMetadata): bigint => metadata.lastSequenceNumber + 1n

const sum = (files: ReadonlyArray<DataFile>, of: (file: DataFile) => bigint) =>
  files.reduce((total, file) => total + of(file), 0n)

/** A total of the parent with what is added; absent where the parent does not say it, since a wrong total is worse than none. */
const total = (parent: Snapshot | undefined, key: string, added: bigint): Summary => {
  if (parent === undefined) return { [key]: String(added) }
  const known = parent.summary[key]
  return known !== undefined && /^\d+$/.test(known) ? { [key]: String(BigInt(known) + added) } : {}
}

/** `changed-partition-count` and its like are for people; the totals are what engines read (specification: Appendix F, "Snapshot Summary"). */
const counts = (parent: Snapshot | undefined, files: ReadonlyArray<DataFile>): Summary => {
  const addedFiles = BigInt(files.length)
  const addedRecords = sum(files, (file) => file.recordCount)
  const addedSize = sum(files, (file) => file.fileSizeInBytes)
  const added = {
    "added-data-files": String(addedFiles),
    "added-records": String(addedRecords),
    "added-files-size": String(addedSize),
    "changed-partition-count": String(new Set(files.map((file) => `${file.specId}/${file.partition.join("/")}`)).size)
  }
  return {
    ...(files.length === 0 ? {} : added),
    ...total(parent, "total-records", addedRecords),
    ...total(parent, "total-files-size", addedSize),
    ...total(parent, "total-data-files", addedFiles),
    ...total(parent, "total-delete-files", 0n),
    ...total(parent, "total-position-deletes", 0n),
    ...total(parent, "total-equality-deletes", 0n)
  }
}

/** Keys of ours from the nearest ancestor, current one included, that has any. */
export const inherited = (metadata: TableMetadata): Summary => {
  for (const snapshot of lineage(metadata)) {
    const own = Object.entries(snapshot.summary).filter(([key]) => key.startsWith(ownPrefix))
    if (own.length > 0) return Object.fromEntries(own)
  }
  return {}
}

const moved = (
  refs: Readonly<Record<string, SnapshotReference>>,
  name: string,
  type: "branch" | "tag",
  snapshotId: bigint
): SnapshotReference => ({ snapshotId, type, extra: refs[name]?.extra ?? {} })

const appendedLog = (metadata: TableMetadata, metadataFile: string) => {
  const all = [...metadata.metadataLog, { metadataFile, timestampMs: metadata.lastUpdatedMs }]
  const keep = Math.max(1, intProperty(metadata, previousVersionsMaxProperty, previousVersionsMaxDefault))
  return { kept: all.slice(-keep), cut: all.slice(0, -keep).map((entry) => entry.metadataFile) }
}

/** The table with one more snapshot, whose files are added; without files only the position moves. */
export const append = (metadata: TableMetadata, change: Append, at: UpdateTime): Updated => {
  const parent = currentSnapshot(metadata)
  const timestampMs = Math.max(at.nowMs, metadata.lastUpdatedMs + 1)
  const snapshot: Snapshot = {
    snapshotId: change.snapshotId,
    parentSnapshotId: parent?.snapshotId,
    sequenceNumber: nextSequenceNumber(metadata),
    timestampMs,
    manifestList: change.manifestList,
    summary: { ...inherited(metadata), ...change.summary, operation: "append", ...counts(parent, change.files) },
    schemaId: metadata.currentSchemaId,
    extra: {}
  }
  const log = appendedLog(metadata, at.metadataLocation)
  return {
    snapshot,
    unreferenced: log.cut,
    metadata: {
      ...metadata,
      lastSequenceNumber: snapshot.sequenceNumber,
      lastUpdatedMs: timestampMs,
      currentSnapshotId: snapshot.snapshotId,
      snapshots: [...metadata.snapshots, snapshot],
      snapshotLog: [...metadata.snapshotLog, { snapshotId: snapshot.snapshotId, timestampMs }],
      metadataLog: log.kept,
      refs: {
        ...metadata.refs,
        [mainBranch]: moved(metadata.refs, mainBranch, "branch", snapshot.snapshotId),
        [positionTag]: moved(metadata.refs, positionTag, "tag", snapshot.snapshotId)
      }
    }
  }
}

/** The oldest snapshots that are too many: none up to the table's limit, then down to half of it. Never one that is current or that a reference names. */
export const surplusSnapshots = (metadata: TableMetadata): ReadonlyArray<Snapshot> => {
  const max = Math.max(2, intProperty(metadata, snapshotsMaxProperty, snapshotsMaxDefault))
  if (metadata.snapshots.length <= max) return []
  const held = new Set(Object.values(metadata.refs).map((reference) => reference.snapshotId))
  if (metadata.currentSnapshotId !== undefined) held.add(metadata.currentSnapshotId)
  const oldestFirst = [...metadata.snapshots].sort((a, b) => (a.sequenceNumber < b.sequenceNumber ? -1 : 1))
  return oldestFirst
    .slice(0, metadata.snapshots.length - Math.floor(max / 2))
    .filter((snapshot) => !held.has(snapshot.snapshotId))
}

/** The log from its last gap on: an entry before a dropped snapshot would claim a time that was another's. */
const logWithout = (log: ReadonlyArray<SnapshotLogEntry>, dropped: ReadonlySet<bigint>): typeof log => {
  const lastGap = log.findLastIndex((entry) => dropped.has(entry.snapshotId))
  return log.slice(lastGap + 1)
}

const belongsTo = (statistics: Json, ids: ReadonlySet<bigint>): boolean => {
  if (typeof statistics !== "object" || statistics === null || !("snapshot-id" in statistics)) return false
  const id = statistics["snapshot-id"]
  return (typeof id === "number" || typeof id === "bigint") && ids.has(BigInt(id))
}

/** The table without these snapshots. What only they named is for the caller to find. */
export const dropSnapshots = (metadata: TableMetadata, dropped: ReadonlyArray<Snapshot>): TableMetadata => {
  if (dropped.length === 0) return metadata
  const ids = new Set(dropped.map((snapshot) => snapshot.snapshotId))
  return {
    ...metadata,
    snapshots: metadata.snapshots.filter((snapshot) => !ids.has(snapshot.snapshotId)),
    snapshotLog: logWithout(metadata.snapshotLog, ids),
    statistics: metadata.statistics.filter((entry) => !belongsTo(entry, ids)),
    partitionStatistics: metadata.partitionStatistics.filter((entry) => !belongsTo(entry, ids))
  }
}
