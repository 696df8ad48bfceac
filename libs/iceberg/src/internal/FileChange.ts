/**
 * The manifests of a commit's snapshot: the parent's, without the files that go, small ones merged where they are many. Only manifests that hold
 * such files are written anew; what stays in them keeps its sequence numbers.
 */
import { Effect } from "effect"
import type { FilesAction } from "../Action.ts"
import { RewriteStale } from "../Action.ts"
import type { DataFile, ManifestEntry, ManifestFile } from "../DataFile.ts"
import type { SequencedFile } from "../DeleteFiles.ts"
import * as DeleteFiles from "../DeleteFiles.ts"
import * as ManifestMerge from "../ManifestMerge.ts"
import * as PartitionSummary from "../PartitionSummary.ts"
import type { ResolvedEntry, TableReadError, TableWriteError } from "../TableFiles.ts"
import { TableFiles } from "../TableFiles.ts"
import type { TableMetadata } from "../TableMetadata.ts"
import * as Metadata from "../TableMetadata.ts"
import { nextSequenceNumber } from "../NewSnapshot.ts"
import type { ManifestOwner } from "./EncodedManifest.ts"
import * as EncodedManifest from "./EncodedManifest.ts"
import { Refused } from "./Refused.ts"

/** One attempt at one table. */
export interface Attempt extends ManifestOwner {
  readonly metadata: TableMetadata
  /** Hears of every file before it is written. */
  readonly note: (location: string) => void
}

const manifestReadsMax = 8

type WriteError = TableReadError | TableWriteError

const hasLive = (manifest: ManifestFile) => manifest.addedFilesCount + manifest.existingFilesCount > 0

const readEntries = Effect.fnUntraced(function*(manifests: ReadonlyArray<ManifestFile>, metadata: TableMetadata) {
  const files = yield* TableFiles
  return yield* Effect.forEach(manifests, (manifest) => files.manifest(manifest, metadata), { concurrency: manifestReadsMax })
})

const write = Effect.fnUntraced(function*(attempt: Attempt, entries: ReadonlyArray<ManifestEntry>, specId: number) {
  const files = yield* TableFiles
  const manifest = yield* EncodedManifest.encode(attempt, entries, attempt.metadata, specId)
  attempt.note(manifest.location)
  yield* files.putManifest(manifest)
  return EncodedManifest.listed(manifest, nextSequenceNumber(attempt.metadata))
})

const merged = Effect.fnUntraced(function*(attempt: Attempt, live: ReadonlyArray<ManifestFile>) {
  const groups = ManifestMerge.plan(live, attempt.metadata)
  if (groups.length === 0) return live
  const gone = new Set(groups.flat())
  const large = yield* Effect.forEach(groups, (group) =>
    Effect.flatMap(readEntries(group, attempt.metadata), (entries) =>
      write(attempt, ManifestMerge.existing(entries.flat()), group[0]!.partitionSpecId)))
  return [...large, ...live.filter((manifest) => !gone.has(manifest))]
})

const regrouped = Effect.fnUntraced(function*(attempt: Attempt, live: ReadonlyArray<ManifestFile>) {
  const specIds = Array.from(new Set(live.filter(({ content }) => content === "data").map(({ partitionSpecId }) => partitionSpecId)))
  const all = yield* Effect.forEach(specIds, (specId) =>
    Effect.gen(function*() {
      const group = live.filter((manifest) => manifest.content === "data" && manifest.partitionSpecId === specId)
      const entries = ManifestMerge.existing((yield* readEntries(group, attempt.metadata)).flat())
      const parts = ManifestMerge.byPartition(entries, group, attempt.metadata)
      return yield* Effect.forEach(parts, (part) => write(attempt, part, specId))
    }))
  return [...all.flat(), ...live.filter(({ content }) => content === "deletes")]
})

/** Where each file is, among manifests that may hold it. */
const holders = Effect.fnUntraced(function*(removed: ReadonlyArray<DataFile>, live: ReadonlyArray<ManifestFile>, metadata: TableMetadata) {
  const candidates = live.filter((manifest) =>
    manifest.content === "data" &&
    removed.some((file) => file.specId === manifest.partitionSpecId && PartitionSummary.mayHold(manifest, file.partition, metadata))
  )
  const entries = yield* readEntries(candidates, metadata)
  const paths = new Set(removed.map((file) => file.filePath))
  const found: Array<ResolvedEntry> = []
  const holding = candidates.flatMap((manifest, index) => {
    const gone = entries[index]!.filter((entry) => entry.status !== "deleted" && paths.has(entry.dataFile.filePath))
    found.push(...gone)
    return gone.length === 0 ? [] : [{ manifest, entries: entries[index]! }]
  })
  return { holding, found }
})

