/**
 * What a reader must fetch (specification: "Scan Planning"). Plans from metadata and manifests alone; fetching the files is the caller's.
 *
 * Manifests that cannot matter are not read, and of the others no entry is decoded whose partition, age or column bounds rule it out: a plan holds what
 * it answers.
 */
import { Effect, Either, Schema } from "effect"
import { decode } from "./BoundsBinary.ts"
import type { DataFile, ManifestFile } from "./DataFile.ts"
import type { SequencedFile } from "./DeleteFiles.ts"
import * as DeleteFiles from "./DeleteFiles.ts"
import type { Bound, Expression, ExpressionError } from "./Expression.ts"
import * as Expr from "./Expression.ts"
import * as Metrics from "./Metrics.ts"
import type { Partition } from "./PartitionSpec.ts"
import * as PartitionSummary from "./PartitionSummary.ts"
import type { SingleValue } from "./SingleValue.ts"
import type { Snapshot, Summary } from "./Snapshot.ts"
import type { TableReadError } from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSchema, lineage, snapshotById, specById } from "./TableMetadata.ts"
import type { Leaf, TableSchema } from "./Type.ts"
import { long } from "./Type.ts"

/** The table has delete files (another engine's merge-on-read), which the caller does not apply: reading without them would show deleted rows. */
export class UnsupportedDeleteFiles
  extends Schema.TaggedError<UnsupportedDeleteFiles>()("UnsupportedDeleteFiles", {
    table: Schema.String,
    snapshotId: Schema.BigIntFromSelf,
    file: Schema.String
  })
{
  override get message() {
    return `${this.table} has delete files (${this.file}), which are not supported here; ` +
      `rewrite its data files with the engine that wrote them`
  }
}

/** The snapshot was expired, or never was; `wanted` is its id, the time at which it was current, or the reference that names it. */
export class SnapshotNotFound extends Schema.TaggedError<SnapshotNotFound>()("SnapshotNotFound", {
  table: Schema.String,
  wanted: Schema.String
}) {
  override get message() {
    return `${this.table} has no snapshot ${this.wanted}`
  }
}

/** By id, as it was at a time (milliseconds since 1970), or by the name of a branch or tag. */
export type SnapshotChoice = bigint | { readonly atMs: number } | { readonly ref: string }

export interface ScanOptions {
  /** The current snapshot where not given. */
  readonly snapshot?: SnapshotChoice | undefined
  /** Only files that may hold rows of which it holds. */
  readonly filter?: Expression | undefined
  /** Only files of this partition. */
  readonly partition?: { readonly specId: number; readonly values: Partition } | undefined
  /** Only rows that became part of the table after this sequence number. */
  readonly afterSequence?: bigint | undefined
  /** Only rows that became part of the table after this ancestor of the snapshot. */
  readonly fromSnapshot?: bigint | undefined
}

/** A live file, the sequence number at which its rows became part of the table, which rewriting keeps, and what deletes rows of it. */
export interface PlannedFile extends SequencedFile {
  readonly deletes: ReadonlyArray<SequencedFile>
}

/** Why something need not be read. */
export type SkipCause = "age" | "partition" | "column bounds"

export interface Explanation {
  /** Manifests of data and of deletes that the snapshot lists. */
  readonly manifests: number
  readonly manifestsSkipped: Readonly<Record<Exclude<SkipCause, "column bounds">, number>>
  /** Data files in the manifests that were read. */
  readonly files: number
  readonly filesSkipped: Readonly<Record<SkipCause, number>>
  readonly deleteFiles: number
}

export interface Plan {
  /** None for a table without a snapshot. */
  readonly snapshot: Snapshot | undefined
  /** The columns that the snapshot's readers see. */
  readonly schema: TableSchema
  readonly files: ReadonlyArray<PlannedFile>
  readonly explanation: Explanation
}

export type PlanError = TableReadError | SnapshotNotFound | ExpressionError
export type ScanError = PlanError | UnsupportedDeleteFiles

const manifestReadsMax = 4

const chosen = (metadata: TableMetadata, choice: SnapshotChoice | undefined): Either.Either<Snapshot | undefined, SnapshotNotFound> => {
  if (choice === undefined) return Either.right(snapshotById(metadata, metadata.currentSnapshotId))
  const [id, wanted] = typeof choice === "bigint"
    ? [choice, String(choice)]
    : "ref" in choice
    ? [metadata.refs[choice.ref]?.snapshotId, choice.ref]
    : [
      metadata.snapshotLog.findLast((entry) => entry.timestampMs <= choice.atMs)?.snapshotId,
      `of ${new Date(choice.atMs).toISOString()}`
    ]
  const found = snapshotById(metadata, id)
  return found === undefined ? Either.left(new SnapshotNotFound({ table: metadata.location, wanted })) : Either.right(found)
}

