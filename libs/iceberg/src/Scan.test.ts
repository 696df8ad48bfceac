import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { encode } from "./BoundsBinary.ts"
import type { DataFile, ManifestEntry, ManifestFile } from "./DataFile.ts"
import * as ManifestAvro from "./ManifestAvro.ts"
import { describe as describeManifest } from "./ManifestMerge.ts"
import * as Scan from "./Scan.ts"
import type { Snapshot } from "./Snapshot.ts"
import * as TableFiles from "./TableFiles.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import { long } from "./Type.ts"

const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 })

const snapshot = (id: bigint, parent: bigint | undefined, summary = {}): Snapshot => ({
  snapshotId: id,
  parentSnapshotId: parent,
  sequenceNumber: id,
  timestampMs: Number(id),
  manifestList: `memory://store/t/list-${id}`,
  summary: { operation: "append", ...summary },
  schemaId: 0,
  extra: {}
})

const table = (...snapshots: ReadonlyArray<Snapshot>): Metadata.TableMetadata => ({
  ...base,
  snapshots,
  currentSnapshotId: snapshots.at(-1)!.snapshotId
})

const entry = (name: string, over: Partial<ManifestEntry> = {}): ManifestEntry => ({
  status: "added",
  snapshotId: undefined,
  sequenceNumber: undefined,
  fileSequenceNumber: undefined,
  dataFile: Fixture.fakeFile(name),
  ...over
})

const manifest = (name: string, sequenceNumber: bigint, entries: ReadonlyArray<ManifestEntry>) =>
  Effect.gen(function*() {
    const files = yield* TableFiles.TableFiles
    const location = `memory://store/t/${name}.avro`
    const context = { spec: Fixture.byDay, schema: Fixture.schema, schemas: [Fixture.schema] }
    const bytes = ManifestAvro.encode({ specId: 0, content: "data", entries }, context, new Uint8Array(16))
    yield* files.putManifest({ location, bytes })
    const length = BigInt(bytes.length)
    const described = describeManifest(location, length, entries, Fixture.byDay, [Fixture.schema], sequenceNumber)
    return { ...described, sequenceNumber, minSequenceNumber: sequenceNumber }
  })

const putList = (of: Snapshot, manifests: ReadonlyArray<ManifestFile>) =>
  Effect.flatMap(TableFiles.TableFiles, (files) => files.putManifestList(of.manifestList, manifests, of))

const names = (planned: ReadonlyArray<Scan.PlannedFile>) =>
  planned.map(({ file, sequenceNumber }) => [/([^/]+)\.parquet$/.exec(file.filePath)![1], sequenceNumber])

const files = TableFiles.layer.pipe(Layer.provideMerge(MemoryObjectStore.layer))

it.effect("plans live files with inherited sequence numbers, and those of other snapshots on demand", () =>
  Effect.gen(function*() {
    const [first, second] = [snapshot(1n, undefined), snapshot(2n, 1n)]
    const a = yield* manifest("a", 1n, [entry("a"), entry("b")])
    const rewritten = yield* manifest("r", 2n, [
      entry("a", { status: "deleted", snapshotId: 2n, sequenceNumber: 1n, fileSequenceNumber: 1n }),
      entry("b", { status: "existing", snapshotId: 1n, sequenceNumber: 1n, fileSequenceNumber: 1n }),
      // A rewrite of old rows: new as a file, old as rows.
      entry("c", { snapshotId: 2n, sequenceNumber: 1n }),
      entry("d")
    ])
    yield* putList(first, [a])
    yield* putList(second, [rewritten])
    const metadata = table(first, second)
    expect(names(yield* Scan.planFiles(metadata))).toEqual([["b", 1n], ["c", 1n], ["d", 2n]])
    expect(names(yield* Scan.planFiles(metadata, { afterSequence: 1n }))).toEqual([["d", 2n]])
    expect(names(yield* Scan.planFiles(metadata, { snapshotId: 1n }))).toEqual([["a", 1n], ["b", 1n]])
    const missing = yield* Effect.flip(Scan.planFiles(metadata, { snapshotId: 7n }))
    expect(missing).toMatchObject({ _tag: "SnapshotNotFound", snapshotId: 7n })
    expect(yield* Scan.planFiles(base)).toEqual([])
  }).pipe(Effect.provide(files)))

it.effect("does not open manifests that are too old to matter", () =>
  Effect.gen(function*() {
    const only = snapshot(3n, undefined)
    const old = yield* manifest("x", 2n, [entry("x")])
    const absent = { ...old, manifestPath: "memory://store/t/gone.avro" }
    yield* putList(only, [absent, yield* manifest("y", 3n, [entry("y")])])
    const metadata = table(only)
    expect(names(yield* Scan.planFiles(metadata, { afterSequence: 2n }))).toEqual([["y", 3n]])
    expect((yield* Effect.flip(Scan.planFiles(metadata)))._tag).toBe("ObjectNotFound")
  }).pipe(Effect.provide(files)))

it.effect("refuses to read past delete files", () =>
  Effect.gen(function*() {
    const only = snapshot(1n, undefined)
    const data = yield* manifest("a", 1n, [entry("a")])
    yield* putList(only, [data, { ...data, content: "deletes", manifestPath: "memory://store/t/d.avro" }])
    const error = yield* Effect.flip(Scan.planFiles(table(only), { afterSequence: 1n }))
    expect(error).toMatchObject({ _tag: "UnsupportedDeleteFiles", snapshotId: 1n, manifest: "memory://store/t/d.avro" })
  }).pipe(Effect.provide(files)))

it("finds the newest ancestor of the current snapshot that satisfies, and none beside its line", () => {
  const line = [snapshot(1n, undefined, { mark: "1" }), snapshot(2n, 1n, { mark: "2" }), snapshot(3n, 1n)]
  const metadata = table(...line)
  expect(Scan.findAncestor(metadata, (summary) => summary["mark"] !== undefined)?.snapshotId).toBe(1n)
  expect(Scan.findAncestor(metadata, (summary) => summary["mark"] === "2")).toBeUndefined()
  const bitten = table(snapshot(1n, 2n), snapshot(2n, 1n))
  expect(Scan.findAncestor(bitten, () => false)).toBeUndefined()
})

it("skips a file by a long column's bounds only where they are known", () => {
  const bounded: DataFile = {
    ...Fixture.fakeFile("a"),
    lowerBounds: new Map([[3, encode(long, 10n)]]),
    upperBounds: new Map([[3, encode(long, 19n)]])
  }
  const given: ReadonlyArray<readonly [bigint, bigint, boolean]> = [
    [0n, 10n, false],
    [0n, 11n, true],
    [19n, 20n, true],
    [20n, 30n, false]
  ]
  for (const [start, end, expected] of given) expect(Scan.mayHoldLong(bounded, 3, start, end)).toBe(expected)
  expect(Scan.mayHoldLong(Fixture.fakeFile("a"), 3, 0n, 1n)).toBe(true)
})
