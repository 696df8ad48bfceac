import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import type { DataFile, ManifestEntry, ManifestFile } from "./DataFile.ts"
import * as AvroContainer from "./internal/AvroContainer.ts"
import * as ManifestAvro from "./ManifestAvro.ts"
import * as ManifestListAvro from "./ManifestListAvro.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import * as Transform from "./Transform.ts"
import * as Type from "./Type.ts"

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const count = fc.nat()
const fieldId = fc.integer({ min: 1, max: 100 })
const perField = <A>(values: fc.Arbitrary<A>) =>
  fc.array(fc.tuple(fieldId, values), { maxLength: 5 }).map((all) => new Map(all))
const bytes = fc.uint8Array({ maxLength: 20 }).map((all) => Buffer.from(all))
const maybe = <A>(values: fc.Arbitrary<A>) => fc.option(values, { nil: undefined })

/** A partition field of every type, named so that Avro does not take the name as it is. */
const types: ReadonlyArray<readonly [Type.PrimitiveType, fc.Arbitrary<PartitionSpec.PartitionValue>]> = [
  [Type.int, fc.integer()],
  [Type.long, int64],
  [Type.string, fc.string({ unit: "binary" })],
  [Type.boolean, fc.boolean()],
  [Type.double, fc.double({ noNaN: true })],
  [Type.binary, bytes],
  [Type.date, fc.integer()],
  [Type.timestamptz, int64],
  [Type.uuid, fc.uint8Array({ minLength: 16, maxLength: 16 }).map((all) => Buffer.from(all))],
  [Type.decimal(38, 6), fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n })]
]
const schema = Type.schema(types.map(([type], index) => Type.optional(index + 1, `1 c-${index}`, type)))
const spec = PartitionSpec.make(7, [
  ...types.map((_, index) => ({
    sourceId: index + 1,
    fieldId: 1000 + index,
    name: `1 c-${index}`,
    transform: Transform.identity
  })),
  { sourceId: 8, fieldId: 1100, name: "day", transform: Transform.day }
])

const dataFile: fc.Arbitrary<DataFile> = fc.record({
  content: fc.constantFrom("data" as const, "position-deletes" as const, "equality-deletes" as const),
  filePath: fc.string({ unit: "binary" }),
  fileFormat: fc.constant("PARQUET"),
  specId: fc.constant(7),
  partition: fc.tuple(...[...types.map(([, values]) => values), fc.integer()].map((values) => fc.option(values))),
  recordCount: int64,
  fileSizeInBytes: int64,
  columnSizes: perField(int64),
  valueCounts: perField(int64),
  nullValueCounts: perField(int64),
  nanValueCounts: perField(int64),
  lowerBounds: perField(bytes),
  upperBounds: perField(bytes),
  keyMetadata: maybe(bytes),
  splitOffsets: maybe(fc.array(int64, { maxLength: 3 })),
  equalityIds: maybe(fc.array(fc.integer(), { maxLength: 3 })),
  sortOrderId: maybe(fc.integer())
})

const entry: fc.Arbitrary<ManifestEntry> = fc.record({
  status: fc.constantFrom("existing" as const, "added" as const, "deleted" as const),
  snapshotId: maybe(int64),
  sequenceNumber: maybe(int64),
  fileSequenceNumber: maybe(int64),
  dataFile
})

const manifestFile: fc.Arbitrary<ManifestFile> = fc.record({
  manifestPath: fc.string(),
  manifestLength: int64,
  partitionSpecId: count,
  content: fc.constantFrom("data" as const, "deletes" as const),
  sequenceNumber: int64,
  minSequenceNumber: int64,
  addedSnapshotId: int64,
  addedFilesCount: count,
  existingFilesCount: count,
  deletedFilesCount: count,
  addedRowsCount: int64,
  existingRowsCount: int64,
  deletedRowsCount: int64,
  partitions: maybe(fc.array(
    fc.record({
      containsNull: fc.boolean(),
      containsNan: maybe(fc.boolean()),
      lowerBound: maybe(bytes),
      upperBound: maybe(bytes)
    }),
    { maxLength: 3 }
  )),
  keyMetadata: maybe(bytes)
})

const sync = new Uint8Array(16).fill(9)
const context = { spec, schema, schemas: [schema] }
const owner = { snapshotId: 1n, parentSnapshotId: undefined, sequenceNumber: 1n }

it("reads back every manifest that it writes", () => {
  fc.assert(fc.property(fc.array(entry, { maxLength: 5 }), (entries) => {
    const manifest: ManifestAvro.ManifestContents = { specId: 7, content: "data", entries }
    const written = ManifestAvro.encode(manifest, context, sync)
    expect(ManifestAvro.decode(written, spec, [schema], "m")).toEqual(Either.right(manifest))
  }))
})

it("reads back every manifest list that it writes", () => {
  fc.assert(fc.property(fc.array(manifestFile, { maxLength: 5 }), (manifests) => {
    const written = ManifestListAvro.encode(manifests, owner, sync)
    expect(ManifestListAvro.decode(written, "l")).toEqual(Either.right(manifests))
  }))
})