const stale = (metadata: TableMetadata, cause: RewriteStale["cause"], files: ReadonlyArray<string>) =>
  new RewriteStale({ table: metadata.location, files, cause })

const asSequenced = ({ dataFile, sequenceNumber }: ResolvedEntry): SequencedFile => ({ file: dataFile, sequenceNumber })

/** Of a manifest that is written anew: some megabytes. */
const rewrittenEntriesMax = 4000

/** Entries of several manifests, by spec, in parts that make a manifest each: a merge of many small files would else write as many small manifests. */
const bySpec = (holding: ReadonlyArray<{ readonly manifest: ManifestFile; readonly entries: ReadonlyArray<ResolvedEntry> }>) => {
  const parts: Array<{ readonly specId: number; readonly entries: Array<ResolvedEntry> }> = []
  const open = new Map<number, (typeof parts)[number]>()
  for (const { entries, manifest: { partitionSpecId: specId } } of holding) {
    const part = open.get(specId)
    if (part !== undefined && part.entries.length + entries.length <= rewrittenEntriesMax) part.entries.push(...entries)
    else {
      const fresh = { specId, entries: [...entries] }
      open.set(specId, fresh)
      parts.push(fresh)
    }
  }
  return parts
}

/** Files of which rows were deleted after `readAt`. */
const deletedFrom = Effect.fnUntraced(function*(
  found: ReadonlyArray<ResolvedEntry>,
  readAt: bigint,
  live: ReadonlyArray<ManifestFile>,
  metadata: TableMetadata
) {
  const newer = live.filter((manifest) => manifest.content === "deletes" && manifest.sequenceNumber > readAt)
  const deletes = (yield* readEntries(newer, metadata)).flat()
    .filter((entry) => entry.status !== "deleted" && entry.sequenceNumber > readAt)
    .map(asSequenced)
  return found.map(asSequenced).filter((data) => deletes.some((one) => DeleteFiles.applies(metadata, one, data)))
})

const without = Effect.fnUntraced(function*<E>(
  attempt: Attempt,
  live: ReadonlyArray<ManifestFile>,
  { readAt, refuse, removed }: FilesAction<E>
): Effect.fn.Return<
  { readonly kept: ReadonlyArray<ManifestFile>; readonly rewritten: ReadonlyArray<ManifestFile> },
  WriteError | Refused<E>,
  TableFiles
> {
  const { metadata, snapshotId } = attempt
  const { found, holding } = yield* holders(removed, live, metadata)
  const paths = new Set(found.map((entry) => entry.dataFile.filePath))
  const missing = removed.filter((file) => !paths.has(file.filePath)).map((file) => file.filePath)
  if (missing.length > 0) return yield* Effect.fail(new Refused(refuse(stale(metadata, "no longer live", missing))))
  const touched = readAt === undefined ? [] : yield* deletedFrom(found, readAt, live, metadata)
  if (touched.length > 0) {
    const names = touched.map(({ file }) => file.filePath)
    return yield* Effect.fail(new Refused(refuse(stale(metadata, "has newer deletes", names))))
  }
  const rewritten = yield* Effect.forEach(bySpec(holding), ({ entries, specId }) => {
    const after = entries.filter((entry) => entry.status !== "deleted").map((entry): ManifestEntry =>
      paths.has(entry.dataFile.filePath) ? { ...entry, status: "deleted", snapshotId } : { ...entry, status: "existing" }
    )
    return write(attempt, after, specId)
  }, { concurrency: manifestReadsMax })
  const gone = new Set(holding.map(({ manifest }) => manifest))
  return { kept: live.filter((manifest) => !gone.has(manifest)), rewritten }
})

/** What the parent's manifests become; those of the added files come beside them. */
export const carriedOn = Effect.fnUntraced(function*<E>(
  attempt: Attempt,
  action: FilesAction<E>
): Effect.fn.Return<ReadonlyArray<ManifestFile>, WriteError | Refused<E>, TableFiles> {
  const parent = Metadata.currentSnapshot(attempt.metadata)
  const listed = parent === undefined ? [] : yield* (yield* TableFiles).manifestList(parent.manifestList)
  // A manifest of deletions only has told its story in the snapshot that made it.
  const live = listed.filter(hasLive)
  if (action.rewritesManifests) return yield* regrouped(attempt, live)
  if (action.removed.length === 0) return yield* merged(attempt, live)
  const { kept, rewritten } = yield* without(attempt, live, action)
  return [...rewritten, ...(yield* merged(attempt, kept))]
})
