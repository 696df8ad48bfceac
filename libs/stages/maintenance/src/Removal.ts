/**
 * Takes rows out of the lake's tables on purpose: files that hold some are written anew without them, those of nothing else go whole, and all tables
 * change in one commit, whose summary counts what went (`Removals`). Beside whoever commits and reads: what somebody else changed meanwhile is planned
 * again, and only that.
 */
import { Clock, Effect, Either, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Position from "@voltlake/domain/Position"
import * as Removals from "@voltlake/domain/Removals"
import { qualifiedName, type TableContract, telemetryRaw } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import type * as Expression from "@voltlake/iceberg/Expression"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import { currentSchema, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as Compaction from "./Compaction.ts"

/** Which rows of a table go. */
export interface Condition {
  readonly contract: TableContract
  /** No file that it rules out is read. */
  readonly filter: Expression.Expression
  /** In the engine's SQL, on the table's columns; where it is NULL the row stays. */
  readonly sql: string
  /** Looks only at files that came after this sequence number. */
  readonly afterSequence?: bigint
}

export interface Request {
  readonly conditions: ReadonlyArray<Condition>
  readonly scope: Removals.Scope
  /** Says what would go, and changes nothing. */
  readonly dryRun: boolean
  /**
   * Whether what silver has read of bronze and not committed yet must not come in any more. Bronze's condition comes first then, and those of both silver
   * tables are among the others.
   */
  readonly isFinal?: boolean
}

export interface Removed {
  readonly contract: TableContract
  readonly rows: bigint
  /** That held some of them. */
  readonly files: number
  /** Sequence number of the snapshot that was looked at: what came after it was not. */
  readonly readAt: bigint
}

/** Others changed the files so often that no attempt came through. Nothing was changed. */
export class RemovalStale extends Schema.TaggedError<RemovalStale>()("RemovalStale", { tables: Schema.String }) {
  override get message() {
    return `files of ${this.tables} were changed by others each time that they were to be replaced. Nothing was removed. Try again.`
  }
}

/** Files of one partition that are written anew as one. */
const groupFilesMax = 64
const groupBytesMax = 128n * 1024n * 1024n
const triesMax = 20

type Group = readonly [Scan.PlannedFile, ...ReadonlyArray<Scan.PlannedFile>]

const groupsOf = (files: ReadonlyArray<Scan.PlannedFile>): ReadonlyArray<Group> => {
  const open = new Map<string, { files: [Scan.PlannedFile, ...Array<Scan.PlannedFile>]; bytes: bigint }>()
  const done: Array<Group> = []
  for (const planned of files) {
    const key = `${planned.file.specId}/${planned.file.partition.join("/")}`
    const bytes = planned.file.fileSizeInBytes
    const group = open.get(key)
    if (group !== undefined && group.files.length < groupFilesMax && group.bytes + bytes <= groupBytesMax) {
      group.files.push(planned)
      group.bytes += bytes
    } else {
      if (group !== undefined) done.push(group.files)
      open.set(key, { files: [planned], bytes })
    }
  }
  return [...done, ...Array.from(open.values(), (group) => group.files)]
}

/** What becomes of a group that holds rows which go. */
interface Replacement {
  readonly removed: ReadonlyArray<DataFile>
  readonly added: ReadonlyArray<DataFile>
  readonly rows: Removals.RowCounts
}

interface Work {
  readonly connection: Connection
  readonly commitId: string
  readonly dryRun: boolean
  /** By the group's files; undefined where none of their rows goes. Files that were written for a group stand for it in every attempt. */
  readonly known: Map<string, Replacement | undefined>
}

const replace = Effect.fn("Removal.replace")(function*(work: Work, { contract, sql }: Condition, metadata: TableMetadata, group: Group) {
  const { commitId, connection, dryRun } = work
  const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, group)
  const counts = yield* connection.rows(`SELECT topic, "partition", count(*) AS held, count(*) FILTER (${sql}) AS going FROM ${relation} GROUP BY ALL`)
  const rows = new Map(counts.filter((row) => row["going"] !== 0n).map((row) =>
    [Position.key({ topic: String(row["topic"]), partition: Number(row["partition"]) }), BigInt(row["going"] as bigint)] as const
  ))
  if (rows.size === 0) return undefined
  const removed = group.map(({ file }) => file)
  const staying = counts.reduce((sum, row) => sum + BigInt(row["held"] as bigint), 0n) - Removals.total(rows)
  if (dryRun || staying === 0n) return { removed, added: [], rows } satisfies Replacement
  const written = yield* DataFileWriter.write({
    connection,
    query: yield* Compaction.ordered(connection, metadata, `(SELECT * FROM ${relation} WHERE NOT coalesce(${sql}, false))`),
    metadata,
    specId: removed[0]!.specId,
    partition: removed[0]!.partition,
    sortOrderId: Compaction.sortOrderId(metadata),
    commitId,
    index: work.known.size
  })
  const found = written?.recordCount ?? 0n
  if (found !== staying) return yield* new Compaction.RewriteIncomplete({ table: qualifiedName(contract), expected: staying, found })
  return { removed, added: written === undefined ? [] : [written], rows } satisfies Replacement
}, Effect.scoped)

interface PlannedTable {
  readonly condition: Condition
  readonly readAt: bigint
  readonly replacements: ReadonlyArray<Replacement>
}

const planTable = Effect.fnUntraced(function*(work: Work, condition: Condition) {
  const { metadata } = yield* LakeTables.ensure(condition.contract)
  const { files, snapshot } = yield* Scan.plan(metadata, { filter: condition.filter, afterSequence: condition.afterSequence ?? 0n })
  const replacements: Array<Replacement> = []
  for (const group of groupsOf(files)) {
    // What delete files took out since is no part of what was written.
    const key = group.map(({ deletes, file }) => [file.filePath, ...deletes.map((one) => one.file.filePath).sort()].join(" ")).join("\n")
    if (!work.known.has(key)) work.known.set(key, yield* replace(work, condition, metadata, group))
    const replacement = work.known.get(key)
    if (replacement !== undefined) replacements.push(replacement)
  }
  return { condition, readAt: snapshot?.sequenceNumber ?? 0n, replacements } satisfies PlannedTable
})

const rowsOf = ({ replacements }: PlannedTable): Removals.RowCounts => {
  const all = new Map<string, bigint>()
  for (const { rows } of replacements) for (const [key, count] of rows) all.set(key, (all.get(key) ?? 0n) + count)
  return all
}

const commit = (commitId: string, atMs: number, { isFinal = false, scope }: Request, planned: ReadonlyArray<PlannedTable>) => {
  // Of bronze's snapshot in the attempt under way: requirements are asked in the order of the changes.
  let bronzeSequence = 0n
  return Transaction.commit<Action.RewriteStale | LakeTables.ProgressDamaged>({
    commitId,
    changes: planned.map((table) => ({
      table: LakeTables.identifier(table.condition.contract),
      actions: [
        table.replacements.length === 0 ? Action.append([]) : Action.overwrite({
          removed: table.replacements.flatMap(({ removed }) => removed),
          added: table.replacements.flatMap(({ added }) => added),
          readAt: table.readAt
        })
      ],
      summary: (metadata: TableMetadata) => {
        const { contract } = table.condition
        if (contract === telemetryRaw) bronzeSequence = NewSnapshot.nextSequenceNumber(metadata)
        const final = isFinal && contract !== telemetryRaw ? LakeTables.bronzeSequenceSummary(bronzeSequence) : {}
        if (table.replacements.length === 0) return Either.right(final)
        return Either.map(LakeTables.removalsOf(contract, metadata), (removals) =>
          ({ ...final, ...LakeTables.removalsSummary(Removals.add(removals, { id: commitId, scope, atMs, removed: rowsOf(table) })) }))
      }
    }))
  })
}

/** What was written and certainly is in no table. */
const discard = (work: Work, used: ReadonlyArray<PlannedTable>) =>
  Effect.flatMap(TableFiles, (files) => {
    const named = new Set(used.flatMap(({ replacements }) => replacements).flatMap(({ added }) => added.map((file) => file.filePath)))
    const written = Array.from(work.known.values()).flatMap((one) => one?.added ?? []).map((file) => file.filePath)
    return files.discard(written.filter((location) => !named.has(location)))
  })

/** Removes what the conditions name of all their tables, or nothing. */
export const run = Effect.fn("Removal.run")(function*(request: Request) {
  const { conditions, dryRun, isFinal = false } = request
  const connection = yield* (yield* QueryEngine).connect
  const work: Work = { connection, commitId: yield* Transaction.newCommitId, dryRun, known: new Map() }
  const attempt = Effect.gen(function*() {
    const planned = yield* Effect.forEach(conditions, (condition) => planTable(work, condition))
    const touched = planned.filter(({ replacements }) => replacements.length > 0)
    const isOfBronze = touched.some(({ condition }) => condition.contract === telemetryRaw)
    if (touched.length > 0 && !dryRun) yield* commit(work.commitId, yield* Clock.currentTimeMillis, request, isFinal && isOfBronze ? planned : touched)
    yield* discard(work, touched)
    return planned.map((table): Removed => ({
      contract: table.condition.contract,
      rows: Removals.total(rowsOf(table)),
      files: table.replacements.reduce((sum, { removed }) => sum + removed.length, 0),
      readAt: table.readAt
    }))
  })
  return yield* attempt.pipe(
    Effect.retry({ while: (error) => error._tag === "RewriteStale", times: triesMax }),
    Effect.tapError((error) => error._tag === "CatalogError" && error.outcome === "Unknown" ? Effect.void : discard(work, [])),
    Effect.catchTag("RewriteStale", () => new RemovalStale({ tables: conditions.map(({ contract }) => qualifiedName(contract)).join(", ") }))
  )
}, Effect.scoped)
