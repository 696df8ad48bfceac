/** What another engine may do to our tables: it writes valid Iceberg, and knows nothing of positions, counters and keys. */
import { Clock, Effect } from "effect"
import * as DayFiles from "@voltlake/connectors/DayFiles"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import type { TableContract } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { encodeAdded } from "@voltlake/iceberg/internal/StagedTable"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import type { Operation } from "@voltlake/iceberg/NewSnapshot"
import { mainBranch, ownPrefix, type Summary } from "@voltlake/iceberg/Snapshot"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import { metadataFileLocation } from "@voltlake/iceberg/Tables"
import * as TableUpdate from "@voltlake/iceberg/TableUpdate"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { newCommitId } from "./StageLake.ts"

export interface Overwrite {
  /** Rows of the new snapshot, given a relation of those of the current one. */
  readonly rows: (relation: string) => string
  /** The new snapshot's summary, given the one that a commit of ours would have. Without ours where not given. */
  readonly summary?: (inherited: Summary) => Summary
  /** An overwrite where not given. */
  readonly operation?: Operation
}

const withoutOurs = (summary: Summary): Summary =>
  Object.fromEntries(Object.entries(summary).filter(([key]) => !key.startsWith(ownPrefix)))

/** A snapshot whose files are all new. */
export const overwrite = Effect.fn("OtherEngine.overwrite")(function*(contract: TableContract, { operation = "overwrite", rows, summary = withoutOurs }: Overwrite) {
  const files = yield* TableFiles
  const connection = yield* (yield* QueryEngine).connect
  const { identifier, metadata, metadataLocation } = yield* LakeTables.ensure(contract)
  const commitId = yield* newCommitId
  const relation = `(${rows(yield* SnapshotSource.all(contract, metadata))})`
  const written = yield* DayFiles.write(connection, relation, { contract, metadata, commitId, daysMax: 100 })
  const added = yield* encodeAdded(commitId, written, metadata)
  yield* Effect.forEach(added.manifests, files.putManifest)
  const sequenceNumber = NewSnapshot.nextSequenceNumber(metadata)
  const manifestList = `${metadata.location}/metadata/${commitId}-list.avro`
  const nowMs = yield* Clock.currentTimeMillis
  const contents = { snapshotId: added.snapshotId, manifestList, operation, added: written, removed: [], summary: {} }
  const ours = NewSnapshot.make(metadata, contents, nowMs)
  const snapshot = { ...ours, summary: { ...summary(ours.summary), operation } }
  const updated = yield* TableUpdate.apply(metadata, NewSnapshot.updates(metadata, snapshot), { nowMs, metadataLocation })
  const next = yield* metadataFileLocation(metadata.location, metadataLocation)
  const manifests = added.manifests.map(({ description }) => ({ ...description, sequenceNumber, minSequenceNumber: sequenceNumber }))
  yield* files.putManifestList(manifestList, manifests, snapshot)
  yield* files.putMetadata(next, updated.metadata)
  const swap = { table: identifier, expected: metadataLocation, next, head: undefined }
  yield* (yield* Catalog).swap({ commitId, tables: [swap], unreferenced: [] })
})

/** All snapshots but the current one go, and every reference but \`main\`. */
export const expireAll = Effect.fn("OtherEngine.expireAll")(function*(contract: TableContract) {
  const { identifier, metadata } = yield* LakeTables.ensure(contract)
  const references = Object.keys(metadata.refs).filter((name) => name !== mainBranch)
  const snapshotIds = metadata.snapshots.map((snapshot) => snapshot.snapshotId).filter((id) => id !== metadata.currentSnapshotId)
  const updates = [
    ...references.map((name) => ({ action: "remove-snapshot-ref" as const, name })),
    { action: "remove-snapshots" as const, snapshotIds }
  ]
  yield* Transaction.commit({ commitId: yield* newCommitId, changes: [{ table: identifier, actions: [Action.requested([], updates)] }] })
})
