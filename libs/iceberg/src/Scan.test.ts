import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { encode } from "./BoundsBinary.ts"
import type { DataFile, ManifestEntry, ManifestFile } from "./DataFile.ts"
import * as Expression from "./Expression.ts"
import * as ManifestAvro from "./ManifestAvro.ts"
import { describe as describeManifest } from "./ManifestMerge.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import * as Scan from "./Scan.ts"
import type { Snapshot } from "./Snapshot.ts"
import * as TableFiles from "./TableFiles.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import { long, string } from "./Type.ts"

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

const manifest = (name: string, sequenceNumber: bigint, entries: ReadonlyArray<ManifestEntry>, spec = Fixture.byDay) =>
  Effect.gen(function*() {
    const files = yield* TableFiles.TableFiles
    const location = `memory://store/t/${name}.avro`
    const context = { spec, schema: Fixture.schema, schemas: [Fixture.schema] }
    const bytes = ManifestAvro.encode({ specId: spec.specId, content: "data", entries }, context, new Uint8Array(16))
    yield* files.putManifest({ location, bytes })
    const length = BigInt(bytes.length)
    const described = describeManifest(location, length, entries, spec, [Fixture.schema], sequenceNumber)
    return { ...described, sequenceNumber, minSequenceNumber: sequenceNumber }
  })

const putList = (of: Snapshot, manifests: ReadonlyArray<ManifestFile>) =>
  Effect.flatMap(TableFiles.TableFiles, (files) => files.putManifestList(of.manifestList, manifests, of))

const nameOf = (file: DataFile) => /([^/]+)\.parquet$/.exec(file.filePath)![1]
/** The column of paths in files of position deletes. */
const pathId = 2_147_483_546

const names = (planned: ReadonlyArray<Scan.PlannedFile>) =>
  planned.map(({ file, sequenceNumber }) => [nameOf(file), sequenceNumber])

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
    expect(names(yield* Scan.planFiles(metadata, { snapshot: 1n }))).toEqual([["a", 1n], ["b", 1n]])
    const missing = yield* Effect.flip(Scan.planFiles(metadata, { snapshot: 7n }))
    expect(missing).toMatchObject({ _tag: "SnapshotNotFound", wanted: "7" })
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

const deleting = (name: string, content: DataFile["content"], over: Partial<DataFile> = {}): ManifestEntry =>
  entry(name, { dataFile: { ...Fixture.fakeFile(name), content, ...over } })

it.effect("refuses to plan for readers that apply no deletes where there are some", () =>
  Effect.gen(function*() {
    const only = snapshot(2n, undefined)
    const data = yield* manifest("a", 1n, [entry("a")])
    const deletes = yield* manifest("d", 2n, [deleting("d", "equality-deletes")])
    yield* putList(only, [data, { ...deletes, content: "deletes" }])
    const error = yield* Effect.flip(Scan.planFiles(table(only)))
    expect(error).toMatchObject({ _tag: "UnsupportedDeleteFiles", snapshotId: 2n, file: Fixture.fakeFile("d").filePath })
    // They matter to files that are asked for only.
    expect(yield* Scan.planFiles(table(only), { afterSequence: 1n })).toEqual([])
  }).pipe(Effect.provide(files)))

it.effect("gives each file the deletes that apply to it, by age, partition and path", () =>
  Effect.gen(function*() {
    const only = snapshot(4n, undefined)
    const elsewhere = { partition: [Fixture.day + 1] }
    const path = (name: string) => encode(string, Fixture.fakeFile(name).filePath)
    const ofPath = (name: string) => ({ lowerBounds: new Map([[pathId, path(name)]]), upperBounds: new Map([[pathId, path(name)]]) })
    const [one, three] = [
      yield* manifest("one", 1n, [entry("a"), entry("b"), entry("far", { dataFile: { ...Fixture.fakeFile("far"), ...elsewhere } })]),
      yield* manifest("three", 3n, [entry("c")])
    ]
    const two = yield* manifest("two", 2n, [
      deleting("equal", "equality-deletes"),
      deleting("position", "position-deletes"),
      deleting("of-a", "position-deletes", ofPath("a")),
      deleting("other-day", "equality-deletes", elsewhere)
    ])
    const same = yield* manifest("same", 3n, [deleting("equal-3", "equality-deletes"), deleting("position-3", "position-deletes")])
    const global = { ...deleting("global", "equality-deletes"), dataFile: { ...Fixture.fakeFile("global"), content: "equality-deletes" as const, partition: [] } }
    const unparted = yield* manifest("unparted", 4n, [global], PartitionSpec.make(2, []))
    yield* putList(only, [one, three, ...[two, same, unparted].map((list) => ({ ...list, content: "deletes" as const }))])
    const parted = { ...table(only), partitionSpecs: [...base.partitionSpecs, PartitionSpec.make(2, [])] }
    const planned = yield* Scan.plan(parted)
    const found = planned.files.map(({ deletes, file }) => `${nameOf(file)}: ${deletes.map((one) => nameOf(one.file)).sort().join(" ")}`)
    expect(found.sort()).toEqual([
      "a: equal equal-3 global of-a position position-3",
      "b: equal equal-3 global position position-3",
      "c: global position-3",
      "far: global other-day"
    ])
    expect(planned.explanation).toMatchObject({ manifests: 5, files: 4, deleteFiles: 7 })
  }).pipe(Effect.provide(files)))

