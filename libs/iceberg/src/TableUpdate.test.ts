import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import * as Expiry from "./Expiry.ts"
import * as Json from "./Json.ts"
import * as NewSnapshot from "./NewSnapshot.ts"
import type { Summary } from "./Snapshot.ts"
import * as Metadata from "./TableMetadata.ts"
import * as SortOrder from "./SortOrder.ts"
import * as TableMetadataJson from "./TableMetadataJson.ts"
import * as TableRequirement from "./TableRequirement.ts"
import * as TableUpdate from "./TableUpdate.ts"
import * as TableUpdateJson from "./TableUpdateJson.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Transform from "./Transform.ts"
import * as Type from "./Type.ts"

const table = (properties: Readonly<Record<string, string>> = {}) =>
  Metadata.make({ ...Fixture.definition, properties }, { tableUuid: "u", location: "memory://store/t", nowMs: 1000 })

const append = (metadata: Metadata.TableMetadata, id: number, nowMs: number, summary: Summary = {}, rows = 1n) => {
  const added = [Fixture.fakeFile(`f${id}`, rows)]
  const contents = { snapshotId: BigInt(id), manifestList: `list-${id}`, operation: "append" as const, added, removed: [], summary }
  const snapshot = NewSnapshot.make(metadata, contents, nowMs)
  return { snapshot, ...applied(metadata, NewSnapshot.updates(metadata, snapshot), nowMs, `file-${id}`) }
}

const applied = (metadata: Metadata.TableMetadata, updates: ReadonlyArray<TableUpdate.TableUpdate>, nowMs = 9000, metadataLocation = "file") =>
  Either.getOrThrow(TableUpdate.apply(metadata, updates, { nowMs, metadataLocation }))

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
  expect(Expiry.surplusSnapshots(many(6, limited))).toEqual([])
  const over = many(7, limited)
  const tagged = { ...over, refs: { ...over.refs, audit: { snapshotId: 2n, type: "tag" as const, extra: {} } } }
  const dropped = Expiry.surplusSnapshots(tagged)
  expect(dropped.map((snapshot) => snapshot.snapshotId)).toEqual([1n, 3n, 4n])
  const kept = applied(tagged, [
    { action: "remove-snapshots", snapshotIds: dropped.map((one) => one.snapshotId) }
  ]).metadata
  expect(kept.snapshots.map((snapshot) => snapshot.snapshotId)).toEqual([2n, 5n, 6n, 7n])
  expect(kept.snapshotLog.map((entry) => entry.snapshotId)).toEqual([5n, 6n, 7n])
})

const schema = Fixture.schema
const wider = { ...schema, fields: [...schema.fields, Type.optional(15, "gear", Type.string)] }
const topic = { sourceId: 1, fieldId: undefined, name: "topic_4", transform: Transform.bucket(4) }

it("lets an update mean what one before it added", () => {
  const { metadata } = applied(table(), [
    { action: "add-schema", schema: wider, lastColumnId: 17 },
    { action: "set-current-schema", schemaId: TableUpdate.lastAdded },
    { action: "add-spec", fields: [topic] },
    { action: "set-default-spec", specId: TableUpdate.lastAdded },
    { action: "add-sort-order", sortOrder: SortOrder.ascending(99, [1]) },
    { action: "set-default-sort-order", sortOrderId: TableUpdate.lastAdded }
  ])
  expect(metadata).toMatchObject({ currentSchemaId: 1, lastColumnId: 17, defaultSpecId: 2, lastPartitionId: 1002, defaultSortOrderId: 2 })
  expect(Metadata.currentSchema(metadata).fields.at(-1)).toMatchObject({ id: 15, name: "gear" })
  expect(Metadata.defaultSpec(metadata).fields).toEqual([{ ...topic, fieldId: 1002 }])
  // What is equal is not added again.
  const again = applied(metadata, [
    { action: "add-schema", schema: { ...schema, schemaId: 7 }, lastColumnId: undefined },
    { action: "set-current-schema", schemaId: TableUpdate.lastAdded },
    { action: "add-spec", fields: Fixture.byDay.fields },
    { action: "set-default-spec", specId: TableUpdate.lastAdded }
  ]).metadata
  expect(again).toMatchObject({ currentSchemaId: 0, defaultSpecId: 0, schemas: metadata.schemas, partitionSpecs: metadata.partitionSpecs })
})

