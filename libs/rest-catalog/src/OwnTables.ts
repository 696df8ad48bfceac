/**
 * What other engines may do to the lake's own tables. Pure: (metadata, updates, what the new snapshots hold) gives the updates to apply, or why not.
 *
 * Rows come from the log alone, so that each event is there once and the counters add up. Rows may go, files may be rewritten, optional columns, tags,
 * branches and properties may come. Rules look at the table as it would be, not at single updates: no order of updates leads around them.
 *
 * Every accepted snapshot gets the keys of ours that its parent has, so that the position is in it, and the tag that guards the position moves along.
 */
import { Either, Schema } from "effect"
import { goldNamespace, goldSourceKey } from "@voltlake/domain/GoldModel"
import { lakeTables } from "@voltlake/domain/Tables"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import type { Snapshot } from "@voltlake/iceberg/Snapshot"
import { commitIdKey, mainBranch, ownPrefix, positionKey, positionTag } from "@voltlake/iceberg/Snapshot"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { currentSchema, currentSnapshot, lineage, snapshotById } from "@voltlake/iceberg/TableMetadata"
import type { UpdateRefused } from "@voltlake/iceberg/TableUpdate"
import * as TableUpdate from "@voltlake/iceberg/TableUpdate"

export class OwnTableRefused extends Schema.TaggedError<OwnTableRefused>()("OwnTableRefused", {
  table: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.table} is one of Voltlake's own tables: ${this.reason}`
  }
}

/** What a snapshot holds, by its manifests. */
export interface Held {
  /** Of live data files, whatever delete files say of them. */
  readonly rows: bigint
  /** Of live delete files. */
  readonly deletes: bigint
  readonly addsDataFiles: boolean
}

export interface Asked {
  readonly table: TableIdentifier
  readonly updates: ReadonlyArray<TableUpdate.TableUpdate>
  /** Of every snapshot that the updates add, and of their parents. */
  readonly held: ReadonlyMap<bigint, Held>
  readonly commitId: string
}

export const ownTables: ReadonlyArray<TableIdentifier> = lakeTables.map(({ name, namespace }) => ({ namespace, name }))

export const isOwn = ({ name, namespace }: TableIdentifier): boolean =>
  ownTables.some((own) => own.namespace === namespace && own.name === name)

/** Whether it is a table of gold that a model made: its rows are computed, and what it says of their source is believed. */
export const isComputed = ({ namespace }: TableIdentifier, metadata: TableMetadata): boolean =>
  namespace === goldNamespace && NewSnapshot.inherited(metadata)[goldSourceKey] !== undefined

/** What other engines may not do at all to a table of ours. */
export const checkUntouched = (table: TableIdentifier, reason: string): Either.Either<void, OwnTableRefused> =>
  isOwn(table) ? Either.left(new OwnTableRefused({ table: render(table), reason })) : Either.right(undefined)

export const notDropped = "it is not dropped or renamed by other engines; `voltlake pg` names the catalog's database for those who end a lake as a whole"
export const notReplaced = "it is made by Voltlake itself, and no file of it may be part of another table"

/** The updates to apply: those that were asked for, with our keys in every new snapshot. */
export const decide = (
  metadata: TableMetadata,
  asked: Asked
): Either.Either<ReadonlyArray<TableUpdate.TableUpdate>, OwnTableRefused | UpdateRefused> =>
  Either.gen(function*() {
    const refuse = (reason: string) => Either.left(new OwnTableRefused({ table: render(asked.table), reason }))
    const named = referenceFault(asked.updates)
    if (named !== undefined) return yield* refuse(named)
    const snapshots = addedSnapshots(asked.updates)
    for (const snapshot of snapshots) {
      const fault = snapshotFault(asked, snapshot)
      if (fault !== undefined) return yield* refuse(fault)
    }
    const stamped = stamp(metadata, asked)
    const at = { nowMs: metadata.lastUpdatedMs, metadataLocation: "" }
    const { metadata: after } = yield* TableUpdate.apply(metadata, stamped, at)
    const fault = stateFault(asked.table, metadata, after)
    return fault === undefined ? [...stamped, ...guardMoved(metadata, after)] : yield* refuse(fault)
  })

export const addedSnapshots = (updates: ReadonlyArray<TableUpdate.TableUpdate>): ReadonlyArray<Snapshot> =>
  updates.flatMap((update) => (update.action === "add-snapshot" ? [update.snapshot] : []))

const referenceFault = (updates: ReadonlyArray<TableUpdate.TableUpdate>): string | undefined => {
  for (const update of updates) {
    if (update.action !== "set-snapshot-ref" && update.action !== "remove-snapshot-ref") continue
    if (update.name === positionTag) return `the tag ${positionTag} guards its position in the log and moves with its commits only`
    if (update.name === mainBranch && update.action === "remove-snapshot-ref") return "its branch main is needed"
  }
  return undefined
}

const noNewRows = ({ namespace }: TableIdentifier): string =>
  namespace === "bronze"
    ? "its rows come from the log alone. Send events into the log instead (the topic of Kafka, or `voltlake replay FILE`), or write to a table of a namespace of your own"
    : "its rows come from bronze alone. Send events into the log instead (`voltlake replay FILE`), or write to a table of a namespace of your own"

const computed = "its rows are computed from silver. Write a model of your own (`voltlake models apply FILE`), or to a table of a namespace of your own"