it.effect("skips what cannot hold a row of the filter, and says by what", () =>
  Effect.gen(function*() {
    const only = snapshot(3n, undefined)
    const onDay = (name: string, days: number, offsets?: readonly [bigint, bigint]): ManifestEntry =>
      entry(name, {
        dataFile: {
          ...Fixture.fakeFile(name),
          partition: [Fixture.day + days],
          lowerBounds: new Map(offsets === undefined ? [] : [[3, encode(long, offsets[0])]]),
          upperBounds: new Map(offsets === undefined ? [] : [[3, encode(long, offsets[1])]])
        }
      })
    const old = yield* manifest("old", 1n, [onDay("o", -9)])
    const mixed = yield* manifest("mixed", 2n, [onDay("a", 0, [0n, 9n]), onDay("b", 0, [10n, 19n]), onDay("c", 1), onDay("d", 0)])
    const large = yield* manifest("large", 3n, Array.from({ length: 1000 }, (_, index) => onDay(`l${index}`, index - 500)))
    yield* putList(only, [old, mixed, large])
    const micros = (days: number) => BigInt(Fixture.day + days) * 86_400_000_000n
    const filter = Expression.and(
      Expression.test("timestamp", ">=", micros(0)),
      Expression.test("timestamp", "<", micros(1) - 1n),
      Expression.test("offset", "<", 10)
    )
    const { explanation, files: planned } = yield* Scan.plan(table(only), { filter })
    expect(planned.map(({ file }) => nameOf(file)).sort()).toEqual(["a", "d", "l500"])
    expect(explanation).toEqual({
      manifests: 3,
      manifestsSkipped: { age: 0, partition: 1 },
      files: 1004,
      filesSkipped: { age: 0, partition: 1000, "column bounds": 1 },
      deleteFiles: 0
    })
    const later = yield* Scan.plan(table(only), { filter, afterSequence: 2n })
    expect(later.explanation.manifestsSkipped).toEqual({ age: 2, partition: 0 })
    const ofDay = yield* Scan.plan(table(only), { partition: { specId: 0, values: [Fixture.day] } })
    expect(ofDay.files.map(({ file }) => nameOf(file)).sort()).toEqual(["a", "b", "d", "l500"])
    expect(ofDay.explanation.manifestsSkipped).toEqual({ age: 0, partition: 1 })
    const error = yield* Effect.flip(Scan.plan(table(only), { filter: Expression.test("nope", "=", 1) }))
    expect(error).toMatchObject({ _tag: "ColumnNotFound", column: "nope" })
  }).pipe(Effect.provide(files)))

it.effect("plans a snapshot by its id, its time or a name, and what came after another", () =>
  Effect.gen(function*() {
    const line = [snapshot(1n, undefined), snapshot(2n, 1n), snapshot(3n, 2n)]
    const manifests: Array<ManifestFile> = []
    for (const one of line) {
      manifests.unshift(yield* manifest(`m${one.snapshotId}`, one.snapshotId, [entry(`f${one.snapshotId}`)]))
      yield* putList(one, [...manifests])
    }
    const metadata: Metadata.TableMetadata = {
      ...table(...line),
      snapshotLog: line.map(({ snapshotId, timestampMs }) => ({ snapshotId, timestampMs: timestampMs * 1000 })),
      refs: { audit: { snapshotId: 2n, type: "tag", extra: {} } }
    }
    const planned = (options: Scan.ScanOptions) =>
      Effect.map(Scan.plan(metadata, options), ({ files: some }) => some.map(({ file }) => nameOf(file)).sort().join(" "))
    expect(yield* planned({ snapshot: 1n })).toBe("f1")
    expect(yield* planned({ snapshot: { ref: "audit" } })).toBe("f1 f2")
    expect(yield* planned({ snapshot: { atMs: 2999 } })).toBe("f1 f2")
    expect(yield* planned({ snapshot: { atMs: 3000 } })).toBe("f1 f2 f3")
    expect(yield* planned({ fromSnapshot: 1n })).toBe("f2 f3")
    expect(yield* planned({ snapshot: 2n, fromSnapshot: 1n })).toBe("f2")
    for (const [options, wanted] of [
      [{ snapshot: { atMs: 999 } }, "of 1970-01-01T00:00:00.999Z"],
      [{ snapshot: { ref: "nope" } }, "nope"],
      [{ snapshot: 1n, fromSnapshot: 2n }, "2"]
    ] as const) {
      expect(yield* Effect.flip(Scan.plan(metadata, options))).toMatchObject({ _tag: "SnapshotNotFound", wanted })
    }
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