it("keeps the log of what was current, for whom it was", () => {
  const { metadata } = append(append(table(), 1, 2000).metadata, 2, 3000)
  const back = applied(metadata, [{ action: "set-snapshot-ref", name: "main", reference: { ...metadata.refs["main"]!, snapshotId: 1n } }], 4000)
  expect(back.metadata.currentSnapshotId).toBe(1n)
  expect(back.metadata.lastUpdatedMs).toBe(4000)
  expect(back.metadata.snapshotLog.map((entry) => [entry.snapshotId, entry.timestampMs])).toEqual([[1n, 2000], [2n, 3000], [1n, 4000]])
  // Two snapshots at once: nobody ever saw the first as the current one.
  const third = NewSnapshot.make(metadata, { snapshotId: 3n, manifestList: "l", operation: "append", added: [], removed: [], summary: {} }, 5000)
  const fourth = { ...third, snapshotId: 4n, parentSnapshotId: 3n, sequenceNumber: 4n, timestampMs: 5001 }
  const both = applied(metadata, [third, fourth].flatMap((one) => NewSnapshot.updates(metadata, one))).metadata
  expect(both.snapshotLog.map((entry) => entry.snapshotId)).toEqual([1n, 2n, 4n])
  expect(both.lastUpdatedMs).toBe(5001)
})

const one = append(table(), 1, 2000).metadata
const refused: ReadonlyArray<readonly [string, TableUpdate.TableUpdate]> = [
  ["another uuid", { action: "assign-uuid", uuid: "other" }],
  ["format version 3", { action: "upgrade-format-version", formatVersion: 3 }],
  ["a schema in which two columns have one id", {
    action: "add-schema",
    schema: { ...schema, fields: [...schema.fields, Type.optional(1, "x", Type.int)] },
    lastColumnId: undefined
  }],
  ["a last column id that falls", { action: "add-schema", schema, lastColumnId: 13 }],
  ["a schema that is not there", { action: "set-current-schema", schemaId: 5 }],
  ["the last added of none", { action: "set-default-spec", specId: TableUpdate.lastAdded }],
  ["a spec of no column", { action: "add-spec", fields: [{ ...topic, sourceId: 99 }] }],
  ["an order of no column", { action: "add-sort-order", sortOrder: SortOrder.ascending(1, [99]) }],
  ["a snapshot twice", { action: "add-snapshot", snapshot: one.snapshots[0]! }],
  ["a snapshot from before", { action: "add-snapshot", snapshot: { ...one.snapshots[0]!, snapshotId: 2n, parentSnapshotId: 1n } }],
  ["a snapshot of no schema", {
    action: "add-snapshot",
    snapshot: { ...one.snapshots[0]!, snapshotId: 2n, parentSnapshotId: 1n, sequenceNumber: 2n, schemaId: 5 }
  }],
  ["to drop a snapshot that is named", { action: "remove-snapshots", snapshotIds: [1n] }],
  ["a reference to no snapshot", { action: "set-snapshot-ref", name: "a", reference: { snapshotId: 7n, type: "tag", extra: {} } }],
  ["main as a tag", { action: "set-snapshot-ref", name: "main", reference: { snapshotId: 1n, type: "tag", extra: {} } }],
  ["an empty location", { action: "set-location", location: "" }],
  ["to drop the default spec", { action: "remove-partition-specs", specIds: [0] }],
  ["to drop the current schema", { action: "remove-schemas", schemaIds: [0] }]
]

for (const [what, update] of refused) {
  it(`refuses ${what}`, () => {
    const error = Either.getOrThrow(Either.flip(TableUpdate.apply(one, [update], { nowMs: 1, metadataLocation: "f" })))
    expect(error).toMatchObject({ _tag: "UpdateRefused", table: "memory://store/t", action: update.action })
  })
}