it("reads lists of other writers by field id, and takes a count that is left out for files that may be there", () => {
  const field = (name: string, id: number, type: unknown) => ({ name, type, "field-id": id })
  const other = {
    type: "record",
    name: "list",
    fields: [
      field("p", 500, "string"),
      field("l", 501, { type: "long" }),
      field("partition_spec_id", 502, ["int", "null"]),
      field("added_snapshot_id", 503, ["null", "long"]),
      field("added_data_files_count", 504, ["null", "int"]),
      field("ours_not", 9999, ["null", { type: "map", values: "long" }])
    ]
  }
  const counted = { added_snapshot_id: 7n, added_data_files_count: 3, ours_not: null }
  const record = { p: "m", l: 5n, partition_spec_id: 2, ...counted }
  const written = AvroContainer.encode(other, AvroContainer.typeOf(other), new Map(), sync, [record])
  expect(Either.getOrThrow(ManifestListAvro.decode(written, "l"))[0]).toMatchObject({
    manifestPath: "m",
    manifestLength: 5n,
    partitionSpecId: 2,
    content: "data",
    sequenceNumber: 0n,
    addedSnapshotId: 7n,
    addedFilesCount: 3,
    existingFilesCount: 1
  })
})

it("says in the header what the specification asks for", () => {
  const written = ManifestAvro.encode({ specId: 7, content: "data", entries: [] }, context, sync)
  const { metadata } = AvroContainer.decode(written)
  expect(metadata.get("format-version")).toBe("2")
  expect(metadata.get("content")).toBe("data")
  expect(metadata.get("schema-id")).toBe("0")
  expect(metadata.get("partition-spec-id")).toBe("7")
  expect(JSON.parse(metadata.get("partition-spec")!)[10]).toEqual({
    name: "day",
    transform: "day",
    "source-id": 8,
    "field-id": 1100
  })
  expect(JSON.parse(metadata.get("schema")!).fields).toHaveLength(types.length)
})

it("answers an error for every cut and for every damaged end of a block, and never throws", () => {
  const file: ManifestFile = fc.sample(manifestFile, { numRuns: 1, seed: 1 })[0]!
  const written = ManifestListAvro.encode([file, file], owner, sync)
  for (let length = 0; length < written.length; length++) {
    const cut = ManifestListAvro.decode(written.subarray(0, length), "memory://l")
    // A file that ends after its header is whole, and empty.
    if (Either.isRight(cut)) expect(cut.right).toEqual([])
    else expect(cut.left).toMatchObject({ _tag: "TableFileInvalid", location: "memory://l" })
  }
  const flipped = Uint8Array.from(written)
  flipped[flipped.length - 1]! ^= 1
  expect(Either.isLeft(ManifestListAvro.decode(flipped, "l"))).toBe(true)
})

it("answers an error for every cut of a manifest and for one that is none, also where only some entries are wanted", () => {
  const entries = fc.sample(entry, { numRuns: 3, seed: 2 })
  const bytes = ManifestAvro.encode({ specId: 7, content: "data", entries }, context, sync)
  const reads = [undefined, () => true, () => false]
  for (let length = 0; length < bytes.length; length += 7) {
    for (const wants of reads) {
      const cut = ManifestAvro.decode(bytes.subarray(0, length), spec, [schema], "memory://m", wants)
      if (Either.isRight(cut)) expect(cut.right.entries).toEqual([])
      else expect(cut.left).toMatchObject({ _tag: "TableFileInvalid", location: "memory://m" })
    }
  }
  const list = ManifestListAvro.encode([fc.sample(manifestFile, { numRuns: 1, seed: 1 })[0]!], owner, sync)
  for (const wants of reads) {
    expect(Either.getOrThrow(Either.flip(ManifestAvro.decode(list, spec, [schema], "l", wants)))).toMatchObject({ _tag: "TableFileInvalid" })
  }
})

it("reads of a manifest exactly the entries that are wanted", () => {
  fc.assert(fc.property(fc.array(entry, { maxLength: 5 }), (entries) => {
    const written = ManifestAvro.encode({ specId: 7, content: "data", entries }, context, sync)
    const wants = (head: Pick<ManifestAvro.EntryHead, "status" | "sequenceNumber">) => head.status !== "deleted" && (head.sequenceNumber ?? 0n) >= 0n
    const found = Either.getOrThrow(ManifestAvro.decode(written, spec, [schema], "m", wants)).entries
    expect(found).toEqual(entries.filter(wants))
  }))
})

it("shows of an entry that may be wanted the statistics of the columns that are asked for", () => {
  fc.assert(fc.property(fc.array(entry, { maxLength: 5 }), fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 4 }), (entries, ids) => {
    const written = ManifestAvro.encode({ specId: 7, content: "data", entries }, context, sync)
    const wanted = new Set(ids)
    const seen: Array<unknown> = []
    const decoded = ManifestAvro.decode(written, spec, [schema], "m", ({ statistics }) => seen.push(statistics(wanted)) === 0)
    expect(Either.getOrThrow(decoded).entries).toEqual([])
    const of = <A>(map: ReadonlyMap<number, A>) => new Map(Array.from(map).filter(([id]) => wanted.has(id)))
    expect(seen).toEqual(entries.map(({ dataFile }) => ({
      columnSizes: of(dataFile.columnSizes),
      valueCounts: of(dataFile.valueCounts),
      nullValueCounts: of(dataFile.nullValueCounts),
      nanValueCounts: of(dataFile.nanValueCounts),
      lowerBounds: of(dataFile.lowerBounds),
      upperBounds: of(dataFile.upperBounds)
    })))
  }))
})

it("reads the paths of a manifest's files without the rest", () => {
  fc.assert(fc.property(fc.array(entry, { maxLength: 5 }), (entries) => {
    const written = ManifestAvro.encode({ specId: 7, content: "data", entries }, context, sync)
    const found = Either.getOrThrow(ManifestAvro.decodePaths(written, "m"))
    expect(found).toEqual(entries.map(({ dataFile, ...rest }) => ({ ...rest, filePath: dataFile.filePath })))
  }))
})
