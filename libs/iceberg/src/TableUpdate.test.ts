import { expect, it } from "@effect/vitest"
import type { Summary } from "./Snapshot.ts"
import * as Metadata from "./TableMetadata.ts"
import * as TableUpdate from "./TableUpdate.ts"
import * as Fixture from "./test/TableFixture.ts"

const table = (properties: Readonly<Record<string, string>> = {}) =>
  Metadata.make({ ...Fixture.definition, properties }, { tableUuid: "u", location: "memory://store/t", nowMs: 1000 })

const append = (metadata: Metadata.TableMetadata, id: number, nowMs: number, summary: Summary = {}, rows = 1n) =>
  TableUpdate.append(
    metadata,
    { snapshotId: BigInt(id), manifestList: `list-${id}`, files: [Fixture.fakeFile(`f${id}`, rows)], summary },
    { nowMs, metadataLocation: `file-${id}` }
  )

const many = (count: number, properties: Readonly<Record<string, string>>) =>
  Array.from({ length: count }, (_, index) => index + 1).reduce(
    (metadata, id) => append(metadata, id, 1000 + id).metadata,
    table(properties)
  )

it("gives each snapshot a later time than the last, though the clock runs backwards", () => {
  const first = append(table(), 1, 5000)
  const second = append(first.metadata, 2, 10)
  expect([first.snapshot.timestampMs, second.snapshot.timestampMs]).toEqual([5000, 5001])
  expect(second.metadata.lastUpdatedMs).toBe(5001)
})

it("moves main and the position's tag, and keeps what else a reference says", () => {
  const main = { snapshotId: 0n, type: "branch" as const, extra: { "min-snapshots-to-keep": 3 } }
  const kept = { ...table(), refs: { main } }
  const { metadata } = append(kept, 1, 5000)
  expect(metadata.refs).toEqual({
    main: { snapshotId: 1n, type: "branch", extra: { "min-snapshots-to-keep": 3 } },
    "voltlake-position": { snapshotId: 1n, type: "tag", extra: {} }
  })
})

it("sums totals on from the parent, and claims none where the parent says none", () => {
  const second = append(append(table(), 1, 5000, {}, 3n).metadata, 2, 5000, {}, 4n)
  expect(second.snapshot.summary).toMatchObject({ "added-records": "4", "total-records": "7", "total-data-files": "2" })
  const silent = { ...second.metadata, snapshots: [{ ...second.snapshot, summary: { operation: "append" } }] }
  expect(append(silent, 3, 5000).snapshot.summary["total-records"]).toBeUndefined()
})

it("finds its own keys behind another engine's snapshot", () => {
  const ours = append(table(), 1, 5000, { "voltlake.position": "p" })
  const foreign = {
    ...ours.snapshot,
    snapshotId: 9n,
    parentSnapshotId: 1n,
    sequenceNumber: 2n,
    summary: { operation: "append" }
  }
  const metadata = { ...ours.metadata, snapshots: [ours.snapshot, foreign], currentSnapshotId: 9n }
  expect(append(metadata, 2, 5000).snapshot.summary["voltlake.position"]).toBe("p")
})

it("caps the metadata log and names what falls out of it", () => {
  const full = many(3, { "write.metadata.previous-versions-max": "3" })
  const { metadata, unreferenced } = append(full, 4, 9000)
  expect(metadata.metadataLog.map((entry) => entry.metadataFile)).toEqual(["file-2", "file-3", "file-4"])
  expect(unreferenced).toEqual(["file-1"])
})

it("drops the oldest snapshots to half the limit, but none that a reference names", () => {
  const limited = { "voltlake.snapshots-max": "6" }
  expect(TableUpdate.surplusSnapshots(many(6, limited))).toEqual([])
  const over = many(7, limited)
  const tagged = { ...over, refs: { ...over.refs, audit: { snapshotId: 2n, type: "tag" as const, extra: {} } } }
  const dropped = TableUpdate.surplusSnapshots(tagged)
  expect(dropped.map((snapshot) => snapshot.snapshotId)).toEqual([1n, 3n, 4n])
  const kept = TableUpdate.dropSnapshots(tagged, dropped)
  expect(kept.snapshots.map((snapshot) => snapshot.snapshotId)).toEqual([2n, 5n, 6n, 7n])
  expect(kept.snapshotLog.map((entry) => entry.snapshotId)).toEqual([5n, 6n, 7n])
})