it("makes a new table from updates alone", () => {
  const at = { tableUuid: "u", location: "memory://store/t", nowMs: 1000 }
  const updates: ReadonlyArray<TableUpdate.TableUpdate> = [
    { action: "add-schema", schema, lastColumnId: 14 },
    { action: "set-current-schema", schemaId: TableUpdate.lastAdded },
    { action: "add-spec", fields: Fixture.byDay.fields },
    { action: "add-spec", fields: Fixture.byDayAndTopic.fields },
    { action: "set-default-spec", specId: 0 },
    { action: "add-sort-order", sortOrder: Fixture.definition.sortOrder },
    { action: "set-default-sort-order", sortOrderId: TableUpdate.lastAdded }
  ]
  expect(Either.getOrThrow(TableUpdate.create(updates, at))).toEqual(table())
  expect(Either.getOrThrow(TableUpdate.create(updates.slice(0, 2), at))).toMatchObject({ defaultSpecId: 0, partitionSpecs: [{ fields: [] }] })
  expect(Either.isLeft(TableUpdate.create([], at))).toBe(true)
})

const reference = fc.record({
  snapshotId: fc.bigInt({ min: 1n, max: 4n }),
  type: fc.constantFrom("branch" as const, "tag" as const),
  extra: fc.constantFrom({}, { "max-ref-age-ms": 5, "min-snapshots-to-keep": 2 })
})
const name = fc.constantFrom("main", "a", "b", "voltlake-position")
const small = fc.integer({ min: -1, max: 3 })
const anyId = fc.bigInt({ min: 1n, max: 4n })
const statistics = anyId.map((snapshotId) => ({ snapshotId, statistics: { "snapshot-id": Number(snapshotId), "statistics-path": "p" } }))
const action = <const A extends TableUpdate.TableUpdate["action"]>(of: A) => fc.constant(of)

/** Updates of every kind, of which some do not fit the table. */
const anyUpdate: fc.Arbitrary<TableUpdate.TableUpdate> = fc.oneof(
  fc.record({ action: action("assign-uuid"), uuid: fc.constantFrom("u", "v") }),
  fc.record({ action: action("upgrade-format-version"), formatVersion: fc.constantFrom(2, 3) }),
  fc.record({ action: action("add-schema"), schema: fc.constantFrom(schema, wider), lastColumnId: fc.constantFrom(undefined, 15) }),
  fc.record({ action: action("set-current-schema"), schemaId: small }),
  fc.record({ action: action("add-spec"), fields: fc.constantFrom([topic], [], Fixture.byDay.fields) }),
  fc.record({ action: action("set-default-spec"), specId: small }),
  fc.record({ action: action("add-sort-order"), sortOrder: fc.constantFrom(SortOrder.unsorted, SortOrder.ascending(3, [1])) }),
  fc.record({ action: action("set-default-sort-order"), sortOrderId: small }),
  fc.record({
    action: action("add-snapshot"),
    snapshot: fc.tuple(anyId, anyId).map(([snapshotId, sequenceNumber]) => ({ ...one.snapshots[0]!, snapshotId, sequenceNumber }))
  }),
  fc.record({ action: action("remove-snapshots"), snapshotIds: fc.array(anyId, { maxLength: 2 }) }),
  fc.record({ action: action("set-snapshot-ref"), name, reference }),
  fc.record({ action: action("remove-snapshot-ref"), name }),
  fc.record({ action: action("set-location"), location: fc.constantFrom("", "memory://store/elsewhere/") }),
  fc.record({ action: action("set-properties"), updates: fc.dictionary(fc.string(), fc.string(), { maxKeys: 2, noNullPrototype: true }) }),
  fc.record({ action: action("remove-properties"), removals: fc.array(fc.string(), { maxLength: 2 }) }),
  fc.tuple(fc.constantFrom("set-statistics" as const, "set-partition-statistics" as const), statistics).map(([of, rest]) => ({ action: of, ...rest })),
  fc.record({ action: fc.constantFrom("remove-statistics" as const, "remove-partition-statistics" as const), snapshotId: anyId }),
  fc.record({ action: action("remove-partition-specs"), specIds: fc.array(small, { maxLength: 2 }) }),
  fc.record({ action: action("remove-schemas"), schemaIds: fc.array(small, { maxLength: 2 }) })
)

