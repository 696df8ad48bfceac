/**
 * The commit: makes staged data files visible in one or several tables, in one atomic step, exactly once for each commit id.
 *
 * 1. Manifests of the added files are written once, with the first attempt.
 * 2. Each attempt loads the tables, checks the caller's requirement against them, writes manifest lists and metadata, and swaps.
 * 3. Only the swap is visible. A conflict starts from 2 with the same manifests. After an unknown outcome the next attempt first looks for the
 *    commit's id among the snapshots: there it is, or it was not applied and cannot be any more once another swap of the same table succeeds.
 */
import { Effect, Either, Schedule } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { CommitRetired, TableNotFound } from "./Catalog.ts"
import { Catalog, CatalogError, CommitConflict } from "./Catalog.ts"
import type { DataFile } from "./DataFile.ts"
import * as RandomId from "./internal/RandomId.ts"
import type { AddedFiles, StagedTable } from "./internal/StagedTable.ts"
import { encodeAdded, stage } from "./internal/StagedTable.ts"
import type { Snapshot, Summary } from "./Snapshot.ts"
import { commitId as commitIdOf, commitIdKey } from "./Snapshot.ts"
import type { TableReadError, TableWriteError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import { render, type TableIdentifier } from "./TableIdentifier.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import type { Table } from "./Tables.ts"
import { Tables } from "./Tables.ts"

export interface TableChange<out E> {
  readonly table: TableIdentifier
  /** None for a commit that moves the position only. */
  readonly files: ReadonlyArray<DataFile>
  /** The requirement, pure: summary keys of the new snapshot, or why this table may not take the commit. Called anew for every attempt. */
  readonly summary: (metadata: TableMetadata) => Either.Either<Readonly<Record<string, string>>, E>
}

export interface CommitRequest<out E> {
  /** Names the commit in every table; a second commit with the same id changes nothing. */
  readonly commitId: string
  readonly changes: ReadonlyArray<TableChange<E>>
}

export interface CommittedTable {
  readonly table: TableIdentifier
  readonly snapshot: Snapshot
  readonly metadata: TableMetadata
}

export interface CommitResult {
  /** In the order of the changes. */
  readonly tables: ReadonlyArray<CommittedTable>
  /** The commit's id was there when this call first looked. */
  readonly wasCommitted: boolean
}

export type CommitError =
  | TableNotFound
  | CommitConflict
  | CommitRetired
  | CatalogError
  | TableReadError
  | TableWriteError

const attemptsMax = 40

/** Short, since a conflict means that somebody else has just finished; spread, so that many writers do not meet again. */
const pauses = Schedule.exponential("4 millis", 1.4).pipe(
  Schedule.union(Schedule.spaced("400 millis")),
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(attemptsMax - 1))
)

/** A new commit's id. It names the commit's data files too, so it is made before they are written. */
export const newCommitId: Effect.Effect<string> = RandomId.uuid

/** The caller's requirement failed; kept apart from errors of the commit, whatever it looks like. */
class Refused<E> {
  readonly _tag = "Refused"
  constructor(readonly error: E) {}
}

/** Files of a commit that are not visible yet. Mutable, and seen by one fiber only. */
interface Ledger {
  readonly added: Map<TableChange<unknown>, AddedFiles>
  /** Locations of their manifests that stand in the store. */
  readonly written: Set<string>
  /** Files of attempts whose outcome is unknown. */
  readonly unresolved: Array<ReadonlyArray<string>>
}

const isWorthAnotherAttempt = (error: CommitError | Refused<unknown>): boolean => {
  switch (error._tag) {
    case "CommitConflict":
    case "ObjectExists":
      return true
    case "CatalogError":
      return error.outcome === "Unknown" || error.retryable
    case "ObjectStoreError":
      return error.retryable
    default:
      return false
  }
}

const isUnknown = (error: CommitError | Refused<unknown>): boolean =>
  error._tag === "CatalogError" && error.operation === "swap" && error.outcome === "Unknown"

const committedIn = (tables: ReadonlyArray<Table>, commitId: string): ReadonlyArray<CommittedTable> =>
  tables.flatMap(({ identifier, metadata }) => {
    const snapshot = metadata.snapshots.findLast((candidate) => commitIdOf(candidate) === commitId)
    return snapshot === undefined ? [] : [{ table: identifier, snapshot, metadata }]
  })

/** All requirements are asked before anything is written. */
const askAll = <E>(request: CommitRequest<E>, tables: ReadonlyArray<Table>) =>
  Effect.forEach(request.changes, (change, index) =>
    Either.match(change.summary(tables[index]!.metadata), {
      onLeft: (error) => Effect.fail(new Refused(error)),
      onRight: (own): Effect.Effect<Summary> => Effect.succeed({ ...own, [commitIdKey]: request.commitId })
    }))

const addedFiles = <E>(request: CommitRequest<E>, change: TableChange<E>, table: Table, ledger: Ledger) =>
  Effect.suspend(() => {
    const known = ledger.added.get(change)
    if (known !== undefined) return Effect.succeed(known)
    return encodeAdded(request.commitId, change.files, table.metadata).pipe(
      Effect.tap((added) => Effect.sync(() => void ledger.added.set(change, added)))
    )
  })

