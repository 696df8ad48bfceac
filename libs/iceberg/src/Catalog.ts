/**
 * The port that names tables and makes commits visible: it holds each table's current metadata location, and moves it in one transaction.
 *
 * Adapters: PostgresCatalog, MemoryCatalog.
 */
import { Context, type Effect, Schema, type Scope } from "effect"
import { Outcome } from "@voltlake/domain/Failure"
import type { CommitEvent } from "./CommitEvent.ts"
import type { TableIdentifier } from "./TableIdentifier.ts"

export class TableNotFound extends Schema.TaggedError<TableNotFound>()("TableNotFound", { table: Schema.String }) {
  override get message() {
    return `no table ${this.table}`
  }
}

export class TableAlreadyExists
  extends Schema.TaggedError<TableAlreadyExists>()("TableAlreadyExists", { table: Schema.String })
{
  override get message() {
    return `table ${this.table} already exists`
  }
}

export class NamespaceNotFound
  extends Schema.TaggedError<NamespaceNotFound>()("NamespaceNotFound", { namespace: Schema.String })
{
  override get message() {
    return `no namespace ${this.namespace}`
  }
}

export class NamespaceAlreadyExists
  extends Schema.TaggedError<NamespaceAlreadyExists>()("NamespaceAlreadyExists", { namespace: Schema.String })
{
  override get message() {
    return `namespace ${this.namespace} already exists`
  }
}

/** It holds tables, which would be lost with it. */
export class NamespaceNotEmpty
  extends Schema.TaggedError<NamespaceNotEmpty>()("NamespaceNotEmpty", { namespace: Schema.String })
{
  override get message() {
    return `namespace ${this.namespace} still holds tables`
  }
}

/** Somebody else committed to the table first. Nothing was changed. `found` is absent where the table is gone. */
export class CommitConflict extends Schema.TaggedError<CommitConflict>()("CommitConflict", {
  table: Schema.String,
  expected: Schema.String,
  found: Schema.UndefinedOr(Schema.String)
}) {
  override get message() {
    return `${this.table} is at ${this.found ?? "no metadata"}, expected ${this.expected}`
  }
}

/** The commit's files may have been removed as orphans: it must never become visible. Nothing was changed. */
export class CommitRetired extends Schema.TaggedError<CommitRetired>()("CommitRetired", { commitId: Schema.String }) {
  override get message() {
    return `commit ${this.commitId} was retired: its files may be gone`
  }
}

/** The catalog failed. With outcome `Unknown` a change may have happened all the same: it is looked up, never blindly repeated. */
export class CatalogError extends Schema.TaggedError<CatalogError>()("CatalogError", {
  operation: Schema.String,
  outcome: Outcome,
  retryable: Schema.Boolean,
  reason: Schema.String
}) {
  override get message() {
    return `catalog: ${this.operation} failed (${this.outcome}): ${this.reason}`
  }
}

/** Where a table was after our last commit to it. */
export interface TableHead {
  readonly table: TableIdentifier
  readonly snapshotId: bigint
  /** The JSON text of the summary's `voltlake.position`. */
  readonly position: string | undefined
  readonly commitId: string
}

export interface TableSwap {
  readonly table: TableIdentifier
  readonly expected: string
  readonly next: string
  /** Where the table is now; stays as it was where the commit adds no snapshot of ours. */
  readonly head: NewHead | undefined
}

export interface NewHead extends Pick<TableHead, "snapshotId" | "position"> {
  /** The position that the commit found. Below that of the head so far, somebody has rewound the table, and the swap notes that. */
  readonly found: string | undefined
}

export interface Swap {
  readonly commitId: string
  readonly tables: ReadonlyArray<TableSwap>
  /** Files that no table names any more once this swap is done. */
  readonly unreferenced: ReadonlyArray<string>
  /** What happens by it, for operators. A catalog that keeps a log of such events adds it with the swap, or not at all. */
  readonly event?: CommitEvent
}

export type Properties = Readonly<Record<string, string>>

export interface PropertiesChange {
  readonly updates: Properties
  readonly removals: ReadonlyArray<string>
}

/**
 * A turn to commit to these tables, until the scope closes. Where nobody is in line for any of them it is had at once, and gets in nobody's way; who
 * `hasLost` to others gets in line whatever there is. Politeness only: it never fails, ends after some seconds, and may be had by several at once.
 */
