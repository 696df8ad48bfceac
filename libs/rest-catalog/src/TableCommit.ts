/**
 * Commits of other engines (OpenAPI: `CommitTableRequest`, `CommitTransactionRequest`), by the same transaction as our own: requirements are checked
 * against the table as it is at each attempt, so that a conflict that leaves them true is tried again here and not by the client.
 *
 * A client that did not hear our answer sends the commit again. Where its snapshots are in the table already, it is answered as it would have been the
 * first time. A commit without snapshots leaves nothing to know it by: its requirements decide.
 */
import { Data, Effect, Either } from "effect"
import type { Action } from "@voltlake/iceberg/Action"
import { Catalog, CommitConflict } from "@voltlake/iceberg/Catalog"
import { snapshotById } from "@voltlake/iceberg/TableMetadata"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import type { RequirementFailed, TableRequirement } from "@voltlake/iceberg/TableRequirement"
import * as Requirement from "@voltlake/iceberg/TableRequirement"
import { Tables } from "@voltlake/iceberg/Tables"
import type { TableUpdate, UpdateRefused } from "@voltlake/iceberg/TableUpdate"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as OwnTables from "./OwnTables.ts"
import * as Places from "./Places.ts"
import * as SnapshotContents from "./SnapshotContents.ts"

export interface TableCommit {
  readonly table: TableIdentifier
  readonly requirements: ReadonlyArray<TableRequirement>
  readonly updates: ReadonlyArray<TableUpdate>
}

/** Where a table is after a commit. */
export interface Committed {
  readonly metadata: TableMetadata
  readonly metadataLocation: string
}

/** The client's snapshots are in the table: it asked for this before. */
class AppliedBefore extends Data.TaggedError("AppliedBefore") {}

type Decided = Either.Either<ReadonlyArray<TableUpdate>, AppliedBefore | RequirementFailed | OwnTables.OwnTableRefused | UpdateRefused>

/** Ids of snapshots are random, and a manifest list is one attempt's own. */
export const isApplied = (metadata: TableMetadata, updates: ReadonlyArray<TableUpdate>): boolean => {
  const added = OwnTables.addedSnapshots(updates)
  return added.length > 0 &&
    added.every((snapshot) => snapshotById(metadata, snapshot.snapshotId)?.manifestList === snapshot.manifestList)
}

/** Somebody else's snapshot, on another branch say, came in between: the client's is to be made anew, though all that it asked for is true. */
const checkSequence = (metadata: TableMetadata, updates: ReadonlyArray<TableUpdate>): Either.Either<void, RequirementFailed> => {
  const [first] = OwnTables.addedSnapshots(updates)
  if (first?.parentSnapshotId === undefined || first.sequenceNumber > metadata.lastSequenceNumber) return Either.right(undefined)
  return Either.left(new Requirement.RequirementFailed({
    table: metadata.location,
    requirement: "the next sequence number",
    expected: String(first.sequenceNumber - 1n),
    found: String(metadata.lastSequenceNumber)
  }))
}

type Decide = (metadata: TableMetadata) => Decided

const action = (decide: Decide): Action<Either.Either.Left<Decided>> => ({ type: "updates", updates: decide })

/** What is asked of the table at each attempt. Files that our own tables are to take are read once, before. */
const decision = Effect.fnUntraced(function*(commitId: string, { requirements, table, updates }: TableCommit) {
  const begin = (metadata: TableMetadata): Decided =>
    isApplied(metadata, updates)
      ? Either.left(new AppliedBefore())
      : Requirement.check(metadata, requirements).pipe(
        Either.flatMap(() => checkSequence(metadata, updates)),
        Either.map(() => updates)
      )
  const { metadata } = yield* (yield* Tables).load(table)
  if (!OwnTables.isOwn(table) && !OwnTables.isComputed(table, metadata)) {
    for (const update of updates) if (update.action === "set-location") yield* Places.check(update.location)
    return begin
  }
  // An append is refused whatever it holds, and its files are not read for that.
  const held = begin(metadata)._tag === "Left" ? new Map<bigint, OwnTables.Held>() : yield* SnapshotContents.read(metadata, updates)
  const decide: Decide = (now) => Either.flatMap(begin(now), () => OwnTables.decide(now, { table, updates, held, commitId }))
  return decide
})

/** All were applied before, or the commit is another than the one that was. */
const answerAgain = Effect.fnUntraced(function*(commits: ReadonlyArray<TableCommit>) {
  const tables = yield* Tables
  const loaded = yield* Effect.forEach(commits, ({ table }) => tables.load(table))
  const missing = loaded.find(({ metadata }, index) => !isApplied(metadata, commits[index]!.updates))
  if (missing === undefined) return loaded
  return yield* new CommitConflict({ table: render(missing.identifier), expected: "the commit's snapshots", found: missing.metadataLocation })
})

/** All of the commits or none; in their order. */
export const commit = Effect.fn("TableCommit.commit")(function*(commits: ReadonlyArray<TableCommit>) {
  const catalog = yield* Places.sparing
  const commitId = yield* Transaction.newCommitId
  const changes = yield* Effect.forEach(commits, (one) =>
    Effect.map(decision(commitId, one), (decide) => ({ table: one.table, actions: [action(decide)] })))
  return yield* Transaction.commit({ commitId, changes, isForeign: true }).pipe(
    Effect.provideService(Catalog, catalog),
    Effect.map(({ tables }): ReadonlyArray<Committed> => tables),
    Effect.catchTag("AppliedBefore", () => answerAgain(commits))
  )
})
