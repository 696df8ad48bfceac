/** A state of a table at one time (specification: "Snapshots"), as plain data. */
import type { JsonObject } from "./Json.ts"

/** Always with `operation`; every value is text. */
export type Summary = Readonly<Record<string, string>>

export interface Snapshot {
  readonly snapshotId: bigint
  readonly parentSnapshotId: bigint | undefined
  readonly sequenceNumber: bigint
  /** Milliseconds since 1970. */
  readonly timestampMs: number
  /** Location of the list of manifests. */
  readonly manifestList: string
  readonly summary: Summary
  readonly schemaId: number | undefined
  readonly extra: JsonObject
}

/** A branch or a tag. The branch `main` is the table's current snapshot. */
export interface SnapshotReference {
  readonly snapshotId: bigint
  readonly type: "branch" | "tag"
  readonly extra: JsonObject
}

/** Summary keys of ours. What begins with {@link ownPrefix} is carried on from snapshot to snapshot. */
export const ownPrefix = "voltlake."
export const commitIdKey = "voltlake.commit-id"
/** JSON, kept in the catalog's heads too. */
export const positionKey = "voltlake.position"

/** Guards the newest snapshot of ours, and the position in it, from anybody's expiry. */
export const positionTag = "voltlake-position"
export const mainBranch = "main"

export const commitId = (snapshot: Snapshot): string | undefined => snapshot.summary[commitIdKey]