const isCurrent = (metadata: TableMetadata, snapshot: Snapshot | undefined) =>
  snapshot === undefined || snapshot.snapshotId === metadata.currentSnapshotId

/** An older snapshot is read with the columns that it was made with; the current one with the table's. */
const schemaOf = (metadata: TableMetadata, snapshot: Snapshot | undefined): TableSchema => {
  const own = isCurrent(metadata, snapshot) ? undefined : metadata.schemas.find((schema) => schema.schemaId === snapshot?.schemaId)
  return own ?? currentSchema(metadata)
}

const oldestWanted = (
  metadata: TableMetadata,
  snapshot: Snapshot,
  { afterSequence, fromSnapshot }: ScanOptions
): Either.Either<bigint, SnapshotNotFound> => {
  const after = afterSequence ?? -1n
  if (fromSnapshot === undefined) return Either.right(after)
  const from = Array.from(lineage(metadata, snapshot.snapshotId)).find((one) => one.snapshotId === fromSnapshot)
  if (from === undefined) return Either.left(new SnapshotNotFound({ table: metadata.location, wanted: String(fromSnapshot) }))
  return Either.right(from.sequenceNumber > after ? from.sequenceNumber : after)
}

const hasLive = (manifest: ManifestFile) => manifest.addedFilesCount + manifest.existingFilesCount > 0

/** Counts what a plan passes over. Mutable, and seen by one fiber only. */
interface Tally {
  readonly manifests: { age: number; partition: number }
  readonly files: { read: number; age: number; partition: number; "column bounds": number }
}

/** One filter for each spec of the table. */
const partitionFilters = (metadata: TableMetadata, bound: Bound) => {
  const made = new Map<number, Metrics.PartitionFilter | undefined>()
  return (specId: number): Metrics.PartitionFilter | undefined => {
    if (made.has(specId)) return made.get(specId)
    const spec = specById(metadata, specId)
    const filter = spec === undefined ? undefined : Metrics.partitionFilter(bound, spec, metadata.schemas)
    made.set(specId, filter)
    return filter
  }
}

const partitionKey = ({ file }: SequencedFile) => `${file.specId}/${file.partition.map(String).join("/")}`

/** Finds a data file's deletes among those of its partition and of the whole table. */
const deletesFinder = (metadata: TableMetadata, deletes: ReadonlyArray<SequencedFile>) => {
  const byPartition = new Map<string, Array<SequencedFile>>()
  const ofTable: Array<SequencedFile> = []
  for (const one of deletes) {
    if (one.file.partition.length === 0) ofTable.push(one)
    else byPartition.set(partitionKey(one), [...byPartition.get(partitionKey(one)) ?? [], one])
  }
  return (data: SequencedFile): ReadonlyArray<SequencedFile> =>
    deletes.length === 0
      ? []
      : [...ofTable, ...byPartition.get(partitionKey(data)) ?? []].filter((one) => DeleteFiles.applies(metadata, one, data))
}