export type CommitTurn = (tables: ReadonlyArray<TableIdentifier>, hasLost: boolean) => Effect.Effect<void, never, Scope.Scope>

/**
 * Guarantees: `swap` happens whole or not at all, is durable when it returns, and succeeds for exactly one of many that expect the same location;
 * a commit id that `retire` has answered for never becomes visible afterwards.
 * Not guaranteed: that a failed change had no effect (see `CatalogError.outcome`), nor that a listener hears of every swap.
 */
export class Catalog extends Context.Tag("@voltlake/iceberg/Catalog")<Catalog, {
  /** Succeeds where the namespace is there already. */
  readonly createNamespace: (namespace: string) => Effect.Effect<void, CatalogError>
  readonly namespaces: Effect.Effect<ReadonlyArray<string>, CatalogError>
  /** Makes it with these properties; of many that make it at once one succeeds. */
  readonly newNamespace: (namespace: string, properties: Properties) => Effect.Effect<void, NamespaceAlreadyExists | CatalogError>
  readonly namespaceProperties: (namespace: string) => Effect.Effect<Properties, NamespaceNotFound | CatalogError>
  /** Answers the properties as they were before. */
  readonly changeNamespace: (
    namespace: string,
    change: PropertiesChange
  ) => Effect.Effect<Properties, NamespaceNotFound | CatalogError>
  readonly dropNamespace: (namespace: string) => Effect.Effect<void, NamespaceNotFound | NamespaceNotEmpty | CatalogError>
  /** All tables, in name order. */
  readonly list: Effect.Effect<ReadonlyArray<TableIdentifier>, CatalogError>
  readonly metadataLocation: (table: TableIdentifier) => Effect.Effect<string, TableNotFound | CatalogError>
  readonly createTable: (
    table: TableIdentifier,
    metadataLocation: string
  ) => Effect.Effect<void, TableAlreadyExists | CatalogError>
  /** Its files stay, but for those that are named here: they count as named by no table from now on. */
  readonly dropTable: (
    table: TableIdentifier,
    unreferenced: ReadonlyArray<string>
  ) => Effect.Effect<void, TableNotFound | CatalogError>
  /** Its files stay where they are. */
  readonly renameTable: (
    from: TableIdentifier,
    to: TableIdentifier
  ) => Effect.Effect<void, TableNotFound | TableAlreadyExists | CatalogError>
  /** Moves every table of the swap, in name order, with the heads that are given, and wakes listeners with the tables' names. */
  readonly swap: (swap: Swap) => Effect.Effect<void, CommitConflict | CommitRetired | CatalogError>
  /** Lets committers in several processes come through one after the other: of those that only swap, the faster one would win every time. */
  readonly turn: CommitTurn
  readonly heads: Effect.Effect<ReadonlyArray<TableHead>, CatalogError>
  /** How often a swap found that the table had been rewound: what was derived from it before the last time is to be derived anew. */
  readonly epoch: (table: TableIdentifier) => Effect.Effect<number, CatalogError>
  /** Refuses these commits from now on. A swap under way ends first: whoever looks for the commit's snapshot after this sees it or never will. */
  readonly retire: (commitIds: ReadonlyArray<string>) => Effect.Effect<void, CatalogError>
  /**
   * Until the scope closes, no file counts as expired that a table named when this began: for readers that may take longer than files are kept. A
   * reader that dies is forgotten after a minute.
   */
  readonly lease: (purpose: string) => Effect.Effect<void, CatalogError, Scope.Scope>
  /** Locations that have been named by no table for at least `ageMs`, oldest first, at most some thousands. */
  readonly expiredFiles: (ageMs: number) => Effect.Effect<ReadonlyArray<string>, CatalogError>
  /** Puts files on that list that no table names, as from now; those that are on it stay as they are. */
  readonly unreference: (locations: ReadonlyArray<string>) => Effect.Effect<void, CatalogError>
  /** For files that are deleted. */
  readonly forgetFiles: (locations: ReadonlyArray<string>) => Effect.Effect<void, CatalogError>
}>() {}

/** The channel that a swap notifies; the payload are the tables' names, parted by commas. */
export const commitChannel = "voltlake_commit"

/** Most locations that `expiredFiles` answers at once. */
export const expiredFilesMax = 5000
