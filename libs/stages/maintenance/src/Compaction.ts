/**
 * Merges a table's small files, partition by partition, into sorted ones, beside whoever commits and reads: the same rows, with the same position.
 *
 * Which partitions have many files is counted from the manifests, without decoding the files' statistics. Then one partition at a time is planned, and
 * one merge at a time is read, written and committed: what is held in memory is one partition's list of files, and the engine's bounded share.
 */
import { Config, Effect, Schema } from "effect"
import * as Action from "@voltlake/iceberg/Action"
import type { RewriteStale } from "@voltlake/iceberg/Action"
import type { CommitConflict } from "@voltlake/iceberg/Catalog"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import type { Partition } from "@voltlake/iceberg/PartitionSpec"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { currentSchema, currentSnapshot, intProperty, specById, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { merges } from "./MergePolicy.ts"

/** Iceberg's own default is 512 MB; a merge of so much would hold its readers and our memory for longer than the scans of it gain. */
const targetBytesDefault = 128 * 1024 * 1024
const targetBytesProperty = "write.target-file-size-bytes"
const filesMax = 500

export interface CompactionSettings {
  readonly filesMin: number
}

export const settingsConfig: Config.Config<CompactionSettings> = Config.all({
  filesMin: Config.integer("MAINTENANCE_FILES_MIN").pipe(
    Config.validate({ message: "must be at least 2", validation: (files: number) => files >= 2 }),
    Config.withDefault(16),
    Config.withDescription("Data files of about the same size in one partition from which on they are merged")
  )
})

/** Live data files of a partition, by number. */
export interface PartitionFiles {
  readonly specId: number
  readonly partition: Partition
  readonly files: number
}

/** `timestamp_day=2026-11-24`, or `unpartitioned`. */
export const partitionText = (metadata: TableMetadata, { partition, specId }: Omit<PartitionFiles, "files">): string => {
  const spec = specById(metadata, specId)
  const path = spec === undefined ? "" : PartitionSpec.path(spec, metadata.schemas, partition)
  return path === "" ? "unpartitioned" : path
}

/** How many data files each partition of the current snapshot has. */
export const survey = Effect.fn("Compaction.survey")(function*(metadata: TableMetadata) {
  const files = yield* TableFiles
  const snapshot = currentSnapshot(metadata)
  const manifests = snapshot === undefined ? [] : yield* files.manifestList(snapshot.manifestList)
  const found = new Map<string, PartitionFiles>()
  for (const manifest of manifests) {
    if (manifest.content !== "data") continue
    const specId = manifest.partitionSpecId
    yield* files.selected(manifest, metadata, ({ partition }) => {
      const key = partitionText(metadata, { specId, partition }) + specId
      found.set(key, { specId, partition, files: (found.get(key)?.files ?? 0) + 1 })
      return false
    })
  }
  return Array.from(found.values())
})

/** A merge that is to be done. */
interface Merge extends Omit<PartitionFiles, "files"> {
  readonly files: ReadonlyArray<Scan.PlannedFile>
  readonly readAt: bigint
}

const bySequence = (a: Scan.PlannedFile, b: Scan.PlannedFile) =>
  a.sequenceNumber < b.sequenceNumber ? -1 : a.sequenceNumber > b.sequenceNumber ? 1 : a.file.filePath < b.file.filePath ? -1 : 1

/** The merges that a partition needs. */
export const planMerges = Effect.fn("Compaction.planMerges")(function*(
  metadata: TableMetadata,
  { partition, specId }: Omit<PartitionFiles, "files">,
  isAtRest: boolean,
  { filesMin }: CompactionSettings
) {
  const { files, snapshot } = yield* Scan.plan(metadata, { partition: { specId, values: partition } })
  if (snapshot === undefined) return []
  const sized = [...files].sort(bySequence).map((planned) => ({
    planned,
    sizeBytes: Number(planned.file.fileSizeInBytes),
    hasDeletes: planned.deletes.length > 0
  }))
  const limits = { targetBytes: intProperty(metadata, targetBytesProperty, targetBytesDefault), filesMin, filesMax }
  return merges(sized, isAtRest, limits).map((group): Merge => ({
    specId,
    partition,
    files: group.map(({ planned }) => planned),
    readAt: snapshot.sequenceNumber
  }))
})

interface OrderColumn {
  readonly name: string
  /** `asc nulls first` */
  readonly direction: string
  readonly isText: boolean
}

/** The columns by which a table's files are to be ordered; none where its order is not by columns as they are. */
const orderColumns = (metadata: TableMetadata): ReadonlyArray<OrderColumn> => {
  const order = metadata.sortOrders.find((candidate) => candidate.orderId === metadata.defaultSortOrderId)
  const { fields } = currentSchema(metadata)
  const columns = (order?.fields ?? []).map(({ direction, nullOrder, sourceId, transform }) => {
    const column = fields.find((field) => field.id === sourceId)
    if (column === undefined || transform.type !== "identity") return undefined
    return { name: quoted(column.name), direction: `${direction} ${nullOrder.replace("-", " ")}`, isText: column.type.type === "string" }
  })
  return columns.every((column) => column !== undefined) ? columns : []
}

/** A text column with no more values than this is ordered by their ranks. */
const ranksMax = 65_536

/**
 * The relation's rows in the table's order, as a query. Comparing text is most of what sorting costs, and the text of order columns repeats (topics,
 * vehicles): so numbers are compared instead, and what is the same in all rows is not compared at all.
 */
export const ordered = Effect.fnUntraced(function*(connection: Connection, metadata: TableMetadata, relation: string) {
  const joins: Array<string> = []
  const keys: Array<string> = []
  for (const [at, { direction, isText, name }] of orderColumns(metadata).entries()) {
    const key = `rows_of.${name} ${direction}`
    if (!isText) {
      keys.push(key)
      continue
    }
    const ranks = `compaction_rank_${at}`
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${ranks} AS SELECT text, row_number() OVER (ORDER BY text) AS rank FROM (
      SELECT DISTINCT ${name} AS text FROM ${relation} LIMIT ${ranksMax + 1})`)
    const [row] = yield* connection.rows(`SELECT count(*) AS values FROM ${ranks}`)
    const values = Number(row?.["values"] ?? 0)
    if (values === 1) continue
    if (values > ranksMax) {
      keys.push(key)
      continue
    }
    joins.push(`LEFT JOIN ${ranks} ON ${ranks}.text = rows_of.${name}`)
    keys.push(`${ranks}.rank ${direction}`)
  }
  return `SELECT rows_of.* FROM ${relation} AS rows_of ${joins.join(" ")} ${keys.length === 0 ? "" : `ORDER BY ${keys.join(", ")}`}`
})

/** Of files whose rows are {@link ordered}. */
export const sortOrderId = (metadata: TableMetadata): number => (orderColumns(metadata).length === 0 ? 0 : metadata.defaultSortOrderId)

export interface Merged {
  readonly partition: string
  readonly filesBefore: number
  readonly filesAfter: number
  readonly rows: bigint
  readonly bytesBefore: bigint
  readonly bytesAfter: bigint
}

const sum = (files: ReadonlyArray<DataFile>, of: (file: DataFile) => bigint) => files.reduce((total, file) => total + of(file), 0n)

/** Rows of files that were written anew are missing or too many: nothing of it is committed. */
export class RewriteIncomplete extends Schema.TaggedError<RewriteIncomplete>()("RewriteIncomplete", {
  table: Schema.String,
  expected: Schema.BigIntFromSelf,
  found: Schema.BigIntFromSelf
}) {
  override get message() {
    return `writing files of ${this.table} anew: of ${this.expected} rows ${this.found} were written. Nothing was changed. Report this as a bug.`
  }
}

/** The same rows, but for those that delete files take out. */
const checkRows = (table: string, { files }: Merge, found: bigint) => {
  const expected = files.reduce((total, { file }) => total + file.recordCount, 0n)
  const hasDeletes = files.some(({ deletes }) => deletes.length > 0)
  return found === expected || (hasDeletes && found < expected) ? Effect.void : new RewriteIncomplete({ table, expected, found })
}

/**
 * Writes the merged file and commits it in the place of the others. Fails with `RewriteStale` where somebody else changed one of them meanwhile, and
 * with `CommitConflict` where others were faster every time.
 */
const merge = Effect.fn("Compaction.merge")(function*(connection: Connection, table: TableIdentifier, metadata: TableMetadata, one: Merge) {
  const commitId = yield* Transaction.newCommitId
  const written = yield* Effect.scoped(Effect.gen(function*() {
    const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, one.files)
    return yield* DataFileWriter.write({
      connection,
      query: yield* ordered(connection, metadata, relation),
      metadata,
      specId: one.specId,
      partition: one.partition,
      sortOrderId: sortOrderId(metadata),
      commitId,
      index: 0
    })
  }))
  const added = written === undefined ? [] : [written]
  yield* checkRows(render(table), one, written?.recordCount ?? 0n)
  yield* Transaction.commit({ commitId, changes: [{ table, actions: [Action.rewrite({ replaced: one.files, added, readAt: one.readAt })] }] }).pipe(
    Effect.tapError((error) =>
      // What certainly is not in the table is nobody's.
      error._tag !== "CatalogError" || error.outcome === "NotApplied"
        ? Effect.flatMap(TableFiles, (files) => files.discard(added.map((file) => file.filePath)))
        : Effect.void)
  )
  const before = one.files.map(({ file }) => file)
  const merged: Merged = {
    partition: partitionText(metadata, one),
    filesBefore: before.length,
    filesAfter: added.length,
    rows: sum(added, (file) => file.recordCount),
    bytesBefore: sum(before, (file) => file.fileSizeInBytes),
    bytesAfter: sum(added, (file) => file.fileSizeInBytes)
  }
  yield* Effect.logDebug("merged data files").pipe(Effect.annotateLogs({ table: render(table), ...merged }))
  return merged
})

/** Others were faster: there will be another time. */
const leave = (error: RewriteStale | CommitConflict) => Effect.as(Effect.logDebug("a merge came too late", error), undefined)

/** A merged file may be the last that its own class needed, up to the largest: so often at most. Files that come meanwhile are for the next time. */
const roundsMax = 6

/** Merges what the partition needs, and what the merged files need in turn. A merge that others were faster than is left for the next time. */
export const compactPartition = Effect.fn("Compaction.compactPartition")(function*(
  connection: Connection,
  table: TableIdentifier,
  partition: Omit<PartitionFiles, "files">,
  isAtRest: boolean,
  settings: CompactionSettings
) {
  const tables = yield* Tables
  const done: Array<Merged> = []
  // At rest all is packed in one go.
  for (let round = 0; round < (isAtRest ? 1 : roundsMax); round++) {
    const { metadata } = yield* tables.load(table)
    const planned = yield* planMerges(metadata, partition, isAtRest, settings)
    if (planned.length === 0) return done
    for (const one of planned) {
      const merged = yield* merge(connection, table, metadata, one).pipe(
        Effect.catchTags({ RewriteStale: leave, CommitConflict: leave })
      )
      if (merged === undefined) return done
      done.push(merged)
    }
  }
  return done
})

/** Merges all partitions of a table as if they were at rest: for the command line. */
export const compactTable = Effect.fn("Compaction.compactTable")(function*(connection: Connection, table: TableIdentifier, settings: CompactionSettings) {
  const { metadata } = yield* (yield* Tables).load(table)
  const partitions = yield* survey(metadata)
  const merged = yield* Effect.forEach(partitions, (partition) => compactPartition(connection, table, partition, true, settings))
  return merged.flat()
})