/** The data files that a reader of one snapshot must read, with the delete files that it must apply to each. */
export const plan = Effect.fn("Scan.plan")(function*(
  metadata: TableMetadata,
  options: ScanOptions = {}
): Effect.fn.Return<Plan, PlanError, TableFiles> {
  const snapshot = yield* chosen(metadata, options.snapshot)
  const schema = schemaOf(metadata, snapshot)
  const bound = yield* Expr.bind(options.filter ?? Expr.everything, schema, metadata.location)
  const tally: Tally = { manifests: { age: 0, partition: 0 }, files: { read: 0, age: 0, partition: 0, "column bounds": 0 } }
  const after = snapshot === undefined ? 0n : yield* oldestWanted(metadata, snapshot, options)
  const tableFiles = yield* TableFiles
  const manifests = snapshot === undefined ? [] : yield* tableFiles.manifestList(snapshot.manifestList)
  const filterOf = partitionFilters(metadata, bound)
  const columns = Metrics.columnsOf(bound)
  const isOpen = columns.size === 0 && Expr.mayHold(bound, () => true)
  const { partition: asked } = options
  const isOfPartition = (manifest: ManifestFile) =>
    asked === undefined || manifest.content === "deletes" ||
    (manifest.partitionSpecId === asked.specId && PartitionSummary.mayHold(manifest, asked.values, metadata))
  const mayMatter = (manifest: ManifestFile): boolean => {
    const isOld = !hasLive(manifest) || (manifest.content === "data" && manifest.sequenceNumber <= after)
    if (isOld) tally.manifests.age++
    else if (isOfPartition(manifest) && (filterOf(manifest.partitionSpecId)?.mayHoldManifest(manifest) ?? true)) return true
    else tally.manifests.partition++
    return false
  }
  const read = (manifest: ManifestFile) => {
    const filter = filterOf(manifest.partitionSpecId)
    const isData = manifest.content === "data"
    const wanted = tableFiles.selected(manifest, metadata, ({ partition, sequenceNumber, statistics }) => {
      if (isData) tally.files.read++
      const isAsked = !isData || asked === undefined || DeleteFiles.isSamePartition(partition, asked.values)
      const mayHold = isAsked && (filter?.mayHoldPartition(partition) ?? true)
      const byHead = isData && sequenceNumber <= after ? "age" : mayHold ? undefined : "partition"
      const isByBounds = isData && byHead === undefined && !isOpen && !Metrics.fileMayHold(bound, statistics(columns))
      const cause = isByBounds ? "column bounds" : byHead
      if (isData && cause !== undefined) tally.files[cause]++
      return cause === undefined
    })
    return Effect.map(wanted, (entries) => entries.map(({ dataFile, sequenceNumber }): SequencedFile => ({ file: dataFile, sequenceNumber })))
  }
  const readAll = (content: ManifestFile["content"]) =>
    Effect.map(
      Effect.forEach(manifests.filter((manifest) => manifest.content === content && mayMatter(manifest)), read, { concurrency: manifestReadsMax }),
      (all) => all.flat()
    )
  const deletes = yield* readAll("deletes")
  const deletesOf = deletesFinder(metadata, deletes)
  const files = yield* readAll("data")
  const { read: seen, ...filesSkipped } = tally.files
  return {
    snapshot,
    schema,
    files: files.map((data) => ({ ...data, deletes: deletesOf(data) })),
    explanation: { manifests: manifests.length, manifestsSkipped: tally.manifests, files: seen, filesSkipped, deleteFiles: deletes.length }
  }
})

/** Like {@link plan}, for readers that apply no delete files. */
export const planFiles = Effect.fn("Scan.planFiles")(function*(
  metadata: TableMetadata,
  options: ScanOptions = {}
): Effect.fn.Return<ReadonlyArray<PlannedFile>, ScanError, TableFiles> {
  const { files, snapshot } = yield* plan(metadata, options)
  const deleted = files.find((planned) => planned.deletes.length > 0)
  if (deleted === undefined || snapshot === undefined) return files
  return yield* new UnsupportedDeleteFiles({
    table: metadata.location,
    snapshotId: snapshot.snapshotId,
    file: deleted.deletes[0]!.file.filePath
  })
})

/** The newest snapshot of the current lineage, current one included, whose summary satisfies the predicate. */
export const findAncestor = (
  metadata: TableMetadata,
  predicate: (summary: Summary) => boolean
): Snapshot | undefined => {
  for (const snapshot of lineage(metadata)) if (predicate(snapshot.summary)) return snapshot
  return undefined
}

/** The least value that the column may have in the file, or undefined where that is not known. Strings may be cut short. */
export const lowerBound = (file: DataFile, leaf: Pick<Leaf, "id" | "type">): SingleValue | undefined => {
  const bytes = file.lowerBounds.get(leaf.id)
  return bytes === undefined ? undefined : decode(leaf.type, bytes)
}

/** The greatest value that the column may have in the file, or undefined where that is not known. */
export const upperBound = (file: DataFile, leaf: Pick<Leaf, "id" | "type">): SingleValue | undefined => {
  const bytes = file.upperBounds.get(leaf.id)
  return bytes === undefined ? undefined : decode(leaf.type, bytes)
}

/** Whether a file may hold a value of a long column in `[start, end)`. True where its bounds are not known. */
export const mayHoldLong = (file: DataFile, fieldId: number, start: bigint, end: bigint): boolean => {
  const low = lowerBound(file, { id: fieldId, type: long })
  const high = upperBound(file, { id: fieldId, type: long })
  return !(typeof low === "bigint" && low >= end) && !(typeof high === "bigint" && high < start)
}
