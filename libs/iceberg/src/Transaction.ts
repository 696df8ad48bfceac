/**
 * The commit: does its actions to one or several tables, in one atomic step.
 *
 * 1. Manifests of the added files are written once, with the first attempt.
 * 2. Each attempt loads the tables, checks the caller's requirement against them, asks the actions what they lead to, writes manifest lists and
 *    metadata, and swaps.
 * 3. Only the swap is visible. A conflict starts from 2 with the same manifests. After an unknown outcome the next attempt first looks whether it
 *    happened: it did, or it was not applied and cannot be any more once another swap of the same table succeeds.
 *
 * A commit that adds a snapshot is known again by its id in the summary, by whoever asks: it is done exactly once for each id. One that only updates
 * metadata leaves no id: it is known again by its metadata file, which is the table's or stands in its metadata log, and only to the call that wrote
 * it. Asked for twice it is done twice; the actions of that kind mean the same done twice, or are refused.
 */
import { Effect, Either, Schedule } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { Action } from "./Action.ts"
import type { CommitRetired, TableNotFound, TableSwap } from "./Catalog.ts"
import { Catalog, CatalogError, CommitConflict } from "./Catalog.ts"
import * as CommitEvent from "./CommitEvent.ts"
import * as RandomId from "./internal/RandomId.ts"
import { Refused } from "./internal/Refused.ts"
import type { AddedFiles, StagedTable } from "./internal/StagedTable.ts"
import { encodeAdded, filesAction, stage } from "./internal/StagedTable.ts"
import type { Snapshot, Summary } from "./Snapshot.ts"
import { commitId as commitIdOf, commitIdKey } from "./Snapshot.ts"
import type { TableReadError, TableWriteError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import { render, type TableIdentifier } from "./TableIdentifier.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import type { Table } from "./Tables.ts"
import { Tables } from "./Tables.ts"
import type { UpdateRefused } from "./TableUpdate.ts"

export interface TableChange<out E> {
  readonly table: TableIdentifier
  /** In this order; at most one adds a snapshot. */
  readonly actions: ReadonlyArray<Action<E>>
  /**
   * The requirement, pure: summary keys of the new snapshot, if there is one, or why this table may not take the commit. Called anew for every attempt,
   * before anything is written. Any table will do where not given.
   */
  readonly summary?: (metadata: TableMetadata) => Either.Either<Readonly<Record<string, string>>, E>
}

export interface CommitRequest<out E> {
  /** Names the commit in every table; a second commit with the same id changes nothing where it adds a snapshot. */
  readonly commitId: string
  readonly changes: ReadonlyArray<TableChange<E>>
  /** Another engine asked for it: what it does is none of ours. */
  readonly isForeign?: boolean
}

export interface CommittedTable {
  readonly table: TableIdentifier
  /** The commit's own; none where it only updated metadata. */
  readonly snapshot: Snapshot | undefined
  readonly metadata: TableMetadata
  readonly metadataLocation: string
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
  | UpdateRefused

/** A commit that has lost so often gets in line for its turn; most that lose once come through the next time. */
const lossesUntilInLine = 3
/** Those who were already at it when a turn began are in its way once, other engines at any time. */
const attemptsInTurn = 5

/**
 * After a conflict the pause is short, since somebody else has just finished; longer ones would leave the table to whoever was faster once. So many
 * attempts, since other engines give no turns.
 */
const afterConflict = Schedule.exponential("2 millis", 1.3).pipe(
  Schedule.union(Schedule.spaced("50 millis")),
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(500))
)

/** After a fault of store or catalog: some ten seconds in all, then it is for the caller to wait. */
const afterFault = Schedule.exponential("4 millis", 1.4).pipe(
  Schedule.union(Schedule.spaced("400 millis")),
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(40))
)

/** A new commit's id. It names the commit's data files too, so it is made before they are written. */
export const newCommitId: Effect.Effect<string> = RandomId.uuid

/** An attempt that may have happened. */
interface Unresolved {
  /** What it wrote, the new metadata included. */
  readonly files: ReadonlyArray<string>
  readonly swaps: ReadonlyArray<TableSwap>
}

/** Files of a commit that are not visible yet. Mutable, and seen by one fiber only. */
interface Ledger {
  readonly added: Map<TableChange<unknown>, AddedFiles>
  /** Locations of their manifests that were begun to be written. */
  readonly begun: Set<string>
  /** Those of them that stand in the store. */
  readonly written: Set<string>
  readonly unresolved: Array<Unresolved>
  /** Attempts that others were faster than. */
  losses: number
}

/** Somebody else was faster, in the catalog or with a file of that name. */
const isConflict = (error: CommitError | Refused<unknown>): boolean => error._tag === "CommitConflict" || error._tag === "ObjectExists"

const isPassing = (error: CommitError | Refused<unknown>): boolean => {
  switch (error._tag) {
    case "CatalogError":
    case "ObjectStoreError":
      return error.retryable
    default:
      return false
  }
}

