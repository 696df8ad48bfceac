import { describe, expect, it } from "@effect/vitest"
import { positionKey, positionTag, type Snapshot, type Summary } from "./Snapshot.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"

const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 })

/** Its id is its sequence number. */
const snapshot = (id: number, parent: number | undefined, summary: Summary): Snapshot => ({
  snapshotId: BigInt(id),
  parentSnapshotId: parent === undefined ? undefined : BigInt(parent),
  sequenceNumber: BigInt(id),
  timestampMs: id,
  manifestList: `l${id}`,
  summary,
  schemaId: 0,
  extra: {}
})

const ours = snapshot(3, 2, { [positionKey]: "{}", "total-records": "15" })

/** Of whom nothing between the snapshot of ours and these is kept. */
const after = (...snapshots: ReadonlyArray<Snapshot>): Metadata.TableMetadata => ({
  ...base,
  snapshots: [ours, ...snapshots],
  currentSnapshotId: snapshots.at(-1)!.snapshotId,
  refs: { [positionTag]: { snapshotId: 3n, type: "tag", extra: {} } }
})

const given: ReadonlyArray<readonly [title: string, metadata: Metadata.TableMetadata, isFound: boolean]> = [
  ["before others' commits", after(snapshot(4, 3, { "total-records": "9" })), true],
  ["where compactions between were expired", after(snapshot(5, 4, { "total-records": "15", "added-records": "15", "deleted-records": "15" })), true],
  ["where the name of the expired one is gone too", after(snapshot(5, undefined, { "total-records": "15", "added-records": "15" })), true],
  ["where rows came after what was expired", after(snapshot(5, 4, { "total-records": "17", "added-records": "2" }), snapshot(6, 5, {})), true],
  ["unless rows are missing, as after a rewind", after(snapshot(6, 5, { "total-records": "10", "added-records": "1" })), false],
  ["unless nobody counted", after(snapshot(6, 5, {})), false],
  ["unless nothing can be missing between", after(snapshot(4, 2, { "total-records": "15" })), false],
  ["unless both follow on the same snapshot", after(snapshot(7, 2, { "total-records": "15" })), false],
  ["unless there is no gap", after(snapshot(6, 7, { "total-records": "15" }), snapshot(7, 6, { "total-records": "15" })), false]
]

describe("the position", () => {
  it.each(given)("is found %s", (_, metadata, isFound) => {
    expect(Metadata.positionSnapshot(metadata)).toEqual(isFound ? ours : undefined)
  })
})
