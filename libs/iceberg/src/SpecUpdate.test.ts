import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import type { SpecChange } from "./SpecUpdate.ts"
import * as SpecUpdate from "./SpecUpdate.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Transform from "./Transform.ts"

const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 })

const addTopic = (buckets: number): SpecChange => ({ change: "add", column: "topic", transform: Transform.bucket(buckets) })
const updated = (changes: ReadonlyArray<SpecChange>, metadata = base) => Either.getOrThrow(SpecUpdate.apply(metadata, changes))
const shown = (changes: ReadonlyArray<SpecChange>, metadata = base) => {
  const { fields, specId } = updated(changes, metadata)
  return `${specId}: ${fields.map((field) => `${field.name}#${field.fieldId} ${Transform.toText(field.transform)}(${field.sourceId})`).join(", ")}`
}

it("adds, removes and renames fields, and names those that have no name", () => {
  expect(shown([addTopic(4)])).toBe("2: timestamp_day#1000 day(4), topic_bucket_4#1002 bucket[4](1)")
  expect(shown([{ change: "remove", field: "timestamp_day" }, addTopic(4), addTopic(8)])).toBe(
    "2: topic_bucket_4#1002 bucket[4](1), topic_bucket_8#1003 bucket[8](1)"
  )
  expect(shown([{ change: "rename", field: "timestamp_day", name: "d" }])).toBe("2: d#1000 day(4)")
  expect(shown([{ change: "add", column: "offset", transform: Transform.truncate(5), name: "o" }])).toContain("o#1002 truncate[5](3)")
})

it("uses the id of an equal earlier field and an equal earlier spec again", () => {
  // The fixture's second spec parts by topic too.
  expect(updated([{ change: "add", column: "topic", transform: Transform.identity }])).toBe(base.partitionSpecs[1])
  const changed = { ...base, partitionSpecs: [...base.partitionSpecs, updated([{ change: "remove", field: "timestamp_day" }])], defaultSpecId: 2 }
  expect(shown([{ change: "add", column: "topic", transform: Transform.identity }], changed)).toBe("3: topic#1001 identity(1)")
  expect(shown([{ change: "add", column: "timestamp", transform: Transform.day }], changed)).toBe("0: timestamp_day#1000 day(4)")
})

const refused: ReadonlyArray<readonly [string, SpecChange, object]> = [
  ["a column that is not there", { change: "add", column: "nope", transform: Transform.day }, { _tag: "ColumnNotFound", column: "nope" }],
  ["a type that the transform does not take", { change: "add", column: "topic", transform: Transform.day }, { reason: "day takes no string" }],
  ["what has no single value", { change: "add", column: "headers", transform: Transform.identity }, { reason: "a list has no single value" }],
  ["what lies in a list", { change: "add", column: "headers.element.key", transform: Transform.identity }, { field: "headers.element.key" }],
  ["a transform that is not known", { change: "add", column: "topic", transform: Transform.fromText("zorder[2]") }, { field: "topic" }],
  ["a second field of one column's time", { change: "add", column: "timestamp", transform: Transform.hour }, {
    field: "timestamp_hour",
    reason: "timestamp_day parts by the same column already"
  }],
  ["a name that is taken", { change: "add", column: "topic", transform: Transform.identity, name: "timestamp_day" }, { field: "timestamp_day" }],
  ["a column's name", { change: "rename", field: "timestamp_day", name: "offset" }, { field: "offset" }],
  ["to remove what is not there", { change: "remove", field: "nope" }, { reason: "the partition fields are timestamp_day" }]
]

for (const [what, change, expected] of refused) {
  it(`refuses ${what}`, () => {
    expect(Either.getOrThrow(Either.flip(SpecUpdate.apply(base, [change])))).toMatchObject({ table: "memory://store/t", ...expected })
  })
}

it("orders by columns and transforms, and uses an equal order again", () => {
  const order = Either.getOrThrow(SpecUpdate.sortOrder(base, [
    { column: "topic", direction: "desc" },
    { column: "timestamp", transform: Transform.hour }
  ]))
  expect(order).toEqual({
    orderId: 2,
    fields: [
      { transform: Transform.identity, sourceId: 1, direction: "desc", nullOrder: "nulls-last" },
      { transform: Transform.hour, sourceId: 4, direction: "asc", nullOrder: "nulls-first" }
    ]
  })
  expect(Either.getOrThrow(SpecUpdate.sortOrder(base, [{ column: "partition" }, { column: "offset" }])).orderId).toBe(1)
  expect(Either.getOrThrow(SpecUpdate.sortOrder(base, [])).orderId).toBe(0)
  expect(Either.isLeft(SpecUpdate.sortOrder(base, [{ column: "nope" }]))).toBe(true)
})