const isUnknown = (error: CommitError | Refused<unknown>): boolean =>
  error._tag === "CatalogError" && error.operation === "swap" && error.outcome === "Unknown"

const addsSnapshot = (change: TableChange<unknown>): boolean => filesAction(change.actions) !== undefined

/** Metadata files that the table is or was known to be at. */
const locationsOf = ({ metadata, metadataLocation }: Pick<Table, "metadata" | "metadataLocation">): ReadonlyArray<string> => [
  metadataLocation,
  ...metadata.metadataLog.map((entry) => entry.metadataFile)
]

const conflict = (request: CommitRequest<unknown>) =>
  new CommitConflict({ table: render(request.changes[0]!.table), expected: request.commitId, found: undefined })

const outcomeUnknown = (reason: string, retryable: boolean) =>
  new CatalogError({ operation: "swap", outcome: "Unknown", retryable, reason: `its outcome could not be looked up: ${reason}` })

/** The tables as the commit left them, if it has happened: tables that got a snapshot say so by its id. */
const foundById = (request: CommitRequest<unknown>, tables: ReadonlyArray<Table>) => {
  const found = tables.map(({ identifier, ...at }): CommittedTable => ({
    table: identifier,
    snapshot: at.metadata.snapshots.findLast((candidate) => commitIdOf(candidate) === request.commitId),
    ...at
  }))
  const asked = found.filter((_, index) => addsSnapshot(request.changes[index]!))
  const seen = asked.filter(({ snapshot }) => snapshot !== undefined)
  if (seen.length === 0) return Either.right(undefined)
  // The tables were loaded one by one: a swap whose outcome was unknown may have become visible in between. Then all have it, once looked at again.
  return seen.length < asked.length ? Either.left(conflict(request)) : Either.right(found)
}

/** Likewise, of a commit without a snapshot: by the metadata files of attempts that may have happened. */
const foundByLocation = (request: CommitRequest<unknown>, tables: ReadonlyArray<Table>, unresolved: ReadonlyArray<Unresolved>) => {
  for (const { swaps } of unresolved) {
    const known = tables.map(locationsOf)
    const seen = swaps.filter((swap, index) => known[index]!.includes(swap.next))
    if (seen.length === swaps.length) {
      return Either.right(tables.map(({ identifier, ...at }): CommittedTable => ({ table: identifier, snapshot: undefined, ...at })))
    }
    if (seen.length > 0) return Either.left(conflict(request))
    const isOpen = swaps.some((swap, index) => !known[index]!.includes(swap.expected))
    if (isOpen) return Either.left(outcomeUnknown("the metadata log does not reach back to it", false))
  }
  return Either.right(undefined)
}

/** All requirements are asked before anything is written. */
const askAll = <E>(request: CommitRequest<E>, tables: ReadonlyArray<Table>) =>
  Effect.forEach(request.changes, (change, index) =>
    Either.match(change.summary?.(tables[index]!.metadata) ?? Either.right({}), {
      onLeft: (error) => Effect.fail(new Refused(error)),
      onRight: (own): Effect.Effect<Summary> => Effect.succeed({ ...own, [commitIdKey]: request.commitId })
    }))

/** Encoded with the first attempt; none for a change without a snapshot. */
const addedFiles = <E>(request: CommitRequest<E>, change: TableChange<E>, table: Table, ledger: Ledger) =>
  Effect.suspend(() => {
    const action = filesAction(change.actions)
    const known = ledger.added.get(change)
    if (action === undefined || known !== undefined) return Effect.succeed(known)
    return encodeAdded(request.commitId, action.added, table.metadata, action.sequenceNumber).pipe(
      Effect.tap((added) => Effect.sync(() => void ledger.added.set(change, added)))
    )
  })

/** Writes the manifests that no attempt has written yet. */
const writeAdded = (added: AddedFiles | undefined, ledger: Ledger) =>
  Effect.flatMap(TableFiles, (files) =>
    Effect.forEach((added?.manifests ?? []).filter(({ location }) => !ledger.written.has(location)), (manifest) =>
      Effect.suspend(() => {
        ledger.begun.add(manifest.location)
        return files.putManifest(manifest)
      }).pipe(
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
        const work = { commitId: request.commitId, actions: change.actions, added, summary: summaries[index]!, note }
        // None of the files is visible before the swap, so their order does not matter.
        const [staged] = yield* Effect.all([stage(table, work), writeAdded(added, ledger)], { concurrency: "unbounded" })
        return staged
      }), { concurrency: "unbounded" })
  })

const asCommitted = (staged: ReadonlyArray<StagedTable>): ReadonlyArray<CommittedTable> =>
  staged.map(({ swap, snapshot, metadata }) => ({ table: swap.table, snapshot, metadata, metadataLocation: swap.next }))

