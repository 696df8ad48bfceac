/**
 * What a commit does to one table, as data. Actions are pure: they say which files come and go, or which updates the metadata as it is now leads to.
 * `Transaction` writes, retries and commits them.
 */
import { Either, Schema } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { DataFile } from "./DataFile.ts"
import type { SequencedFile } from "./DeleteFiles.ts"
import type { Operation } from "./NewSnapshot.ts"
import type { SchemaChange, SchemaUpdateError, SchemaUpdateOptions } from "./SchemaUpdate.ts"
import * as SchemaUpdate from "./SchemaUpdate.ts"
import type { SnapshotReference } from "./Snapshot.ts"
import { mainBranch, positionTag } from "./Snapshot.ts"
import type { SortChange, SpecChange, SpecUpdateError } from "./SpecUpdate.ts"
import * as SpecUpdate from "./SpecUpdate.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSnapshot, lineage, positionSnapshot, snapshotById } from "./TableMetadata.ts"
import type { RequirementFailed, TableRequirement } from "./TableRequirement.ts"
import * as Requirement from "./TableRequirement.ts"
import type { TableUpdate } from "./TableUpdate.ts"
import { lastAdded, UpdateRefused } from "./TableUpdate.ts"

/** Files come and go in a new snapshot; the summary's keys of ours are carried on. */
export interface FilesAction<out E> {
  readonly type: "files"
  readonly operation: Operation
  readonly added: ReadonlyArray<DataFile>
  /** When the added files' rows became part of the table; with this commit where not given. */
  readonly sequenceNumber: bigint | undefined
  /** Known by their paths; they must be live. */
  readonly removed: ReadonlyArray<DataFile>
  /** The sequence number of the snapshot in which the removed files were read: no delete file after it may apply to them. */
  readonly readAt: bigint | undefined
  /** All manifests of data are written anew, in the order of their files' partitions. */
  readonly rewritesManifests: boolean
  readonly refuse: (stale: RewriteStale) => E
}

/** Updates that the table as it is now leads to; asked anew for every attempt. */
export interface UpdatesAction<out E> {
  readonly type: "updates"
  readonly updates: (metadata: TableMetadata) => Either.Either<ReadonlyArray<TableUpdate>, E>
}

export type Action<E> = FilesAction<E> | UpdatesAction<E>

/** Files that a commit takes out are not as it read them: somebody else took them out, or deleted rows of them. The work is to be done again. */
export class RewriteStale extends Schema.TaggedError<RewriteStale>()("RewriteStale", {
  table: Schema.String,
  files: Schema.Array(Schema.String),
  cause: Schema.Literal("no longer live", "has newer deletes")
}) {
  override get message() {
    return `${this.files.length} files of ${this.table} are stale (${this.cause}): ${this.files.slice(0, 3).join(", ")}`
  }
}

const none = { added: [], removed: [], sequenceNumber: undefined, readAt: undefined, rewritesManifests: false } as const

const neverStale = ({ message }: RewriteStale): never => {
  invariant(false, `a commit that takes no file out finds none stale: ${message}`)
}

const orStale = (stale: RewriteStale): RewriteStale => stale

/** New rows. Without files only the position moves. */
export const append = (files: ReadonlyArray<DataFile>): Action<never> => ({
  ...none,
  type: "files",
  operation: "append",
  added: files,
  refuse: neverStale
})

export interface Overwrite {
  readonly removed: ReadonlyArray<DataFile>
  /** What is to stand instead: of a file of which only some rows go, the others. */
  readonly added: ReadonlyArray<DataFile>
  /** See {@link FilesAction.readAt}; needed where added files hold rows of removed ones. */
  readonly readAt?: bigint
}

/** Rows go, and others may come. Files go whole: who plans by a condition gives the rows that stay of the files that it meets in part. */
export const overwrite = ({ added, readAt, removed }: Overwrite): Action<RewriteStale> => ({
  ...none,
  type: "files",
  operation: added.length === 0 ? "delete" : "overwrite",
  added,
  removed,
  readAt,
  refuse: orStale
})

export const deleteFiles = (removed: ReadonlyArray<DataFile>): Action<RewriteStale> => overwrite({ removed, added: [] })

export interface Rewrite {
  /** With the delete files that were applied in reading them. */
  readonly replaced: ReadonlyArray<SequencedFile & { readonly deletes?: ReadonlyArray<SequencedFile> }>
  /** The same rows, without those that delete files took out. */
  readonly added: ReadonlyArray<DataFile>
  /** See {@link FilesAction.readAt}. */
  readonly readAt: bigint
}

/**
 * The same rows in other files. The new files' rows count as having come with the youngest of the old ones: readers that ask for what came after that
 * need not look, and deletes after it still apply. Where deletes were applied the rows count as of the snapshot that was read, so that those do not
 * apply again.
 */
export const rewrite = ({ added, readAt, replaced }: Rewrite): Action<RewriteStale> => ({
  ...none,
  type: "files",
  operation: "replace",
  added,
  removed: replaced.map(({ file }) => file),
  sequenceNumber: replaced.some(({ deletes = [] }) => deletes.length > 0)
    ? readAt
    : replaced.reduce((youngest, { sequenceNumber }) => (sequenceNumber > youngest ? sequenceNumber : youngest), 0n),
  readAt,
  refuse: orStale
})

/** The same files in few manifests, each of neighbouring partitions. */
export const rewriteManifests: Action<never> = {
  ...none,
  type: "files",
  operation: "replace",
  rewritesManifests: true,
  refuse: neverStale
}

