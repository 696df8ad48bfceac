import { expect, it } from "@effect/vitest"
import * as Expiry from "./Expiry.ts"
import type { Snapshot, SnapshotReference } from "./Snapshot.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"

const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 })
const hour = 3_600_000

/** A snapshot an hour after the one before. */
const snapshot = (id: number, parent: number | undefined, summary: Snapshot["summary"] = {}): Snapshot => ({
  snapshotId: BigInt(id),
  parentSnapshotId: parent === undefined ? undefined : BigInt(parent),
  sequenceNumber: BigInt(id),
  timestampMs: id * hour,
  manifestList: `l${id}`,
  summary,
  schemaId: 0,
  extra: {}
})

const to = (id: number, type: SnapshotReference["type"], extra: SnapshotReference["extra"] = {}): SnapshotReference => ({
  snapshotId: BigInt(id),
  type,
  extra
})

/** Snapshots 1 to 6, of which 4 was rolled back: 5 and 6 follow on 3. */
const table = (properties: Readonly<Record<string, string>>, refs: Metadata.TableMetadata["refs"] = {}): Metadata.TableMetadata => ({
  ...base,
  properties,
  snapshots: [snapshot(1, undefined), snapshot(2, 1), snapshot(3, 2), snapshot(4, 3), snapshot(5, 3), snapshot(6, 5)],
  currentSnapshotId: 6n,
  refs: { main: to(6, "branch"), ...refs }
})

const age = (hours: number) => ({ "history.expire.max-snapshot-age-ms": String(hours * hour) })
const nowMs = 10 * hour
const expired = (metadata: Metadata.TableMetadata, at = nowMs) => Expiry.snapshotsToExpire(metadata, at).map((one) => Number(one.snapshotId))

const given: ReadonlyArray<readonly [string, Metadata.TableMetadata, ReadonlyArray<number>]> = [
  ["none for five days, where nothing is said", table({}), []],
  ["those that are too old, the current one never", table(age(0)), [1, 2, 3, 4, 5]],
  ["those that are too old, on no branch too", table(age(6)), [1, 2, 3]],
  ["none of the least number of a branch", table({ ...age(0), "history.expire.min-snapshots-to-keep": "3" }), [1, 2, 4]],
  ["none that a tag names", table(age(0), { audit: to(2, "tag") }), [1, 3, 4, 5]],
  ["none of another branch's, by its own settings", table(age(0), { work: to(4, "branch", { "min-snapshots-to-keep": 2 }) }), [1, 2, 5]],
  ["none of a branch's own age", table(age(0), { main: to(6, "branch", { "max-snapshot-age-ms": 5 * hour }) }), [1, 2, 3, 4]]
]

for (const [what, metadata, expected] of given) {
  it(`expires ${what}`, () => expect(expired(metadata)).toEqual(expected))
}

it("keeps the snapshot that the position is read from, also where no tag does", () => {
  const metadata = table(age(0))
  const snapshots = metadata.snapshots.map((one) => (one.snapshotId === 2n ? { ...one, summary: { "voltlake.position": "{}" } } : one))
  expect(expired({ ...metadata, snapshots })).toEqual([1, 3, 4, 5])
  expect(expired(table({}), nowMs + 5 * 24 * hour)).toEqual([1, 2, 3, 4, 5])
})

it("expires references by their own age or the table's, but not those that commits move", () => {
  const refs = {
    old: to(1, "tag"),
    own: to(1, "branch", { "max-ref-age-ms": 20 * hour }),
    young: to(6, "tag"),
    "voltlake-position": to(1, "tag"),
    lost: to(99, "tag")
  }
  expect(Expiry.referencesToExpire(table({}, refs), nowMs)).toEqual(["lost"])
  const limited = table({ "history.expire.max-ref-age-ms": String(5 * hour) }, refs)
  expect(Expiry.referencesToExpire(limited, nowMs)).toEqual(["old", "lost"])
})
