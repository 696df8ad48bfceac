/** Which snapshots a table need not keep. Pure; never one that is current, that a reference names or from which the position is read. */
import type { Snapshot, SnapshotReference } from "./Snapshot.ts"
import { mainBranch, positionTag } from "./Snapshot.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { intProperty, lineage, positionSnapshot, snapshotById } from "./TableMetadata.ts"

export const snapshotsMaxProperty = "voltlake.snapshots-max"
export const snapshotsMaxDefault = 200

/** Snapshots that no expiry may drop. */
const held = (metadata: TableMetadata): ReadonlySet<bigint> => {
  const ids = new Set(Object.values(metadata.refs).map((reference) => reference.snapshotId))
  if (metadata.currentSnapshotId !== undefined) ids.add(metadata.currentSnapshotId)
  const position = positionSnapshot(metadata)
  if (position !== undefined) ids.add(position.snapshotId)
  return ids
}

export const maxSnapshotAgeProperty = "history.expire.max-snapshot-age-ms"
export const maxSnapshotAgeMsDefault = 5 * 24 * 60 * 60 * 1000
export const minSnapshotsProperty = "history.expire.min-snapshots-to-keep"
export const minSnapshotsDefault = 1
export const maxReferenceAgeProperty = "history.expire.max-ref-age-ms"

/** What a reference says itself wins over the table's property. */
const ofReference = ({ extra }: SnapshotReference, key: string, otherwise: number): number => {
  const own = extra[key]
  return typeof own === "number" || typeof own === "bigint" ? Number(own) : otherwise
}

/** Branches and tags whose snapshot is older than they are kept for; for ever where neither they nor the table say. */
export const referencesToExpire = (metadata: TableMetadata, nowMs: number): ReadonlyArray<string> => {
  const ofTable = intProperty(metadata, maxReferenceAgeProperty, Infinity)
  return Object.entries(metadata.refs)
    .filter(([name, reference]) => {
      if (name === mainBranch || name === positionTag) return false
      const snapshot = snapshotById(metadata, reference.snapshotId)
      return snapshot === undefined || nowMs - snapshot.timestampMs > ofReference(reference, "max-ref-age-ms", ofTable)
    })
    .map(([name]) => name)
}

/**
 * Snapshots that are older than the table's properties, or a branch's own settings, keep them (specification: "Snapshot Retention Policy"). References
 * count whatever their age: those of {@link referencesToExpire} go first, in a commit of their own or the same one.
 */
export const snapshotsToExpire = (metadata: TableMetadata, nowMs: number): ReadonlyArray<Snapshot> => {
  const maxAgeMs = intProperty(metadata, maxSnapshotAgeProperty, maxSnapshotAgeMsDefault)
  const minCount = Math.max(1, intProperty(metadata, minSnapshotsProperty, minSnapshotsDefault))
  const keep = new Set(held(metadata))
  const reachable = new Set(keep)
  for (const reference of Object.values(metadata.refs)) {
    if (reference.type === "tag") continue
    const oldestMs = nowMs - ofReference(reference, "max-snapshot-age-ms", maxAgeMs)
    const count = ofReference(reference, "min-snapshots-to-keep", minCount)
    Array.from(lineage(metadata, reference.snapshotId)).forEach((snapshot, index) => {
      reachable.add(snapshot.snapshotId)
      if (index < count || snapshot.timestampMs >= oldestMs) keep.add(snapshot.snapshotId)
    })
  }
  // Of no branch: rolled back, or replaced. Kept for as long as others, in case that was wrong.
  return metadata.snapshots.filter((snapshot) =>
    !keep.has(snapshot.snapshotId) && (reachable.has(snapshot.snapshotId) || snapshot.timestampMs < nowMs - maxAgeMs)
  )
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
