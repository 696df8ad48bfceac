import { expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import * as Column from "./Column.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import { primitiveText } from "./SchemaJson.ts"
import type { SchemaChange, SchemaUpdateOptions } from "./SchemaUpdate.ts"
import * as SchemaUpdate from "./SchemaUpdate.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import type { IcebergType } from "./Type.ts"
import * as Type from "./Type.ts"

const base = Metadata.make(Fixture.definition, { tableUuid: "u", location: "memory://store/t", nowMs: 1 })

/** `topic#1! string`: path, id, required, type. */
const text = (type: IcebergType) => (Type.isPrimitive(type) ? primitiveText(type) : type.type)
const shown = (schema: Type.TableSchema) =>
  Column.all(schema).map(({ field, path }) => `${path}#${field.id}${field.required ? "!" : ""} ${text(field.type)}`)

const before = shown(Fixture.schema)

const updated = (changes: ReadonlyArray<SchemaChange>, options?: SchemaUpdateOptions) =>
  Either.getOrThrow(SchemaUpdate.apply(base, changes, options))

/** Lines that are new, and those that are gone. */
const difference = (changes: ReadonlyArray<SchemaChange>, options?: SchemaUpdateOptions) => {
  const after = shown(updated(changes, options).schema)
  return [...after.filter((line) => !before.includes(line)), ...before.filter((line) => !after.includes(line)).map((line) => `- ${line}`)]
}

const point = Type.struct([
  Type.required(1, "x", Type.list(1, Type.map([1, Type.string], [1, Type.int]))),
  Type.optional(2, "y", Type.double)
])

const given: ReadonlyArray<readonly [string, ReadonlyArray<SchemaChange>, ReadonlyArray<string>, SchemaUpdateOptions?]> = [
  ["adds a column with a new id", [{ change: "add", column: "gear", type: Type.string }], ["gear#15 string"]],
  [
    "adds a nested column, numbered level by level",
    [{ change: "add", column: "at", type: point }],
    ["at#15 struct", "at.x#16! list", "at.x.element#18 map", "at.x.element.key#19! string", "at.x.element.value#20 int", "at.y#17 double"]
  ],
  [
    "adds into a struct",
    [{ change: "add", column: "headers.element.note", type: Type.string }],
    ["headers.element.note#15 string"]
  ],
  [
    "adds a required column where told so",
    [{ change: "add", column: "gear", type: Type.string, required: true }],
    ["gear#15! string"],
    { allowIncompatible: true }
  ],
  ["drops", [{ change: "drop", column: "speed" }], ["- speed#13 double"]],
  ["drops a nested column", [{ change: "drop", column: "headers.element.value" }], ["- headers.element.value#9 binary"]],
  ["gives a dropped column's name to another id", [
    { change: "drop", column: "speed" },
    { change: "add", column: "speed", type: Type.int }
  ], ["speed#15 int", "- speed#13 double"]],
  ["renames", [{ change: "rename", column: "speed", name: "speed_mph" }], ["speed_mph#13 double", "- speed#13 double"]],
  ["renames in a struct", [{ change: "rename", column: "headers.element.key", name: "k" }], [
    "headers.element.k#8! string",
    "- headers.element.key#8! string"
  ]],
  ["widens", [{ change: "widen", column: "partition", type: Type.long }], ["partition#2! long", "- partition#2! int"]],
  ["widens a decimal", [{ change: "widen", column: "total", type: Type.decimal(38, 6) }], []],
  ["widens what a map holds", [{ change: "require", column: "signals.value", required: false }], []],
  ["makes optional", [{ change: "require", column: "topic", required: false }], ["topic#1 string", "- topic#1! string"]],
  [
    "makes required where told so",
    [{ change: "require", column: "speed", required: true }],
    ["speed#13! double", "- speed#13 double"],
    { allowIncompatible: true }
  ]
]

for (const [what, changes, expected, options] of given) {
  it(what, () => expect(difference(changes, options)).toEqual(expected))
}

const topLevel = (changes: ReadonlyArray<SchemaChange>) => updated(changes).schema.fields.map((field) => field.name).join(" ")

it("moves a column first, before and behind another", () => {
  const order = (place: SchemaUpdate.Place) => topLevel([{ change: "move", column: "speed", place }])
  expect(order("first")).toBe("speed topic partition offset timestamp value headers signals total")
  expect(order({ before: "partition" })).toBe("topic speed partition offset timestamp value headers signals total")
  expect(order({ after: "total" })).toBe("topic partition offset timestamp value headers signals total speed")
  const added = updated([{ change: "add", column: "headers.element.n", type: Type.int, place: { before: "value" } }])
  expect(shown(added.schema).slice(7, 11)).toEqual([
    "headers.element.key#8! string",
    "headers.element.n#15 int",
    "headers.element.value#9 binary",
    "signals#10 map"
  ])
})

it("says what a column is, and which tell rows apart", () => {
  const { schema } = updated([
    { change: "document", column: "speed", doc: "mph" },
    { change: "identify", columns: ["offset", "partition"] }
  ])
  expect(schema.fields.find((field) => field.name === "speed")!.doc).toBe("mph")
  expect(schema.identifierFieldIds).toEqual([2, 3])
})

const refused: ReadonlyArray<readonly [string, ReadonlyArray<SchemaChange>, object]> = [
  ["a column that is there", [{ change: "add", column: "speed", type: Type.int }], { _tag: "ColumnExists", column: "speed" }],
  ["a name that is taken", [{ change: "rename", column: "speed", name: "total" }], { _tag: "ColumnExists", column: "total" }],
  ["a required column", [{ change: "add", column: "n", type: Type.int, required: true }], { column: "n" }],
  ["to require a column", [{ change: "require", column: "speed", required: true }], { column: "speed" }],
  ["a column that is not there", [{ change: "drop", column: "headers.element.nope" }], {
    _tag: "ColumnNotFound",
    column: "headers.element.nope",
    known: ["key", "value"]
  }],
  ["a place beside a column that is not there", [{ change: "move", column: "speed", place: { after: "nope" } }], {
    _tag: "ColumnNotFound",
    column: "nope"
  }],
  ["a column in one that holds none", [{ change: "add", column: "speed.x", type: Type.int }], { column: "speed.x" }],
  ["to drop what partitions are made of", [{ change: "drop", column: "timestamp" }], { reason: "the partition field timestamp_day is made of it" }],
  ["to drop what the order rests on", [{ change: "drop", column: "offset" }], { reason: "the table's order rests on it" }],
  ["to drop what identifies rows", [{ change: "identify", columns: ["topic"] }, { change: "drop", column: "topic" }], {
    reason: "it identifies rows"
  }],
  ["to drop a map's value", [{ change: "drop", column: "signals.value" }], { reason: "it is what a map holds" }],
  ["to drop all that a struct has", [{ change: "drop", column: "headers.element.key" }, { change: "drop", column: "headers.element.value" }], {
    column: "headers.element.value",
    reason: "nothing would be left beside it"
  }],
  ["to widen a map's key", [{ change: "widen", column: "signals.key", type: Type.string }], { reason: "it belongs to the key of a map" }],
  ["to narrow", [{ change: "widen", column: "offset", type: Type.int }], { reason: "long cannot become int" }],
  ["another scale", [{ change: "widen", column: "total", type: Type.decimal(38, 7) }], { column: "total" }],
  ["to widen a struct", [{ change: "widen", column: "headers", type: Type.int }], { reason: "a list has no wider type" }],
  ["an optional identifier", [{ change: "identify", columns: ["value"] }], { reason: "an optional column cannot identify rows" }],
  ["a nested identifier", [{ change: "identify", columns: ["headers.element.key"] }], { column: "headers.element.key" }],
  ["to make an identifier optional", [
    { change: "identify", columns: ["topic"] },
    { change: "require", column: "topic", required: false }
  ], { column: "topic" }]
]

for (const [what, changes, expected] of refused) {
  it(`refuses ${what}`, () => {
    const error = Either.getOrThrow(Either.flip(SchemaUpdate.apply(base, changes)))
    expect(error).toMatchObject({ table: "memory://store/t", ...expected })
  })
}

it("lets a column go that only earlier partitions were made of", () => {
  const metadata = { ...base, partitionSpecs: [...base.partitionSpecs, { ...PartitionSpec.unpartitioned, specId: 2 }], defaultSpecId: 2 }
  expect(Either.isRight(SchemaUpdate.apply(metadata, [{ change: "drop", column: "timestamp" }]))).toBe(true)
})

it("never uses an id again, whatever is added and dropped", () => {
  const names = ["a", "b", "c"]
  const change = fc.constantFrom(...names).chain((column): fc.Arbitrary<SchemaChange> =>
    fc.constantFrom<SchemaChange>({ change: "add", column, type: point }, { change: "drop", column })
  )
  fc.assert(fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
    let metadata = base
    const seen = new Map<number, string>()
    for (const one of changes) {
      const next = SchemaUpdate.apply(metadata, [one])
      if (Either.isLeft(next)) continue
      const { lastColumnId, schema } = next.right
      const known = new Set(Type.fieldIds(metadata.schemas[0]!))
      for (const id of Type.fieldIds(schema).filter((one) => !known.has(one))) {
        expect(seen.has(id)).toBe(false)
        expect(id).toBeGreaterThan(metadata.lastColumnId)
        seen.set(id, one.change)
      }
      expect(lastColumnId).toBeGreaterThanOrEqual(Math.max(...Type.fieldIds(schema)))
      expect(new Set(Type.fieldIds(schema)).size).toBe(Type.fieldIds(schema).length)
      metadata = { ...metadata, schemas: [schema], lastColumnId }
    }
  }))
})
