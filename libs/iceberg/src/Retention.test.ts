import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import * as Action from "./Action.ts"
import * as MemoryCatalog from "./MemoryCatalog.ts"
import { namedByDroppedOnly } from "./Retention.ts"
import * as Scan from "./Scan.ts"
import { TableFiles } from "./TableFiles.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Tables from "./Tables.ts"
import * as Transaction from "./Transaction.ts"

const table = Fixture.raw
const parts = Tables.layer.pipe(Layer.provideMerge(Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer)))

const commit = (actions: ReadonlyArray<Action.Action<unknown>>) =>
  Effect.flatMap(Transaction.newCommitId, (commitId) => Transaction.commit({ commitId, changes: [{ table, actions }] }))

const load = Effect.map(Effect.flatMap(Tables.Tables, (tables) => tables.load(table)), ({ metadata }) => metadata)

const pathOf = (name: string) => Fixture.fakeFile(name).filePath

const append = (name: string) => commit([Action.append([Fixture.fakeFile(name)])])

const merge = (names: ReadonlyArray<string>, into: string) =>
  Effect.gen(function*() {
    const { files, snapshot } = yield* Scan.plan(yield* load)
    const replaced = files.filter(({ file }) => names.map(pathOf).includes(file.filePath))
    const added = [Fixture.fakeFile(into, BigInt(names.length))]
    yield* commit([Action.rewrite({ replaced, added, readAt: snapshot!.sequenceNumber })])
  })

/** Files given up by keeping only the tagged snapshots and the current one, and the manifests whose paths were read for it. */
const dropOthers = Effect.gen(function*() {
  const metadata = yield* load
  const files = yield* TableFiles
  const kept = new Set([metadata.currentSnapshotId, ...Object.values(metadata.refs).map(({ snapshotId }) => snapshotId)])
  const read: Array<string> = []
  const watched = TableFiles.of({
    ...files,
    paths: (file) => Effect.zipRight(Effect.sync(() => read.push(file.manifestPath)), files.paths(file))
  })
  const after = { ...metadata, snapshots: metadata.snapshots.filter(({ snapshotId }) => kept.has(snapshotId)) }
  const gone = yield* namedByDroppedOnly(metadata, after, undefined).pipe(Effect.provideService(TableFiles, watched))
  const listed = yield* Effect.forEach(after.snapshots, (snapshot) => files.manifestList(snapshot.manifestList))
  const keptReads = new Set(listed.flat().map(({ manifestPath }) => manifestPath).filter((path) => read.includes(path)))
  return { gone: gone.filter((path) => path.endsWith(".parquet")).sort(), keptReads: keptReads.size }
})

const prepared = Effect.gen(function*() {
  yield* (yield* Tables.Tables).createIfAbsent(table, Fixture.definition)
  yield* Effect.forEach(["old-1", "old-2", "old-3"], append)
  yield* commit([Action.setReference({ name: "report", type: "tag" })])
})

it.live("gives up beside an old tag only what neither the tag nor the table names", () =>
  Effect.gen(function*() {
    yield* prepared
    yield* Effect.forEach(["a", "b", "c"], append)
    yield* merge(["old-1", "a", "b"], "merged")
    // "c" is carried on in a manifest written later.
    yield* commit([Action.rewriteManifests])
    yield* append("new")
    expect(yield* dropOthers).toMatchObject({ gone: [pathOf("a"), pathOf("b")] })
  }).pipe(Effect.provide(parts)))

it.live("reads of the kept manifests only those that may hold a file in question", () =>
  Effect.gen(function*() {
    yield* prepared
    yield* Effect.forEach(["a", "b"], append)
    yield* merge(["a", "b"], "merged")
    yield* Effect.forEach(["new-1", "new-2", "new-3"], append)
    const { gone, keptReads } = yield* dropOthers
    expect(gone).toEqual([pathOf("a"), pathOf("b")])
    // Neither the three of the tag nor the three that came later: the merge's own two.
    expect(keptReads).toBeLessThanOrEqual(2)
  }).pipe(Effect.provide(parts)))
