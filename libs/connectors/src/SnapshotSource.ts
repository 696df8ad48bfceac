/**
 * Reading a table by offsets: the rows of `[start, end)` of some partitions, whatever happened to files and snapshots since they were committed.
 *
 * What makes it cheap is the sequence number of the newest snapshot whose position the reader has passed: files older than it hold nothing new.
 * What makes it right is the predicate on the rows' own offsets.
 */
import { Effect, Either } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import * as Position from "@voltlake/domain/Position"
import type { TableContract } from "@voltlake/domain/Tables"
import { positionKey } from "@voltlake/iceberg/Snapshot"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Scan from "@voltlake/iceberg/Scan"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { literal } from "@voltlake/query-engine/SqlText"

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

const engineTypes: Readonly<Record<string, string>> = {
  string: "VARCHAR",
  int: "INTEGER",
  long: "BIGINT",
  double: "DOUBLE",
  timestamptz: "TIMESTAMPTZ",
  binary: "BLOB"
}

/** DuckDB's type of a column; headers are the one nested column that the contracts have. */
const engineType = (type: TableContract["columns"][number]["type"]): string => {
  if (typeof type !== "string") return "STRUCT(\"key\" VARCHAR, \"value\" BLOB)[]"
  const known = engineTypes[type]
  invariant(known !== undefined, `no engine type for ${type}`)
  return known
}

const noRows = (contract: TableContract): string =>
  `SELECT ${contract.columns.map((column) => `NULL::${engineType(column.type)} AS "${column.name}"`).join(", ")} WHERE false`

/** The sequence number up to which a reader at `position` has read everything; 0 where that is not known. */
const readUpTo = (metadata: TableMetadata, position: Position.Position): bigint => {
  const snapshot = Scan.findAncestor(metadata, (summary) => {
    const text = summary[positionKey]
    if (text === undefined) return false
    return Either.match(Position.decode(text), { onLeft: () => false, onRight: (at) => Position.reached(position, at) })
  })
  return snapshot?.sequenceNumber ?? 0n
}

const relationOf = Effect.fnUntraced(function*(contract: TableContract, files: ReadonlyArray<Scan.PlannedFile>) {
  if (files.length === 0) return `(${noRows(contract)})`
  const store = yield* ObjectStore
  const paths = yield* Effect.forEach(files, ({ file }) => {
    const key = store.keyOf(file.filePath)
    invariant(key !== undefined, `${file.filePath} lies in the object store`)
    return store.localFile(key)
  })
  return `read_parquet([${paths.map(literal).join(", ")}], hive_partitioning = false)`
})

/** A relation (for FROM) of all rows of the table's current snapshot. */
export const all = Effect.fn("SnapshotSource.all")(function*(contract: TableContract, metadata: TableMetadata) {
  return yield* relationOf(contract, yield* Scan.planFiles(metadata))
})

/** A relation (for FROM) of the rows in `ranges`, for a reader whose position is `from`. */
export const range = Effect.fn("SnapshotSource.range")(function*(
  contract: TableContract,
  metadata: TableMetadata,
  from: Position.Position,
  ranges: ReadonlyArray<Position.OffsetRange>
) {
  const offset = contract.columns.find((column) => column.name === "offset")
  invariant(offset !== undefined, "every table that is read by offsets has the column offset")
  const files = yield* Scan.planFiles(metadata, { afterSequence: readUpTo(metadata, from) })
  const wanted = files.filter(({ file }) => ranges.some((one) => Scan.mayHoldLong(file, offset.id, one.start, one.end)))
  return `(SELECT * FROM ${yield* relationOf(contract, wanted)} WHERE ${inRanges(ranges)})`
})
