/**
 * Reading a table by offsets: the rows of `[start, end)` of some partitions, whatever happened to files and snapshots since they were committed.
 *
 * What makes it cheap is the sequence number of the newest snapshot whose position the reader has passed: files older than it hold nothing new.
 * What makes it right is the predicate on the rows' own offsets.
 */
import { Effect, Either } from "effect"
import * as Position from "@voltlake/domain/Position"
import type { TableContract } from "@voltlake/domain/Tables"
import * as Expression from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import { positionKey } from "@voltlake/iceberg/Snapshot"
import { currentSchema, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Scan from "@voltlake/iceberg/Scan"
import { literal } from "@voltlake/query-engine/SqlText"
import * as LakeTables from "./LakeTables.ts"

/** SQL condition on columns `topic`, `partition`, `offset`. False for no ranges. */
export const inRanges = (ranges: ReadonlyArray<Position.OffsetRange>): string => {
  if (ranges.length === 0) return "false"
  const topics = [...new Set(ranges.map(({ topic }) => topic))]
  const within = ({ end, partition, start }: Position.OffsetRange) =>
    `("partition" = ${partition} AND "offset" >= ${start} AND "offset" < ${end})`
  // The topic, which is text, is looked at once for all its ranges.
  return topics.map((topic) =>
    `(topic = ${literal(topic)} AND (${ranges.filter((range) => range.topic === topic).map(within).join(" OR ")}))`
  ).join(" OR ")
}

/** The sequence number up to which a reader at `position` has read everything; 0 where that is not known. */
const readUpTo = (metadata: TableMetadata, position: Position.Position): bigint => {
  const snapshot = Scan.findAncestor(metadata, (summary) => {
    const text = summary[positionKey]
    if (text === undefined) return false
    return Either.match(Position.decode(text), { onLeft: () => false, onRight: (at) => Position.reached(position, at) })
  })
  return snapshot?.sequenceNumber ?? 0n
}

/** A relation (for FROM) of all rows of the table's current snapshot, with the contract's columns. */
export const all = Effect.fn("SnapshotSource.all")(function*(contract: TableContract, metadata: TableMetadata) {
  const { files } = yield* Scan.plan(metadata)
  return yield* ReadSql.relation(LakeTables.schemaOf(contract), metadata, files)
})

/** A relation (for FROM) with the contract's columns and no rows. */
export const none = (contract: TableContract, metadata: TableMetadata) => ReadSql.relation(LakeTables.schemaOf(contract), metadata, [])

/** What the table calls the contract's column now. */
const nameIn = (metadata: TableMetadata, contract: TableContract, name: string): string => {
  const id = contract.columns.find((column) => column.name === name)?.id
  return currentSchema(metadata).fields.find((field) => field.id === id)?.name ?? name
}

/** A relation (for FROM) of the rows in `ranges`, for a reader whose position is `from`. */
export const range = Effect.fn("SnapshotSource.range")(function*(
  contract: TableContract,
  metadata: TableMetadata,
  from: Position.Position,
  ranges: ReadonlyArray<Position.OffsetRange>
) {
  const [partition, offset] = [nameIn(metadata, contract, "partition"), nameIn(metadata, contract, "offset")]
  const within = ranges.map((one) =>
    Expression.and(
      Expression.test(partition, "=", one.partition),
      Expression.test(offset, ">=", one.start),
      Expression.test(offset, "<", one.end)
    ))
  const { files } = yield* Scan.plan(metadata, { afterSequence: readUpTo(metadata, from), filter: Expression.or(...within) })
  return `(SELECT * FROM ${yield* ReadSql.relation(LakeTables.schemaOf(contract), metadata, files)} WHERE ${inRanges(ranges)})`
})
