/**
 * The snapshot that a commit of ours adds. Pure.
 *
 * Its time is after the last update even where the clock is wrong; `main` and the tag `voltlake-position` move to it; keys of ours in the summary of
 * the nearest ancestor that has any are carried on.
 */
import type { DataFile } from "./DataFile.ts"
import * as ForeignRemoval from "./ForeignRemoval.ts"
import type { Snapshot, Summary } from "./Snapshot.ts"
import { mainBranch, ownPrefix, positionTag } from "./Snapshot.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSnapshot, positionLineage } from "./TableMetadata.ts"
import type { TableUpdate } from "./TableUpdate.ts"

/** What became of a table's files (specification: "Snapshots", the summary's `operation`). */
export type Operation = "append" | "replace" | "overwrite" | "delete"

export interface SnapshotContents {
  readonly snapshotId: bigint
  readonly manifestList: string
  readonly operation: Operation
  readonly added: ReadonlyArray<DataFile>
  readonly removed: ReadonlyArray<DataFile>
  /** Keys of the caller for the summary; they win over inherited ones. */
  readonly summary: Summary
}

/** The sequence number that the next snapshot gets. */
export const nextSequenceNumber = (metadata: TableMetadata): bigint => metadata.lastSequenceNumber + 1n

const sum = (files: ReadonlyArray<DataFile>, of: (file: DataFile) => bigint) =>
  files.reduce((total, file) => total + of(file), 0n)

const records = (files: ReadonlyArray<DataFile>) => sum(files, (file) => file.recordCount)
const size = (files: ReadonlyArray<DataFile>) => sum(files, (file) => file.fileSizeInBytes)

/** A total of the parent, changed; absent where the parent does not say it, since a wrong total is worse than none. */
const total = (parent: Snapshot | undefined, key: string, change: bigint): Summary => {
  if (parent === undefined) return { [key]: String(change) }
  const known = parent.summary[key]
  if (known === undefined || !/^\d+$/.test(known)) return {}
  const value = BigInt(known) + change
  return value < 0n ? {} : { [key]: String(value) }
}

const changedPartitions = (files: ReadonlyArray<DataFile>) =>
  new Set(files.map((file) => `${file.specId}/${file.partition.join("/")}`)).size

/** `changed-partition-count` and its like are for people; the totals are what engines read (specification: Appendix F, "Snapshot Summary"). */
const counts = (parent: Snapshot | undefined, { added, removed }: SnapshotContents): Summary => ({
  ...(added.length === 0 ? {} : {
    "added-data-files": String(added.length),
    "added-records": String(records(added)),
    "added-files-size": String(size(added))
  }),
  ...(removed.length === 0 ? {} : {
    "deleted-data-files": String(removed.length),
    "deleted-records": String(records(removed)),
    "removed-files-size": String(size(removed))
  }),
  ...(added.length + removed.length === 0 ? {} : { "changed-partition-count": String(changedPartitions([...added, ...removed])) }),
  ...total(parent, "total-records", records(added) - records(removed)),
  ...total(parent, "total-files-size", size(added) - size(removed)),
  ...total(parent, "total-data-files", BigInt(added.length - removed.length)),
  ...total(parent, "total-delete-files", 0n),
  ...total(parent, "total-position-deletes", 0n),
  ...total(parent, "total-equality-deletes", 0n)
})

/** The nearest snapshot that has keys of ours, and so all that hold: each commit carries them on. */
export const nearestOwn = (metadata: TableMetadata, from = metadata.currentSnapshotId): Snapshot | undefined => {
  for (const snapshot of positionLineage(metadata, from)) if (Object.keys(snapshot.summary).some((key) => key.startsWith(ownPrefix))) return snapshot
  return undefined
}

/** Keys of ours from the nearest snapshot that has any, `from` (the current one, where not given) included. */
export const inherited = (metadata: TableMetadata, from = metadata.currentSnapshotId): Summary =>
  Object.fromEntries(Object.entries(nearestOwn(metadata, from)?.summary ?? {}).filter(([key]) => key.startsWith(ownPrefix)))

const foreignRemovals = (metadata: TableMetadata): Summary => {
  const removals = ForeignRemoval.unacknowledged(metadata)
  return removals.length === 0 ? {} : ForeignRemoval.summary(removals)
}

/** The table's next snapshot; without files only the position moves. */
export const make = (metadata: TableMetadata, contents: SnapshotContents, nowMs: number): Snapshot => {
  const parent = currentSnapshot(metadata)
  return {
    snapshotId: contents.snapshotId,
    parentSnapshotId: parent?.snapshotId,
    sequenceNumber: nextSequenceNumber(metadata),
    timestampMs: Math.max(nowMs, metadata.lastUpdatedMs + 1),
    manifestList: contents.manifestList,
    summary: {
      ...inherited(metadata),
      ...foreignRemovals(metadata),
      ...contents.summary,
      operation: contents.operation,
      ...counts(parent, contents)
    },
    schemaId: metadata.currentSchemaId,
    extra: {}
  }
}

/** Adds the snapshot and moves to it what names the newest one. What else the references say stays. */
export const updates = (metadata: TableMetadata, snapshot: Snapshot): ReadonlyArray<TableUpdate> => {
  const moved = (name: string, type: "branch" | "tag"): TableUpdate => ({
    action: "set-snapshot-ref",
    name,
    reference: { snapshotId: snapshot.snapshotId, type, extra: metadata.refs[name]?.extra ?? {} }
  })
  return [{ action: "add-snapshot", snapshot }, moved(mainBranch, "branch"), moved(positionTag, "tag")]
}