/** Writes the manifests that no attempt has written yet. */
const writeAdded = (added: AddedFiles, ledger: Ledger) =>
  Effect.flatMap(TableFiles, (files) =>
    Effect.forEach(added.manifests.filter(({ location }) => !ledger.written.has(location)), (manifest) =>
      files.putManifest(manifest).pipe(
        // A write that failed may have happened all the same: then its own file stands there.
        Effect.catchTag("ObjectExists", () => Effect.void),
        Effect.tap(() => Effect.sync(() => void ledger.written.add(manifest.location)))
      ), { concurrency: "unbounded", discard: true }))

const stageAll = <E>(
  request: CommitRequest<E>,
  tables: ReadonlyArray<Table>,
  ledger: Ledger,
  note: (location: string) => void
) =>
  Effect.gen(function*() {
    const summaries = yield* askAll(request, tables)
    return yield* Effect.forEach(request.changes, (change, index) =>
      Effect.gen(function*() {
        const table = tables[index]!
        const added = yield* addedFiles(request, change, table, ledger)
        // None of the files is visible before the swap, so their order does not matter.
        const [staged] = yield* Effect.all([
          stage(request.commitId, table, added, summaries[index]!, note),
          writeAdded(added, ledger)
        ], { concurrency: "unbounded" })
        return staged
      }), { concurrency: "unbounded" })
  })

const asCommitted = (staged: ReadonlyArray<StagedTable>): ReadonlyArray<CommittedTable> =>
  staged.map(({ swap, snapshot, metadata }) => ({ table: swap.table, snapshot, metadata }))

/** The unknown attempt that turned out to have been the one keeps its files; all others never became visible. */
const discardLosers = (ledger: Ledger, committed: ReadonlyArray<CommittedTable>) =>
  Effect.flatMap(TableFiles, (files) => {
    const lists = new Set(committed.map(({ snapshot }) => snapshot.manifestList))
    const losers = ledger.unresolved.filter((written) => !written.some((location) => lists.has(location)))
    return files.discard(losers.flat())
  })

const attempt = <E>(request: CommitRequest<E>, ledger: Ledger) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog
    const tables = yield* Tables
    const loaded = yield* Effect.forEach(request.changes, ({ table }) => tables.load(table), {
      concurrency: "unbounded"
    })
    const found = committedIn(loaded, request.commitId)
    if (found.length > 0) {
      // The tables were loaded one by one: a swap whose outcome was unknown may have become visible in between. Then all have it, once looked at again.
      if (found.length < loaded.length) {
        return yield* new CommitConflict({ table: render(request.changes[0]!.table), expected: request.commitId, found: undefined })
      }
      yield* discardLosers(ledger, found)
      return { tables: found, wasCommitted: ledger.unresolved.length === 0 }
    }
    const written: Array<string> = []
    const staged = yield* stageAll(request, loaded, ledger, (location) => void written.push(location)).pipe(
      Effect.tap((all) =>
        catalog.swap({
          commitId: request.commitId,
          tables: all.map(({ swap }) => swap),
          unreferenced: all.flatMap(({ unreferenced }) => unreferenced)
        })
      ),
      Effect.tapError((error) =>
        isUnknown(error)
          ? Effect.sync(() => void ledger.unresolved.push(written))
          : Effect.flatMap(TableFiles, (files) => files.discard(written))
      )
    )
    const committed = asCommitted(staged)
    yield* discardLosers(ledger, committed)
    return { tables: committed, wasCommitted: false }
  })

/** Whatever stopped the last attempt: while an earlier one is unresolved, so is the commit. */
const finalError = (error: CommitError, ledger: Ledger): CommitError =>
  ledger.unresolved.length === 0 || isUnknown(error) ? error : new CatalogError({
    operation: "swap",
    outcome: "Unknown",
    retryable: true,
    reason: `its outcome could not be looked up: ${error.message}`
  })

/** Manifests of a commit that failed for certain go too. Data files are the caller's. */
const discardManifests = (ledger: Ledger) =>
  ledger.unresolved.length > 0 ? Effect.void : Effect.flatMap(TableFiles, (files) => files.discard(ledger.written))

/**
 * Commits all changes or none. Fails with the requirement's own error where a table does not take the commit, with `CommitConflict` where others were
 * faster in every attempt, and with a `CatalogError` of outcome `Unknown` where even looking it up failed: then the same commit id may be tried again.
 */
export const commit = Effect.fn("Transaction.commit")(function*<E>(
  request: CommitRequest<E>
): Effect.fn.Return<CommitResult, E | CommitError, Catalog | Tables | TableFiles> {
  yield* Effect.annotateCurrentSpan("commitId", request.commitId)
  invariant(request.changes.length > 0, "a commit changes a table")
  const ledger: Ledger = { added: new Map(), written: new Set(), unresolved: [] }
  return yield* attempt(request, ledger).pipe(
    Effect.tapError((error) =>
      isWorthAnotherAttempt(error)
        ? Effect.logDebug("commit did not come through, retrying").pipe(
          Effect.annotateLogs({ commitId: request.commitId, cause: error._tag })
        )
        : Effect.void
    ),
    Effect.retry({ schedule: pauses, while: isWorthAnotherAttempt }),
    Effect.tapError(() => discardManifests(ledger)),
    Effect.mapError((error): E | CommitError => (error instanceof Refused ? error.error : finalError(error, ledger)))
  )
})
