/**
 * The lakehouse's Iceberg tables as stages use them: made from their contracts, and read for the progress that their last commit stored.
 */
import { Effect, Either, Schema } from "effect"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import * as Removals from "@voltlake/domain/Removals"
import { qualifiedName, type TableContract, telemetryRejected } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import * as Json from "@voltlake/iceberg/Json"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import { decodeType } from "@voltlake/iceberg/SchemaJson"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import { positionKey, type Snapshot } from "@voltlake/iceberg/Snapshot"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import { render, type TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { positionLineage, type TableDefinition, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import type { TableSchema } from "@voltlake/iceberg/Type"
import * as Transform from "@voltlake/iceberg/Transform"

/** Summary key of a table's {@link Progress.Progress}. */
export const progressKey = "voltlake.progress"

/** Summary key of a table's {@link Removals.Removals}. */
const removalsKey = "voltlake.removals"

/** The counters of a snapshot cannot be read: somebody changed them, or a newer version wrote them. */
export class ProgressDamaged extends Schema.TaggedError<ProgressDamaged>()("ProgressDamaged", {
  table: Schema.String,
  snapshotId: Schema.BigIntFromSelf,
  reason: Schema.String
}) {
  override get message() {
    return `the progress in snapshot ${this.snapshotId} of ${this.table} cannot be read: ${this.reason}`
  }
}

/** The spec that new files have: one partition a day. */
export const daySpecId = 0
/** The spec for rows of many sparse days, which would make a file each. */
export const unpartitionedSpecId = 1
export const sortOrderId = 1

const firstPartitionFieldId = 1000

export const identifier = (contract: TableContract): TableIdentifier => ({ namespace: contract.namespace, name: contract.name })

const columnId = (contract: TableContract, name: string) => contract.columns.find((column) => column.name === name)!.id

/** The contract's columns, which a table has by their ids whatever others named them or added since. */
export const schemaOf = (contract: TableContract): TableSchema => ({
  schemaId: 0,
  identifierFieldIds: [],
  fields: contract.columns.map((column) => ({
    id: column.id,
    name: column.name,
    required: column.required,
    // A contract's types are ours: a wrong one is a bug, found by the first test that makes the table.
    type: Either.getOrThrow(Json.decode(JSON.stringify(column.type), decodeType)),
    doc: column.doc
  }))
})

const definition = (contract: TableContract): TableDefinition => ({
  schema: schemaOf(contract),
  specs: [
    PartitionSpec.make(daySpecId, [{
      sourceId: columnId(contract, contract.dayOf),
      fieldId: firstPartitionFieldId,
      name: `${contract.dayOf}_day`,
      transform: Transform.day
    }]),
    PartitionSpec.make(unpartitionedSpecId, [])
  ],
  sortOrder: SortOrder.ascending(sortOrderId, contract.orderBy.map((name) => columnId(contract, name))),
  properties: {
    comment: contract.doc,
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true"
  }
})

export const ensure = Effect.fn("LakeTables.ensure")(function*(contract: TableContract) {
  const tables = yield* Tables
  return yield* tables.createIfAbsent(identifier(contract), definition(contract))
})

/** No snapshot that is kept says how far the table is: others committed, and expired ours. Reading it all again would double its rows. */
export class ProgressMissing extends Schema.TaggedError<ProgressMissing>()("ProgressMissing", { table: Schema.String }) {
  override get message() {
    return `no snapshot of ${this.table} says its position. Run \`voltlake tables recover-position ${this.table}\`, which computes it from the rows.`
  }
}

const damaged = (contract: TableContract, { snapshotId }: Snapshot) => ({ message }: Error) =>
  new ProgressDamaged({ table: qualifiedName(contract), snapshotId, reason: message })

/** The table's progress: that of the nearest snapshot, from the current one back, which has it. Empty for a new table. */
export const progressOf = (
  contract: TableContract,
  metadata: TableMetadata
): Either.Either<Progress.Progress, ProgressDamaged | ProgressMissing> => {
  for (const snapshot of positionLineage(metadata)) {
    const text = snapshot.summary[progressKey]
    if (text !== undefined) return Either.mapLeft(Progress.decode(text), damaged(contract, snapshot))
  }
  return metadata.currentSnapshotId === undefined
    ? Either.right(Progress.empty)
    : Either.left(new ProgressMissing({ table: qualifiedName(contract) }))
}

/** What has been removed from the table on purpose. */
export const removalsOf = (contract: TableContract, metadata: TableMetadata): Either.Either<Removals.Removals, ProgressDamaged> => {
  const snapshot = NewSnapshot.nearestOwn(metadata)
  const text = snapshot?.summary[removalsKey]
  return snapshot === undefined || text === undefined
    ? Either.right(Removals.none)
    : Either.mapLeft(Removals.decode(text), damaged(contract, snapshot))
}

/** The summary entry of a commit that leaves the table with these removals. */
export const removalsSummary = (removals: Removals.Removals): Record<string, string> => ({ [removalsKey]: Removals.encode(removals) })

/** The summary entries of a commit that leaves the table at this progress. */
export const progressSummary = (progress: Progress.Progress): Record<string, string> => ({
  [progressKey]: Progress.encode(progress),
  [positionKey]: Position.encode(Progress.position(progress))
})

/** Summary key of silver's tables: the sequence number of bronze's snapshot from which on silver must read bronze. */
const bronzeSequenceKey = "voltlake.bronze-sequence"

/** The summary entry of a commit that takes rows out of bronze and silver: what silver has read of bronze before must not come in any more. */
export const bronzeSequenceSummary = (sequenceNumber: bigint): Record<string, string> => ({ [bronzeSequenceKey]: String(sequenceNumber) })

/** Where a batch of silver must have read bronze from, at least. */
export const bronzeSequenceOf = (metadata: TableMetadata): bigint => {
  const text = NewSnapshot.nearestOwn(metadata)?.summary[bronzeSequenceKey] ?? ""
  return /^\d+$/.test(text) ? BigInt(text) : 0n
}

/** How far our own commits have brought each table, whatever became of it since. */
export const headPositions = Effect.gen(function*() {
  const heads = yield* (yield* Catalog).heads
  return (contract: TableContract): Position.Position => {
    const text = heads.find(({ table }) => render(table) === qualifiedName(contract))?.position
    return text === undefined ? Position.empty : Either.getOrElse(Position.decode(text), () => Position.empty)
  }
})

/** The progress counter of the table's own rows. */
export const rowCounter = (contract: TableContract): "rows" | "rejected" => (contract === telemetryRejected ? "rejected" : "rows")

export type Loaded = Effect.Effect.Success<ReturnType<typeof load>>

/** Loads a table with its progress and what was removed from it. */
export const load = Effect.fn("LakeTables.load")(function*(contract: TableContract) {
  const tables = yield* Tables
  const table = yield* tables.load(identifier(contract))
  const progress = yield* progressOf(contract, table.metadata)
  const removals = yield* removalsOf(contract, table.metadata)
  return {
    ...table,
    progress,
    removals,
    /** By partition; undefined where other engines have removed rows of which nobody knows how many. */
    removed: ForeignRemoval.unacknowledged(table.metadata).length === 0 ? removals.rows : undefined
  }
})
