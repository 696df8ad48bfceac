import { expect, it } from "@effect/vitest"
import type { ManifestFile } from "./DataFile.ts"
import { describe as describeManifest, plan } from "./ManifestMerge.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"

const metadata = Metadata.make(
  {
    ...Fixture.definition,
    properties: { "commit.manifest.min-count-to-merge": "4", "commit.manifest.target-size-bytes": "1000" }
  },
  { tableUuid: "u", location: "memory://store/t", nowMs: 1 }
)

const described = describeManifest("m", 1n, [], Fixture.byDay, [Fixture.schema], 1n)
const manifests = (lengths: ReadonlyArray<number>, over: Partial<ManifestFile> = {}): ReadonlyArray<ManifestFile> =>
  lengths.map((length) => ({
    ...described,
    manifestLength: BigInt(length),
    sequenceNumber: 1n,
    minSequenceNumber: 1n,
    ...over
  }))

const planned = (list: ReadonlyArray<ManifestFile>) =>
  plan(list, metadata).map((group) => group.map((manifest) => Number(manifest.manifestLength)))

const cases: ReadonlyArray<readonly [string, ReadonlyArray<number>, ReadonlyArray<ReadonlyArray<number>>]> = [
  ["nothing while they are few", [10, 10, 10], []],
  ["all where they are many", [10, 11, 12, 13], [[10, 11, 12, 13]]],
  ["the small ones only beside one that is much larger", [900, 10, 10, 10], [[10, 10, 10]]],
  ["a large one too once the small ones together are about as large", [70, 20, 10, 10, 10], [[70, 20, 10, 10, 10]]],
  ["no more than a manifest may hold", [400, 400, 400, 400], [[400, 400]]],
  ["none that is full already", [1000, 1000, 1000, 1000], []]
]

for (const [what, lengths, expected] of cases) {
  it(`merges ${what}`, () => expect(planned(manifests(lengths))).toEqual(expected))
}

it("merges within one spec only, and no manifests of deletes", () => {
  expect(planned([...manifests([10, 10]), ...manifests([10, 10], { partitionSpecId: 1 })])).toEqual([])
  expect(planned(manifests([10, 10, 10, 10], { content: "deletes" }))).toEqual([])
})

it("sums up partitions, strings by their bytes", () => {
  const entry = (topic: string | null) => ({
    status: "added" as const,
    snapshotId: 1n,
    sequenceNumber: undefined,
    fileSequenceNumber: undefined,
    dataFile: { ...Fixture.fakeFile("a", 2n), partition: [Fixture.day, topic] }
  })
  // In UTF-16 the second begins below the third; in UTF-8, above.
  const entries = ["a", "\u{10000}", "\uffff", null].map(entry)
  const found = describeManifest("m", 1n, entries, Fixture.byDayAndTopic, [Fixture.schema], 1n)
  expect(found.addedRowsCount).toBe(8n)
  expect(found.partitions![1]).toMatchObject({ containsNull: true, lowerBound: Uint8Array.of(97) })
  expect(Buffer.from(found.partitions![1]!.upperBound!).toString()).toBe("\u{10000}")
})
