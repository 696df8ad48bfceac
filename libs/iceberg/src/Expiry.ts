/** Which snapshots a table need not keep. Pure; never one that is current or that a reference names. */
import type { Snapshot } from "./Snapshot.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { intProperty } from "./TableMetadata.ts"

export const snapshotsMaxProperty = "voltlake.snapshots-max"
export const snapshotsMaxDefault = 200

/** Snapshots that no expiry may drop. */
const held = (metadata: TableMetadata): ReadonlySet<bigint> => {
  const ids = new Set(Object.values(metadata.refs).map((reference) => reference.snapshotId))
  if (metadata.currentSnapshotId !== undefined) ids.add(metadata.currentSnapshotId)
  return ids
}

/** The oldest snapshots that are too many: none up to the table's limit, then down to half of it. */
export const surplusSnapshots = (metadata: TableMetadata): ReadonlyArray<Snapshot> => {
  const max = Math.max(2, intProperty(metadata, snapshotsMaxProperty, snapshotsMaxDefault))
  if (metadata.snapshots.length <= max) return []
  const keep = held(metadata)
  const oldestFirst = [...metadata.snapshots].sort((a, b) => (a.sequenceNumber < b.sequenceNumber ? -1 : 1))
  return oldestFirst
    .slice(0, metadata.snapshots.length - Math.floor(max / 2))
    .filter((snapshot) => !keep.has(snapshot.snapshotId))
}