const updates = <E>(of: UpdatesAction<E>["updates"]): Action<E> => ({ type: "updates", updates: of })

const always = (...all: ReadonlyArray<TableUpdate>): Action<never> => updates(() => Either.right(all))

/** What another engine asks for: all of it where the table is as it requires. Its snapshots are as it made them. */
export const requested = (
  requirements: ReadonlyArray<TableRequirement>,
  all: ReadonlyArray<TableUpdate>
): Action<RequirementFailed> => updates((metadata) => Either.map(Requirement.check(metadata, requirements), () => all))

export const setProperties = (properties: Readonly<Record<string, string>>): Action<never> =>
  always({ action: "set-properties", updates: properties })

export const removeProperties = (keys: ReadonlyArray<string>): Action<never> => always({ action: "remove-properties", removals: keys })

export const evolveSchema = (changes: ReadonlyArray<SchemaChange>, options?: SchemaUpdateOptions): Action<SchemaUpdateError> =>
  updates((metadata) =>
    Either.map(SchemaUpdate.apply(metadata, changes, options), ({ lastColumnId, properties, schema }): ReadonlyArray<TableUpdate> => [
      { action: "add-schema", schema, lastColumnId },
      { action: "set-current-schema", schemaId: lastAdded },
      ...(Object.keys(properties).length === 0 ? [] : [{ action: "set-properties", updates: properties } as const])
    ])
  )

/** For files from now on. */
export const evolveSpec = (changes: ReadonlyArray<SpecChange>): Action<SpecUpdateError> =>
  updates((metadata) =>
    Either.map(SpecUpdate.apply(metadata, changes), ({ fields }): ReadonlyArray<TableUpdate> => [
      { action: "add-spec", fields },
      { action: "set-default-spec", specId: lastAdded }
    ])
  )

/** For files from now on. */
export const setSortOrder = (columns: ReadonlyArray<SortChange>): Action<SpecUpdateError> =>
  updates((metadata) =>
    Either.map(SpecUpdate.sortOrder(metadata, columns), (sortOrder): ReadonlyArray<TableUpdate> => [
      { action: "add-sort-order", sortOrder },
      { action: "set-default-sort-order", sortOrderId: lastAdded }
    ])
  )

/** Drops snapshots; those that are gone already do not matter. Never the current one, nor one that a reference names or the position rests on. */
export const expire = (snapshotIds: ReadonlyArray<bigint>): Action<UpdateRefused> =>
  updates((metadata) => {
    const held = positionSnapshot(metadata)?.snapshotId
    return held !== undefined && snapshotIds.includes(held)
      ? refuse(metadata, "remove-snapshots", `the table's position rests on snapshot ${held}`)
      : Either.right([{ action: "remove-snapshots", snapshotIds }])
  })

const refuse = (metadata: TableMetadata, action: TableUpdate["action"], reason: string) =>
  Either.left(new UpdateRefused({ table: metadata.location, action, reason }))

export interface ReferenceChange {
  readonly name: string
  readonly type: SnapshotReference["type"]
  /** The current snapshot where not given. */
  readonly snapshotId?: bigint
  /** `max-ref-age-ms` and, of a branch, `min-snapshots-to-keep` and `max-snapshot-age-ms`; what is not given stays. */
  readonly retention?: Readonly<Record<string, number>>
}

const isOurs = (name: string) => name === mainBranch || name === positionTag

/** Makes a branch or a tag, or moves it. `main` moves by commits and by {@link rollbackTo} only. */
export const setReference = ({ name, retention, snapshotId, type }: ReferenceChange): Action<UpdateRefused> =>
  updates((metadata) => {
    if (isOurs(name)) return refuse(metadata, "set-snapshot-ref", `${name} is moved by commits only`)
    const to = snapshotId ?? metadata.currentSnapshotId
    if (to === undefined) return refuse(metadata, "set-snapshot-ref", "the table has no snapshot yet")
    const extra = { ...metadata.refs[name]?.extra, ...retention }
    return Either.right([{ action: "set-snapshot-ref", name, reference: { snapshotId: to, type, extra } }])
  })

export const removeReference = (name: string): Action<UpdateRefused> =>
  updates((metadata) => {
    if (isOurs(name)) return refuse(metadata, "remove-snapshot-ref", `${name} is needed`)
    if (metadata.refs[name] === undefined) return refuse(metadata, "remove-snapshot-ref", `there is no reference ${name}`)
    return Either.right([{ action: "remove-snapshot-ref", name }])
  })

/** Makes an ancestor of the current snapshot the current one again, with the position that it had. Snapshots after it stay until they expire. */
export const rollbackTo = (snapshotId: bigint): Action<UpdateRefused> =>
  updates((metadata) => {
    const isAncestor = Array.from(lineage(metadata)).some((snapshot) => snapshot.snapshotId === snapshotId)
    if (currentSnapshot(metadata) === undefined || !isAncestor) {
      const what = snapshotById(metadata, snapshotId) === undefined ? "is not there" : "is no ancestor of the current one"
      return refuse(metadata, "set-snapshot-ref", `snapshot ${snapshotId} ${what}`)
    }
    const moved = (name: string, type: SnapshotReference["type"], to: bigint): TableUpdate => ({
      action: "set-snapshot-ref",
      name,
      reference: { snapshotId: to, type, extra: metadata.refs[name]?.extra ?? {} }
    })
    const position = positionSnapshot(metadata, snapshotId)
    return Either.right([
      moved(mainBranch, "branch", snapshotId),
      ...(position === undefined ? [] : [moved(positionTag, "tag", position.snapshotId)])
    ])
  })