const throughJson = (update: TableUpdate.TableUpdate) =>
  Either.getOrThrow(Json.decode(Json.encode(TableUpdateJson.encodeUpdate(update)), TableUpdateJson.decodeUpdate))

it("does the same with updates that were sent as JSON, and leaves metadata that can be read again", () => {
  let fitting = 0
  fc.assert(fc.property(fc.array(anyUpdate, { maxLength: 8 }), (updates) => {
    const at = { nowMs: 7000, metadataLocation: "f" }
    const here = TableUpdate.apply(one, updates, at)
    expect(TableUpdate.apply(one, updates.map(throughJson), at)).toEqual(here)
    if (Either.isLeft(here)) return
    fitting++
    const { metadata } = here.right
    expect(TableMetadataJson.decode(TableMetadataJson.encode(metadata), "f")).toEqual(Either.right(metadata))
    // One after the other is the same as all at once, but for what only a list knows: times, and what was last added.
    if (updates.some((update) => Object.values(update).includes(TableUpdate.lastAdded))) return
    const single = updates.reduce((so, update) => applied(so, [update], 7000).metadata, one)
    const timeless = (of: Metadata.TableMetadata) => ({ ...of, metadataLog: [], snapshotLog: [], lastUpdatedMs: 0 })
    expect(timeless(single)).toEqual(timeless(metadata))
  }), { numRuns: 1000 })
  expect(fitting).toBeGreaterThan(100)
})

it("meets requirements, or says which it does not", () => {
  const requirements: ReadonlyArray<readonly [TableRequirement.TableRequirement, TableRequirement.TableRequirement]> = [
    [{ type: "assert-table-uuid", uuid: "U" }, { type: "assert-table-uuid", uuid: "v" }],
    [{ type: "assert-ref-snapshot-id", ref: "main", snapshotId: 1n }, { type: "assert-ref-snapshot-id", ref: "main", snapshotId: undefined }],
    [{ type: "assert-ref-snapshot-id", ref: "x", snapshotId: undefined }, { type: "assert-ref-snapshot-id", ref: "x", snapshotId: 1n }],
    [{ type: "assert-last-assigned-field-id", lastAssignedFieldId: 14 }, { type: "assert-last-assigned-field-id", lastAssignedFieldId: 13 }],
    [{ type: "assert-current-schema-id", currentSchemaId: 0 }, { type: "assert-current-schema-id", currentSchemaId: 1 }],
    [
      { type: "assert-last-assigned-partition-id", lastAssignedPartitionId: 1001 },
      { type: "assert-last-assigned-partition-id", lastAssignedPartitionId: 1000 }
    ],
    [{ type: "assert-default-spec-id", defaultSpecId: 0 }, { type: "assert-default-spec-id", defaultSpecId: 1 }],
    [{ type: "assert-default-sort-order-id", defaultSortOrderId: 1 }, { type: "assert-default-sort-order-id", defaultSortOrderId: 0 }]
  ]
  const sent = (requirement: TableRequirement.TableRequirement) =>
    Either.getOrThrow(Json.decode(Json.encode(TableUpdateJson.encodeRequirement(requirement)), TableUpdateJson.decodeRequirement))
  expect(Either.isRight(TableRequirement.check(one, requirements.map(([met]) => sent(met))))).toBe(true)
  for (const failing of [...requirements.map(([, unmet]) => unmet), { type: "assert-create" as const }]) {
    expect(sent(failing)).toEqual(failing)
    const error = Either.getOrThrow(Either.flip(TableRequirement.check(one, [failing])))
    expect(error).toMatchObject({ _tag: "RequirementFailed", table: "memory://store/t", requirement: failing.type })
  }
})

it("names the place of what is no update", () => {
  const error = (text: string) => Either.getOrThrow(Either.flip(Json.decode(text, TableUpdateJson.decodeUpdate)))
  expect(error("{\"action\":\"nope\"}")).toMatchObject({ path: "action", reason: "unknown action nope" })
  expect(error("{\"action\":\"set-current-schema\"}")).toMatchObject({ path: "schema-id" })
})