/** The unknown attempt that turned out to have been the one keeps its files; all others never became visible. */
const discardLosers = (ledger: Ledger, committed: ReadonlyArray<CommittedTable>, locations: ReadonlyArray<string>) =>
  Effect.flatMap(TableFiles, (files) => {
    const named = new Set([...locations, ...committed.map(({ snapshot }) => snapshot?.manifestList)])
    const losers = ledger.unresolved.filter((attempt) => !attempt.files.some((location) => named.has(location)))
    return files.discard(losers.flatMap((attempt) => attempt.files))
  })

const attempt = <E>(request: CommitRequest<E>, ledger: Ledger) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog
    const tables = yield* Tables
    const loaded = yield* Effect.forEach(request.changes, ({ table }) => tables.load(table), {
      concurrency: "unbounded"
    })
    const found = request.changes.some(addsSnapshot)
      ? yield* foundById(request, loaded)
      : yield* foundByLocation(request, loaded, ledger.unresolved)
    if (found !== undefined) {
      yield* discardLosers(ledger, found, loaded.flatMap(locationsOf))
      return { tables: found, wasCommitted: ledger.unresolved.length === 0 }
    }
    const written: Array<string> = []
    let swaps: ReadonlyArray<TableSwap> = []
    const staged = yield* stageAll(request, loaded, ledger, (location) => void written.push(location)).pipe(
      Effect.tap((all) => {
        swaps = all.map(({ swap }) => swap)
        return catalog.swap({
          commitId: request.commitId,
          tables: swaps,
          unreferenced: all.flatMap(({ unreferenced }) => unreferenced),
          event: CommitEvent.make({
            commitId: request.commitId,
            isForeign: request.isForeign ?? false,
            tables: all.map(({ metadata, swap }, index) => ({ swap, before: loaded[index]!.metadata, after: metadata }))
          })
        })
      }),
      Effect.tapError((error) =>
        isUnknown(error)
          ? Effect.sync(() => void ledger.unresolved.push({ files: written, swaps }))
          : Effect.flatMap(TableFiles, (files) => files.discard(written))
      )
    )
    const committed = asCommitted(staged)
    yield* discardLosers(ledger, committed, swaps.map((swap) => swap.next))
    return { tables: committed, wasCommitted: false }
  }).pipe(
    Effect.tapError((error) => Effect.sync(() => {
      if (isConflict(error)) ledger.losses++
    }))
  )

/** First among this process's commits, then among those of all processes. Who has stood in line tries again at once when somebody gets in its way. */
const attempts = <E>(request: CommitRequest<E>, ledger: Ledger) =>
  Effect.gen(function*() {
    const asked = request.changes.map(({ table }) => table)
    const isInLine = ledger.losses >= lossesUntilInLine
    const inTurn = Effect.flatMap(Catalog, (catalog) => catalog.turn(asked, isInLine)).pipe(
      Effect.zipRight(Effect.retry(attempt(request, ledger), { times: isInLine ? attemptsInTurn - 1 : 0, while: isConflict })),
      Effect.scoped
    )
    return yield* (yield* Tables).alone(asked, inTurn)
  })

/** Whatever stopped the last attempt: while an earlier one is unresolved, so is the commit. */
const finalError = (error: CommitError, ledger: Ledger): CommitError =>
  ledger.unresolved.length === 0 || isUnknown(error) ? error : outcomeUnknown(error.message, true)

/** Manifests of a commit that failed for certain go too. Data files are the caller's. */
const discardManifests = (ledger: Ledger) =>
  ledger.unresolved.length > 0 ? Effect.void : Effect.flatMap(TableFiles, (files) => files.discard(ledger.begun))

/**
 * Commits all changes or none. Fails with the requirement's own error where a table does not take the commit, with `CommitConflict` where others were
 * faster in every attempt, and with a `CatalogError` of outcome `Unknown` where even looking it up failed: then the same commit id may be tried again.
 */
export const commit = Effect.fn("Transaction.commit")(function*<E>(
  request: CommitRequest<E>
): Effect.fn.Return<CommitResult, E | CommitError, Catalog | Tables | TableFiles> {
  yield* Effect.annotateCurrentSpan("commitId", request.commitId)
  invariant(request.changes.length > 0, "a commit changes a table")
  const ledger: Ledger = { added: new Map(), begun: new Set(), written: new Set(), unresolved: [], losses: 0 }
  return yield* attempts(request, ledger).pipe(
    Effect.tapError((error) =>
      isConflict(error) || isPassing(error)
        ? Effect.logDebug("commit did not come through, retrying").pipe(
          Effect.annotateLogs({ commitId: request.commitId, cause: error._tag })
        )
        : Effect.void
    ),
    Effect.retry({ schedule: afterConflict, while: isConflict }),
    Effect.retry({ schedule: afterFault, while: isPassing }),
    Effect.tapError(() => discardManifests(ledger)),
    Effect.mapError((error): E | CommitError => (error instanceof Refused ? error.error : finalError(error, ledger)))
  )
})
