/** One table's part of one attempt at a commit: everything is written, nothing is visible. */
import { Clock, Effect, Either } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { Action, FilesAction } from "../Action.ts"
import type { TableSwap } from "../Catalog.ts"
import type { DataFile } from "../DataFile.ts"
import * as Expiry from "../Expiry.ts"
import * as ManifestMerge from "../ManifestMerge.ts"
import * as NewSnapshot from "../NewSnapshot.ts"
import * as Retention from "../Retention.ts"
import type { Snapshot, Summary } from "../Snapshot.ts"
import { positionKey } from "../Snapshot.ts"
import type { TableReadError, TableWriteError } from "../TableFiles.ts"
import { TableFiles } from "../TableFiles.ts"
import type { TableMetadata } from "../TableMetadata.ts"
import type { Table } from "../Tables.ts"
import { metadataFileLocation } from "../Tables.ts"
import * as TableUpdate from "../TableUpdate.ts"
import type { EncodedEntries } from "./EncodedManifest.ts"
import * as EncodedManifest from "./EncodedManifest.ts"
import * as FileChange from "./FileChange.ts"
import * as RandomId from "./RandomId.ts"
import { Refused } from "./Refused.ts"

export interface StagedTable {
  readonly swap: TableSwap
  /** The snapshot of this commit; none where its actions only updated metadata. */
  readonly snapshot: Snapshot | undefined
  readonly metadata: TableMetadata
  readonly unreferenced: ReadonlyArray<string>
}

/** Manifests of a commit's added files, the same for all attempts. */
export interface AddedFiles {
  readonly snapshotId: bigint
  readonly manifests: ReadonlyArray<EncodedEntries>
}

/** What a commit does to a table, in one attempt. */
export interface TableWork<out E> {
  readonly commitId: string
  readonly actions: ReadonlyArray<Action<E>>
  /** Given where an action adds a snapshot. */
  readonly added: AddedFiles | undefined
  readonly summary: Summary
  /** Hears of every file before it is written. */
  readonly note: (location: string) => void
}

type StageError<E> = TableReadError | TableWriteError | TableUpdate.UpdateRefused | Refused<E>

export const filesAction = <E>(actions: ReadonlyArray<Action<E>>): FilesAction<E> | undefined => {
  const all = actions.filter((action) => action.type === "files")
  invariant(all.length <= 1, "a commit adds one snapshot to a table")
  return all[0]
}

/** One manifest for each partition spec among the files; not written yet. */
export const encodeAdded = Effect.fnUntraced(function*(
  commitId: string,
  added: ReadonlyArray<DataFile>,
  metadata: TableMetadata,
  sequenceNumber?: bigint
): Effect.fn.Return<AddedFiles> {
  const snapshotId = yield* RandomId.snapshotId
  const specIds = Array.from(new Set(added.map((file) => file.specId))).sort((a, b) => a - b)
  const manifests = yield* Effect.forEach(specIds, (specId) => {
    const files = added.filter((file) => file.specId === specId)
    return EncodedManifest.encode({ commitId, snapshotId }, ManifestMerge.added(files, snapshotId, sequenceNumber), metadata, specId)
  })
  return { snapshotId, manifests }
})

/** A table under way: what its actions so far have led to. */
interface Draft {
  readonly updates: ReadonlyArray<TableUpdate.TableUpdate>
  readonly metadata: TableMetadata
  readonly newest: Retention.NewestSnapshot | undefined
}

const addSnapshot = Effect.fnUntraced(function*<E>(draft: Draft, action: FilesAction<E>, work: TableWork<E>, nowMs: number) {
  const { added, commitId, note, summary } = work
  const { metadata } = draft
  invariant(added !== undefined, "the manifests of added files are made before they are staged")
  const { snapshotId } = added
  const sequenceNumber = NewSnapshot.nextSequenceNumber(metadata)
  const carried = yield* FileChange.carriedOn({ commitId, snapshotId, metadata, note }, action)
  const manifests = [...added.manifests.map((manifest) => EncodedManifest.listed(manifest, sequenceNumber)), ...carried]
  const manifestList = `${metadata.location}/metadata/${EncodedManifest.fileName(commitId, yield* RandomId.uuid, "list")}`
  const { operation, removed } = action
  const snapshot = NewSnapshot.make(metadata, { snapshotId, manifestList, operation, added: action.added, removed, summary }, nowMs)
  return { updates: NewSnapshot.updates(metadata, snapshot), newest: { snapshot, manifests } }
})

/** All actions, each on what the ones before it made of the table; and at last the drop of snapshots that are too many. */
const applyActions = Effect.fnUntraced(function*<E>(
  base: TableMetadata,
  work: TableWork<E>,
  at: TableUpdate.UpdateTime
): Effect.fn.Return<Draft & TableUpdate.Updated, StageError<E>, TableFiles> {
  let draft: Draft = { updates: [], metadata: base, newest: undefined }
  let updated: TableUpdate.Updated = { metadata: base, unreferenced: [] }
  const add = (more: ReadonlyArray<TableUpdate.TableUpdate>) =>
    Effect.gen(function*() {
      const updates = [...draft.updates, ...more]
      updated = yield* TableUpdate.apply(base, updates, at)
      draft = { ...draft, updates, metadata: updated.metadata }
    })
  for (const action of work.actions) {
    if (action.type === "updates") {
      yield* add(yield* Either.mapLeft(action.updates(draft.metadata), (error) => new Refused(error)))
    } else {
      const { newest, updates } = yield* addSnapshot(draft, action, work, at.nowMs)
      yield* add(updates)
      draft = { ...draft, newest }
    }
  }
  const surplus = draft.newest === undefined ? [] : Expiry.surplusSnapshots(draft.metadata)
  if (surplus.length > 0) yield* add([{ action: "remove-snapshots", snapshotIds: surplus.map((one) => one.snapshotId) }])
  return { ...draft, ...updated }
})

/** Writes manifest list and metadata for one table. */
export const stage = Effect.fnUntraced(function*<E>(
  table: Table,
  work: TableWork<E>
): Effect.fn.Return<StagedTable, StageError<E>, TableFiles> {
  const files = yield* TableFiles
  const { metadataLocation } = table
  const nowMs = yield* Clock.currentTimeMillis
  const { metadata, newest, unreferenced } = yield* applyActions(table.metadata, work, { nowMs, metadataLocation })
  const gone = yield* Retention.namedByDroppedOnly(table.metadata, metadata, newest)
  const next = yield* metadataFileLocation(metadata.location, metadataLocation)
  const putList = newest === undefined
    ? Effect.void
    : files.putManifestList(newest.snapshot.manifestList, newest.manifests, newest.snapshot)
  if (newest !== undefined) work.note(newest.snapshot.manifestList)
  work.note(next)
  yield* Effect.all([putList, files.putMetadata(next, metadata)], { concurrency: "unbounded", discard: true })
  return {
    swap: {
      table: table.identifier,
      expected: metadataLocation,
      next,
      head: newest === undefined
        ? undefined
        : {
          snapshotId: newest.snapshot.snapshotId,
          position: newest.snapshot.summary[positionKey],
          found: NewSnapshot.inherited(table.metadata)[positionKey]
        }
    },
    snapshot: newest?.snapshot,
    metadata,
    // A table may name files that are another's: those are not its to give up.
    unreferenced: [...unreferenced, ...gone].filter((location) => location.startsWith(`${metadata.location}/`))
  }
})
