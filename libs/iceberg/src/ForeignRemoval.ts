/**
 * Snapshots by which other engines took rows out of a table, or put others in their place. Each commit of ours carries the list on, since the snapshots
 * themselves may soon expire, until somebody has acknowledged it.
 */
import { Either, Schema } from "effect"
import type { Snapshot, Summary } from "./Snapshot.ts"
import { ownPrefix } from "./Snapshot.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { positionLineage } from "./TableMetadata.ts"

const ForeignRemoval = Schema.Struct({
  snapshotId: Schema.BigInt,
  operation: Schema.String,
  timestampMs: Schema.Number,
  /** As the engine says it, which may count rows that it wrote again. */
  deletedRecords: Schema.optional(Schema.String)
})
export type ForeignRemoval = typeof ForeignRemoval.Type

/** Summary key of ours. */
const key = "voltlake.removed-by-others"

/** The oldest are those that somebody looks for. */
const listedMax = 20

const List = Schema.parseJson(Schema.Array(ForeignRemoval))

/** A list that cannot be read is nobody's acknowledgement, and nothing rests on it but what is reported: it begins anew. */
const decode = (text: string | undefined): ReadonlyArray<ForeignRemoval> =>
  text === undefined ? [] : Either.getOrElse(Schema.decodeEither(List)(text), () => [])

export const summary = (removals: ReadonlyArray<ForeignRemoval>): Summary => ({
  [key]: Schema.encodeSync(List)(removals.slice(0, listedMax))
})

/** The snapshot itself, where it took rows out. */
export const of = ({ snapshotId, summary: { operation, ...rest }, timestampMs }: Snapshot): ReadonlyArray<ForeignRemoval> =>
  operation === "delete" || operation === "overwrite"
    ? [{ snapshotId, operation, timestampMs, deletedRecords: rest["deleted-records"] ?? rest["added-position-deletes"] }]
    : []

const isOurs = (snapshot: Snapshot) => Object.keys(snapshot.summary).some((name) => name.startsWith(ownPrefix))

/** All that nobody has acknowledged, oldest first, `from` (the current snapshot, where not given) included. */
export const unacknowledged = (metadata: TableMetadata, from = metadata.currentSnapshotId): ReadonlyArray<ForeignRemoval> => {
  const since: Array<Snapshot> = []
  for (const snapshot of positionLineage(metadata, from)) {
    if (isOurs(snapshot)) return [...decode(snapshot.summary[key]), ...since.reverse().flatMap(of)]
    since.push(snapshot)
  }
  return since.reverse().flatMap(of)
}
