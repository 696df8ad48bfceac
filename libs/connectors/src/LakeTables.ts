/**
 * The lakehouse's Iceberg tables as stages use them: made from their contracts, and read for the progress that their last commit stored.
 */
import { Effect, Either, Schema } from "effect"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as Json from "@voltlake/iceberg/Json"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import { decodeType } from "@voltlake/iceberg/SchemaJson"
import { positionKey } from "@voltlake/iceberg/Snapshot"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import { render, type TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { positionLineage, type TableDefinition, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import type { TableSchema } from "@voltlake/iceberg/Type"
import * as Transform from "@voltlake/iceberg/Transform"

/** Summary key of a table's {@link Progress.Progress}. */
export const progressKey = "voltlake.progress"

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

/** The table's progress: that of the nearest snapshot, from the current one back, which has it. Empty for a new table. */
export const progressOf = (
  contract: TableContract,
  metadata: TableMetadata
): Either.Either<Progress.Progress, ProgressDamaged | ProgressMissing> => {
  for (const snapshot of positionLineage(metadata)) {
    const text = snapshot.summary[progressKey]
    if (text === undefined) continue
    return Either.mapLeft(
      Progress.decode(text),
      (error) =>
        new ProgressDamaged({ table: qualifiedName(contract), snapshotId: snapshot.snapshotId, reason: error.message })
    )
  }
  return metadata.currentSnapshotId === undefined
    ? Either.right(Progress.empty)
    : Either.left(new ProgressMissing({ table: qualifiedName(contract) }))
}

/** The summary entries of a commit that leaves the table at this progress. */
export const progressSummary = (progress: Progress.Progress): Record<string, string> => ({
  [progressKey]: Progress.encode(progress),
  [positionKey]: Position.encode(Progress.position(progress))
})

/** How far our own commits have brought each table, whatever became of it since. */
export const headPositions = Effect.gen(function*() {
  const heads = yield* (yield* Catalog).heads
  return (contract: TableContract): Position.Position => {
    const text = heads.find(({ table }) => render(table) === qualifiedName(contract))?.position
    return text === undefined ? Position.empty : Either.getOrElse(Position.decode(text), () => Position.empty)
  }
})

/** Loads a table with its progress. */
export const load = Effect.fn("LakeTables.load")(function*(contract: TableContract) {
  const tables = yield* Tables
  const table = yield* tables.load(identifier(contract))
  const progress = yield* progressOf(contract, table.metadata)
  return { ...table, progress }
})
