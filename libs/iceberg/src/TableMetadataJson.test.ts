import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import type { JsonObject } from "./Json.ts"
import type { Snapshot } from "./Snapshot.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import * as Metadata from "./TableMetadata.ts"
import { decode, encode } from "./TableMetadataJson.ts"
import * as Fixture from "./test/TableFixture.ts"

const location = "memory://store/t/metadata/00000-x.metadata.json"
const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 5 })

const int64 = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })
const timestampMs = fc.integer({ min: 0, max: 2 ** 50 })
const summary = fc.dictionary(fc.string(), fc.string({ unit: "binary" }), { maxKeys: 5, noNullPrototype: true })
const extra: fc.Arbitrary<JsonObject> = fc.dictionary(
  fc.constantFrom("next-row-id", "x", "encryption-keys"),
  fc.oneof(fc.boolean(), fc.string(), int64.filter((value) => value > 2n ** 53n), fc.constant([1, { a: null }])),
  { noNullPrototype: true }
)

const snapshot: fc.Arbitrary<Snapshot> = fc.record({
  snapshotId: int64,
  parentSnapshotId: fc.option(int64, { nil: undefined }),
  sequenceNumber: int64,
  timestampMs,
  manifestList: fc.string(),
  summary,
  schemaId: fc.option(fc.nat(), { nil: undefined }),
  extra
})

const metadata: fc.Arbitrary<TableMetadata> = fc
  .tuple(fc.array(snapshot, { maxLength: 4 }), int64, timestampMs, summary, extra, fc.boolean())
  .map(([snapshots, lastSequenceNumber, lastUpdatedMs, properties, unknown, hasCurrent]) => ({
    ...base,
    snapshots,
    lastSequenceNumber,
    lastUpdatedMs,
    properties,
    extra: unknown,
    currentSnapshotId: hasCurrent ? snapshots.at(-1)?.snapshotId : undefined,
    snapshotLog: snapshots.map((each) => ({ snapshotId: each.snapshotId, timestampMs: each.timestampMs })),
    metadataLog: [{ metadataFile: "m", timestampMs: 1 }],
    refs: Object.fromEntries(
      snapshots.map((each, index) => [
        `r${index}`,
        { snapshotId: each.snapshotId, type: index === 0 ? "branch" : "tag", extra: { "max-ref-age-ms": 7 } } as const
      ])
    ),
    statistics: [{ "snapshot-id": 9223372036854775807n, "statistics-path": "p" }]
  }))

it("reads back what it writes, 64-bit integers and unknown fields included", () => {
  fc.assert(fc.property(metadata, (value) => {
    expect(decode(encode(value), location)).toEqual(Either.right(value))
  }))
})

const failure = (text: string) => Either.getOrThrow(Either.flip(decode(text, location)))

it("refuses other format versions", () => {
  for (const version of [1, 3]) {
    expect(failure(encode(base).replace("\"format-version\":2", `"format-version":${version}`))).toMatchObject({
      _tag: "FormatVersionUnsupported",
      location,
      formatVersion: version
    })
  }
})

const damaged: ReadonlyArray<readonly [string, string, string, string]> = [
  ["a wrong kind of value", "\"table-uuid\":\"u\"", "\"table-uuid\":7", "table-uuid"],
  ["an unknown type", "\"type\":\"double\"", "\"type\":\"doubl\"", "schemas[0].fields[7].type"],
  ["a missing schema", "\"current-schema-id\":0", "\"current-schema-id\":4", "current-schema-id"],
  ["a lost current snapshot", "\"refs\":{}", "\"refs\":{},\"current-snapshot-id\":3", "current-snapshot-id"]
]

for (const [what, from, to, path] of damaged) {
  it(`names file and place of ${what}`, () => {
    const text = encode(base)
    expect(text).toContain(from)
    expect(failure(text.replace(from, to))).toMatchObject({ _tag: "TableFileInvalid", location, path })
  })
}

it("names the file of a text that is no JSON", () => {
  expect(failure("{")).toMatchObject({ _tag: "TableFileInvalid", location })
})

it("takes -1 for no current snapshot, as some writers put it", () => {
  const text = encode(base).replace("\"refs\":{}", "\"current-snapshot-id\":-1,\"refs\":{}")
  expect(Either.getOrThrow(decode(text, location)).currentSnapshotId).toBeUndefined()
})
