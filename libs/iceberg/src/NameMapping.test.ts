/** Name mappings: as text, as what a file's columns are, and through changes of a table's columns. */
import { describe, expect, it } from "@effect/vitest"
import { Either } from "effect"
import * as Action from "./Action.ts"
import type { FileColumn } from "./FileSchema.ts"
import * as NameMapping from "./NameMapping.ts"
import type { SchemaChange } from "./SchemaUpdate.ts"
import * as SchemaUpdate from "./SchemaUpdate.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Type from "./Type.ts"

const leaf = (name: string): FileColumn => ({ name, id: undefined, type: { kind: "leaf", physical: "INT32", meaning: "other", detail: {} } })

const text = JSON.stringify([
  { "field-id": 1, names: ["id", "record_id"] },
  { names: ["ignored"] },
  { "field-id": 2, names: [] },
  {
    "field-id": 5,
    names: ["trips"],
    fields: [{ "field-id": 6, names: ["element"], fields: [{ "field-id": 7, names: ["a.b"] }] }]
  },
  { "field-id": 8, names: ["marks"], fields: [{ "field-id": 9, names: ["key"] }, { "field-id": 10, names: ["value"] }] }
])

const decoded = Either.getOrThrow(NameMapping.decode(text))

describe("name mapping", () => {
  it("is written as it was read", () => {
    expect(NameMapping.encode(decoded)).toBe(text)
  })

  it("gives ids by any of a field's names, and to what lists and maps hold whatever it is called", () => {
    const columns: ReadonlyArray<FileColumn> = [
      leaf("record_id"),
      leaf("ignored"),
      leaf("ID"),
      { ...leaf("trips"), type: { kind: "list", element: { ...leaf("array"), type: { kind: "struct", fields: [leaf("a.b"), leaf("c")] } } } },
      { ...leaf("marks"), type: { kind: "map", key: leaf("k"), value: leaf("v") } }
    ]
    const ids = (all: ReadonlyArray<FileColumn>): unknown => all.map(({ id, type }) =>
      type.kind === "struct" ? [id, ids(type.fields)]
      : type.kind === "list" ? [id, ids([type.element])]
      : type.kind === "map" ? [id, ids([type.key, type.value])]
      : id)
    expect(ids(NameMapping.apply(columns, decoded))).toEqual([1, undefined, undefined, [5, [[6, [7, undefined]]]], [8, [9, 10]]])
  })

  it("takes the first of a field's names that a file has", () => {
    const ids = (...names: ReadonlyArray<string>) => NameMapping.apply(names.map(leaf), decoded).map(({ id }) => id)
    expect(ids("record_id", "id")).toEqual([undefined, 1])
    expect(ids("record_id", "x")).toEqual([1, undefined])
  })

  it.each([
    ["{", "", /JSON|end of/],
    ["null", "", "expected a list, found null"],
    ["{}", "", "expected a list, found a object"],
    [`[{"field-id":1}]`, "[0].names", "expected a list, found nothing"],
    [`[{"field-id":"1","names":[]}]`, "[0].field-id", "expected an integer, found a string"],
    [`[{"field-id":1,"names":[],"fields":[{"names":[2]}]}]`, "[0].fields[0].names[0]", "expected a string, found a number"],
    [`[{"field-id":1,"names":["a"]},{"field-id":2,"names":["a"]}]`, "[1]", "the name a is there twice"],
    [`[{"field-id":1,"names":["a"]},{"field-id":1,"names":["b"]}]`, "[1]", "the field 1 is there twice"]
  ])("refuses %s", (broken, path, reason) => {
    const error = Either.getOrThrow(Either.flip(NameMapping.decode(broken)))
    expect(error).toMatchObject({ path, reason: expect.stringMatching(reason) })
  })
})

describe("a table with a name mapping", () => {
  const fieldsOf = (column: string, id: number, ...fields: ReadonlyArray<object>) => ({ "field-id": id, names: [column], ...(fields.length > 0 ? { fields } : {}) })
  const start = [
    fieldsOf("topic", 1),
    fieldsOf("speed", 13),
    fieldsOf("headers", 6, fieldsOf("element", 7, fieldsOf("key", 8), fieldsOf("value", 9)))
  ]
  const table = Metadata.make(
    { ...Fixture.definition, properties: { other: "1", [NameMapping.property]: JSON.stringify(start) } },
    { tableUuid: "u", location: "memory://t", nowMs: 1 }
  )
  const after = (changes: ReadonlyArray<SchemaChange>, metadata = table) =>
    Either.getOrThrow(SchemaUpdate.apply(metadata, changes)).properties[NameMapping.property]
  const parsed = (changes: ReadonlyArray<SchemaChange>) => JSON.parse(after(changes)!) as Array<object>

  it("has a renamed column's new name beside its old ones, at every depth", () => {
    const changes: ReadonlyArray<SchemaChange> = [
      { change: "rename", column: "speed", name: "speed_mph" },
      { change: "rename", column: "headers.element.key", name: "k" }
    ]
    expect(parsed(changes)).toEqual([
      start[0],
      { "field-id": 13, names: ["speed", "speed_mph"] },
      fieldsOf("headers", 6, fieldsOf("element", 7, { "field-id": 8, names: ["key", "k"] }, fieldsOf("value", 9)))
    ])
  })

  it("has added columns with what is in them, and takes their names from columns beside them", () => {
    const changes: ReadonlyArray<SchemaChange> = [
      { change: "add", column: "visits", type: Type.list(1, Type.struct([Type.optional(2, "at", Type.date)])) },
      { change: "drop", column: "headers.element.value" },
      { change: "add", column: "headers.element.value", type: Type.string },
      { change: "rename", column: "speed", name: "velocity" },
      { change: "add", column: "speed", type: Type.int }
    ]
    expect(parsed(changes)).toEqual([
      start[0],
      { "field-id": 13, names: ["velocity"] },
      fieldsOf("headers", 6, fieldsOf("element", 7, fieldsOf("key", 8), { "field-id": 9, names: [] }, fieldsOf("value", 18))),
      fieldsOf("visits", 15, fieldsOf("element", 16, fieldsOf("at", 17))),
      fieldsOf("speed", 19)
    ])
  })

  it("has it set by the same commit that changes its columns", () => {
    const action = Action.evolveSchema([{ change: "rename", column: "speed", name: "velocity" }])
    if (action.type !== "updates") throw new Error("it is updates")
    const [, , last] = Either.getOrThrow(action.updates(table))
    expect(last).toEqual({ action: "set-properties", updates: { [NameMapping.property]: expect.stringContaining(`["speed","velocity"]`) } })
  })

  it("is left as it is by what changes no name, and where it is none or broken", () => {
    const rename: SchemaChange = { change: "rename", column: "speed", name: "velocity" }
    expect(after([{ change: "drop", column: "speed" }, { change: "widen", column: "partition", type: Type.long }])).toBeUndefined()
    expect(after([rename], { ...table, properties: {} })).toBeUndefined()
    expect(after([rename], { ...table, properties: { [NameMapping.property]: "{" } })).toBeUndefined()
  })
})
