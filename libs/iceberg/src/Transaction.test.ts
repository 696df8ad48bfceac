/** Commits over memory: the contract, and every single call failing in every way. */
import { expect, it } from "@effect/vitest"
import { Chunk, Effect, Exit, Layer, Stream } from "effect"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { Catalog } from "./Catalog.ts"
import * as CommitContract from "./CommitContract.ts"
import * as MemoryCatalog from "./MemoryCatalog.ts"
import * as Scan from "./Scan.ts"
import { commitId as commitIdOf } from "./Snapshot.ts"
import * as Metadata from "./TableMetadata.ts"
import * as FaultyParts from "./test/FaultyParts.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Tables from "./Tables.ts"
import * as Transaction from "./Transaction.ts"

const parts = Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer)

CommitContract.contract("memory", parts)

const request = {
  commitId: "the-commit",
  changes: [
    Fixture.adding(Fixture.raw, [Fixture.fakeFile("f")]),
    Fixture.adding(Fixture.clean, [Fixture.fakeFile("g")])
  ]
}

const keys = Effect.flatMap(ObjectStore, (store) =>
  Effect.map(Stream.runCollect(store.list("")), (found) => Chunk.toReadonlyArray(found).map(({ key }) => key).sort()))

/** Fresh caches: what a process started now would see. */
const seen = Effect.gen(function*() {
  const tables = yield* Tables.Tables
  return yield* Effect.forEach([Fixture.raw, Fixture.clean], (table) =>
    Effect.gen(function*() {
      const { metadata } = yield* tables.load(table)
      const files = (yield* Scan.planFiles(metadata)).map(({ file }) => file.filePath)
      return { commits: metadata.snapshots.map(commitIdOf), files }
    }))
}).pipe(Effect.provide(Tables.layer))

const trial = (kind: FaultyParts.FaultKind, n: number) =>
  Effect.gen(function*() {
    yield* Fixture.createBoth.pipe(Effect.provide(Tables.layer))
    yield* Transaction.commit({ ...request, commitId: "before" }).pipe(Effect.provide(Tables.layer))
    const before = yield* keys
    const fault: FaultyParts.Fault = { kind, remaining: n, fired: undefined }
    const faulty = Tables.layer.pipe(Layer.provideMerge(FaultyParts.layer(fault)))
    const exit = yield* Effect.exit(Transaction.commit(request).pipe(Effect.provide(faulty)))
    return { exit, before, after: yield* keys, tables: yield* seen, fired: fault.fired }
  }).pipe(Effect.provide(parts))

for (const kind of ["refused", "passing", "lost-answer"] as const) {
  it.live(`leaves both tables old or both new, whichever call fails (${kind})`, () =>
    Effect.gen(function*() {
      const fired: Array<string> = []
      for (let n = 1; ; n++) {
        const { exit, tables, before, after, fired: call } = yield* trial(kind, n)
        if (call === undefined) break
        fired.push(call)
        const isNew = Exit.isSuccess(exit)
        for (const { commits, files } of tables) {
          expect(commits, `${kind} of call ${n}, ${call}`).toEqual(isNew ? ["before", "the-commit"] : ["before"])
          expect(files).toHaveLength(isNew ? 2 : 1)
        }
        if (kind !== "refused") expect(isNew, `${kind} of call ${n}, ${call}`).toBe(true)
        if (!isNew) expect(after, "a failed commit leaves no files").toEqual(before)
      }
      expect(fired).toContain("swap")
      expect(fired).toContain("putIfAbsent")
    }))
}

it.live("says that its outcome is unknown where the swap was and nothing can be looked up", () =>
  Effect.gen(function*() {
    yield* Fixture.createBoth.pipe(Effect.provide(Tables.layer))
    const catalog = yield* Catalog
    let swapped = false
    const lost = Layer.succeed(Catalog, {
      ...catalog,
      metadataLocation: (table) =>
        swapped
          ? Effect.fail(FaultyParts.catalogFault("metadataLocation", "NotApplied", false))
          : catalog.metadataLocation(table),
      swap: (swap) =>
        Effect.zipRight(catalog.swap(swap), Effect.suspend(() => {
          swapped = true
          return Effect.fail(FaultyParts.catalogFault("swap", "Unknown", true))
        }))
    })
    const before = yield* keys
    const blind = Layer.provideMerge(Tables.layer, lost)
    const error = yield* Effect.flip(Transaction.commit(request).pipe(Effect.provide(blind)))
    expect(error).toMatchObject({ _tag: "CatalogError", outcome: "Unknown" })
    // It did happen, so that its files must not have been removed.
    expect((yield* keys).length).toBeGreaterThan(before.length)
    expect((yield* seen).map(({ files }) => files.length)).toEqual([1, 1])
    const again = yield* Transaction.commit(request).pipe(Effect.provide(Tables.layer))
    expect(again.wasCommitted).toBe(true)
  }).pipe(Effect.provide(parts)))

it.live("keeps manifests and snapshots few, and hands over what nothing names any more", () =>
  Effect.gen(function*() {
    const tables = yield* Tables.Tables
    const store = yield* ObjectStore
    const catalog = yield* Catalog
    yield* tables.createIfAbsent(Fixture.raw, {
      ...Fixture.definition,
      properties: {
        "commit.manifest.min-count-to-merge": "5",
        "voltlake.snapshots-max": "10",
        "write.metadata.previous-versions-max": "4"
      }
    })
    for (let n = 0; n < 60; n++) {
      const changes = [Fixture.adding(Fixture.raw, [Fixture.fakeFile(`f${n}`, BigInt(n))])]
      yield* Transaction.commit({ commitId: `c${n}`, changes })
    }
    const { metadata } = yield* tables.load(Fixture.raw)
    expect(metadata.snapshots.length).toBeLessThanOrEqual(10)
    expect(metadata.snapshotLog.map(({ snapshotId }) => snapshotId)).toEqual(
      metadata.snapshots.map(({ snapshotId }) => snapshotId)
    )
    expect(metadata.metadataLog).toHaveLength(4)
    // What a cleaner would do; afterwards every kept snapshot must still be whole, for a process without our caches.
    const gone = yield* catalog.expiredFiles(0)
    yield* Effect.forEach(gone, (location) => store.delete(store.keyOf(location)!), { discard: true })
    yield* Effect.forEach(metadata.snapshots, (snapshot) =>
      Effect.gen(function*() {
        const planned = yield* Scan.planFiles(metadata, { snapshot: snapshot.snapshotId })
        expect(planned).toHaveLength(Number(snapshot.sequenceNumber))
        // A merged manifest keeps when each file came.
        for (const { file, sequenceNumber } of planned) expect(sequenceNumber).toBe(file.recordCount + 1n)
      }).pipe(Effect.provide(Tables.layer)), { discard: true })
    const after = yield* Scan.planFiles(metadata, { afterSequence: 55n })
    expect(after.map(({ sequenceNumber }) => sequenceNumber).sort()).toEqual([56n, 57n, 58n, 59n, 60n])
    // And nothing is left over: one metadata file and its log, a list for each snapshot, and few manifests.
    const left = yield* keys
    expect(left.filter((key) => key.endsWith(".metadata.json"))).toHaveLength(5)
    expect(left.filter((key) => key.endsWith("-list.avro"))).toHaveLength(metadata.snapshots.length)
    expect(left.filter((key) => key.endsWith("-m0.avro")).length).toBeLessThan(25)
    expect(Metadata.currentSnapshot(metadata)!.summary["total-data-files"]).toBe("60")
  }).pipe(Effect.provide(Tables.layer.pipe(Layer.provideMerge(parts)))))