/** Why a snapshot may not become part of the table. */
const snapshotFault = ({ held, table }: Asked, snapshot: Snapshot): string | undefined => {
  const operation = snapshot.summary["operation"] ?? "append"
  if (table.namespace === goldNamespace && operation !== "replace") return computed
  const now = held.get(snapshot.snapshotId)
  const before = snapshot.parentSnapshotId === undefined ? undefined : held.get(snapshot.parentSnapshotId)
  if (operation === "append") return noNewRows(table)
  if (now === undefined || before === undefined) return `snapshot ${snapshot.snapshotId} does not follow from one of its snapshots`
  switch (operation) {
    case "replace":
      // A rewrite may take out rows that delete files had deleted, and no others.
      if (now.rows > before.rows) return noNewRows(table)
      return before.rows - now.rows > before.deletes
        ? `a replace keeps all rows, and this one would leave ${now.rows} of ${before.rows}; delete rows by an operation that says so`
        : undefined
    case "delete":
    case "overwrite":
      return now.rows > before.rows || (now.rows === before.rows && now.addsDataFiles) ? noNewRows(table) : undefined
    default:
      return `it takes no operation ${operation}`
  }
}

/** Keys that look like ours are ours alone to set. */
const stamp = (metadata: TableMetadata, { commitId, updates }: Asked): ReadonlyArray<TableUpdate.TableUpdate> => {
  let known: TableMetadata = metadata
  return updates.map((update) => {
    if (update.action !== "add-snapshot") return update
    const { parentSnapshotId, summary } = update.snapshot
    const others = Object.entries(summary).filter(([key]) => !key.startsWith(ownPrefix))
    const inherited = parentSnapshotId === undefined ? {} : NewSnapshot.inherited(known, parentSnapshotId)
    const removals = [...ForeignRemoval.unacknowledged(known, parentSnapshotId), ...ForeignRemoval.of(update.snapshot)]
    const removed = removals.length === 0 ? {} : ForeignRemoval.summary(removals)
    const snapshot = { ...update.snapshot, summary: { ...inherited, ...removed, ...Object.fromEntries(others), [commitIdKey]: commitId } }
    known = { ...known, snapshots: [...known.snapshots, snapshot] }
    return { ...update, snapshot }
  })
}

const columnsFault = (before: TableMetadata, after: TableMetadata): string | undefined => {
  const [had, has] = [currentSchema(before).fields, currentSchema(after).fields]
  const shape = (field: (typeof had)[number]) => JSON.stringify([field.id, field.name, field.required, field.type])
  const shapes = new Set(has.map(shape))
  const lost = had.find((field) => !shapes.has(shape(field)))
  if (lost !== undefined) return `its column ${lost.name} is written by Voltlake and stays as it is; add optional columns, or make a view`
  const needed = has.find((field) => field.required && !had.some((one) => one.id === field.id))
  if (needed !== undefined) return `a new column must be optional, since Voltlake does not write ${needed.name}`
  const reused = has.find((field) => field.id <= before.lastColumnId && !had.some((one) => one.id === field.id))
  return reused === undefined ? undefined : `the new column ${reused.name} has the id ${reused.id}, which another had`
}

/** Why the table may not become what the updates would make of it. */
const stateFault = (table: TableIdentifier, before: TableMetadata, after: TableMetadata): string | undefined => {
  if (table.namespace === goldNamespace && before.currentSchemaId !== after.currentSchemaId) return "its columns are its model's"
  if (after.tableUuid !== before.tableUuid) return "its uuid stays"
  if (after.location !== before.location) return "its location stays; a lake moves by a copy, see docs/BACKUP.md"
  const columns = columnsFault(before, after)
  if (columns !== undefined) return columns
  const specIds = new Set(after.partitionSpecs.map((spec) => spec.specId))
  if (after.defaultSpecId !== before.defaultSpecId || before.partitionSpecs.some((spec) => !specIds.has(spec.specId))) {
    return "Voltlake writes its files by the partition specs that it has; they stay"
  }
  if (after.defaultSortOrderId !== before.defaultSortOrderId) return "Voltlake writes its files in the order that it has; it stays"
  const [was, is] = [before.currentSnapshotId, after.currentSnapshotId]
  const follows = was === undefined || Array.from(lineage(after, is)).some((snapshot) => snapshot.snapshotId === was)
  return follows ? undefined : "main moves forward only; `voltlake tables rollback` moves it back together with its position"
}

const guardMoved = (before: TableMetadata, after: TableMetadata): ReadonlyArray<TableUpdate.TableUpdate> => {
  const newest = currentSnapshot(after)
  if (newest === undefined || newest.snapshotId === before.currentSnapshotId || newest.summary[positionKey] === undefined) return []
  const extra = before.refs[positionTag]?.extra ?? {}
  return [{ action: "set-snapshot-ref", name: positionTag, reference: { snapshotId: newest.snapshotId, type: "tag", extra } }]
}

/** The snapshots of which {@link Asked.held} must tell, besides those that are added. */
export const parentsOf = (metadata: TableMetadata, updates: ReadonlyArray<TableUpdate.TableUpdate>): ReadonlyArray<Snapshot> =>
  addedSnapshots(updates).flatMap(({ parentSnapshotId }) => snapshotById(metadata, parentSnapshotId) ?? [])
