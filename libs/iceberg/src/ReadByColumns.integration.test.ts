/** Rows of files whose columns the engine does not find by itself: changed within others, without ids, in several layouts, with deletes. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as NameMapping from "./NameMapping.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import * as SortOrder from "./SortOrder.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { evolved, layer as parts, planned, read, relation, rows, tableOf, write, writeForeign } from "./test/ReadTable.ts"
import * as Transform from "./Transform.ts"
import * as Type from "./Type.ts"

const place = Type.struct([Type.optional(20, "lat", Type.float), Type.optional(21, "lon", Type.float)])

const schema = Type.schema([
  Type.required(1, "id", Type.int),
  Type.optional(2, "place", place),
  Type.optional(3, "stops", Type.list(30, Type.struct([Type.optional(31, "name", Type.string), Type.optional(32, "count", Type.int)]))),
  Type.optional(4, "days", Type.map([40, Type.string], [41, Type.list(42, Type.struct([Type.optional(43, "a", Type.int), Type.optional(44, "b", Type.string)]))])),
  Type.optional(5, "city", Type.string)
])

const definition = {
  schema,
  specs: [PartitionSpec.make(0, [])],
  sortOrder: SortOrder.ascending(1, [1]),
  properties: {}
}
const table = tableOf(definition)

const rowsSql = (from: number, count = 3) => `
  SELECT range::INTEGER AS id, CASE WHEN range % 3 < 2 THEN {'lat': range / 2::FLOAT, 'lon': 9::FLOAT} END AS place,
    CASE range % 3 WHEN 0 THEN [{'name': 'n' || range, 'count': range::INTEGER}, NULL] WHEN 1 THEN [] END AS stops,
    CASE range % 3 WHEN 0 THEN MAP {'k' || range: [{'a': range::INTEGER, 'b': 'b'}, NULL], 'none': NULL} WHEN 1 THEN MAP {} END AS days,
    'Zürich' AS city
  FROM range(${from}, ${from + count})`

const shown = "id, place::VARCHAR AS place, stops::VARCHAR AS stops, days::VARCHAR AS days, city"

/** Names and places changed at every depth, and one replaced by another of its name. */
const change = (metadata: TableMetadata) =>
  evolved(metadata, [
    { change: "rename", column: "place.lat", name: "latitude" },
    { change: "widen", column: "place.latitude", type: Type.double },
    { change: "drop", column: "place.lon" },
    { change: "add", column: "place.lon", type: Type.string, place: "first" },
    { change: "rename", column: "stops.element.name", name: "count2" },
    { change: "rename", column: "stops.element.count", name: "name" },
    { change: "widen", column: "stops.element.name", type: Type.long },
    { change: "rename", column: "days.value.element.b", name: "it's \"b\"" },
    { change: "move", column: "days.value.element.it's \"b\"", place: "first" },
    { change: "drop", column: "days.value.element.a" },
    { change: "rename", column: "city", name: "town" }
  ])
const changedColumns = shown.replace("city", "town")

const changed = [
  {
    id: 0,
    place: "{'lon': NULL, 'latitude': 0.0}",
    stops: "[{'count2': n0, 'name': 0}, NULL]",
    days: "{k0=[{'it\\'s \"b\"': b}, NULL], none=NULL}",
    town: "Zürich"
  },
  { id: 1, place: "{'lon': NULL, 'latitude': 0.5}", stops: "[]", days: "{}", town: "Zürich" },
  { id: 2, place: null, stops: null, days: null, town: "Zürich" }
]

const mapping = JSON.stringify([
  { "field-id": 1, names: ["id", "nr"] },
  { "field-id": 2, names: ["place"], fields: [{ "field-id": 20, names: ["lat"] }, { "field-id": 21, names: ["lon"] }] },
  {
    "field-id": 3,
    names: ["stops"],
    fields: [{ "field-id": 30, names: ["element"], fields: [{ "field-id": 31, names: ["name"] }, { "field-id": 32, names: ["count"] }] }]
  },
  {
    "field-id": 4,
    names: ["days"],
    fields: [
      { "field-id": 40, names: ["key"] },
      { "field-id": 41, names: ["value"], fields: [{ "field-id": 42, names: ["element"], fields: [{ "field-id": 43, names: ["a"] }, { "field-id": 44, names: ["b"] }] }] }
    ]
  },
  { "field-id": 5, names: ["city"] }
])
const mapped = tableOf({ ...definition, properties: { [NameMapping.property]: mapping } })

layer(parts, { excludeTestServices: true })("rows by a file's own columns", (it) => {
  it.effect("finds columns within structs, lists and maps by their ids", () =>
    Effect.gen(function*() {
      const before = yield* table
      const old = yield* write(before, rowsSql(0), [])
      const after = yield* change(before)
      const young = yield* write(after, `SELECT 7 AS id, {'lon': 'east', 'latitude': 1e100::DOUBLE} AS place, [{'count2': 'c', 'name': 5000000000}] AS stops,
        MAP {'y': [{'it''s "b"': 'young'}]} AS days, 'Bern' AS town`, [])
      const found = yield* read(after, [planned(old), planned(young)], changedColumns, "id")
      expect(found).toEqual([...changed, {
        id: 7,
        place: "{'lon': east, 'latitude': 1e+100}",
        stops: "[{'count2': c, 'name': 5000000000}]",
        days: "{y=[{'it\\'s \"b\"': young}]}",
        town: "Bern"
      }])
      const types = yield* read(after, [planned(old)], "typeof(place) AS place, typeof(stops) AS stops, typeof(days) AS days", "1 LIMIT 1")
      expect(types).toEqual([{
        place: "STRUCT(lon VARCHAR, latitude DOUBLE)",
        stops: "STRUCT(count2 VARCHAR, \"name\" BIGINT)[]",
        days: "MAP(VARCHAR, STRUCT(\"it's \"\"b\"\"\" VARCHAR)[])"
      }])
    }))

  it.effect("does not take a column for another of its name and place, nor needs any that is still there", () =>
    Effect.gen(function*() {
      const before = yield* table
      const old = planned(yield* write(before, rowsSql(0, 1), []))
      const replaced = yield* evolved(yield* evolved(before, [{ change: "drop", column: "place.lon" }]), [
        { change: "add", column: "place.lon", type: Type.float }
      ])
      expect(yield* read(replaced, [old], "place::VARCHAR AS place", "1")).toEqual([{ place: "{'lat': 0.0, 'lon': NULL}" }])
      const others = yield* evolved(before, [
        { change: "add", column: "place.alt", type: Type.int },
        { change: "drop", column: "place.lat" },
        { change: "drop", column: "place.lon" }
      ])
      expect(yield* read(others, [old], "place::VARCHAR AS place", "1")).toEqual([{ place: "{'alt': NULL}" }])
    }))

  it.effect("reads files without ids by the table's mapping, beside files with ids, which it does not apply to", () =>
    Effect.gen(function*() {
      const before = yield* mapped
      const foreign = yield* writeForeign(before, `SELECT id AS nr, 'x' AS extra, * EXCLUDE (id) FROM (${rowsSql(0)})`, "{}")
      // Its city has the id of no column, and its other names are those of others.
      const own = yield* writeForeign(before, "SELECT 'no' AS id, 8 AS city, 9 AS nr", "{id: 5, city: 1, nr: 99}")
      const files = [planned(foreign), planned(own)]
      const plain = yield* read(before, files, shown, "id")
      expect(plain).toEqual([
        ...(yield* rows(`SELECT ${shown} FROM (${rowsSql(0)}) ORDER BY id`)),
        { id: 8, place: null, stops: null, days: null, city: "no" }
      ])
      expect(plain[0]).toMatchObject({ stops: "[{'name': n0, 'count': 0}, NULL]" })
      // The mapping went with the columns, so that what was written before means what it meant.
      const after = yield* change(before)
      expect((yield* read(after, files, changedColumns, "id")).slice(0, 2)).toEqual(changed.slice(0, 2).map((row) => ({
        ...row,
        // As in Iceberg's own library, a name that a new column has is no longer one of the column that had it.
        ...(row.id === 0 ? { place: "{'lon': 9.0, 'latitude': 0.0}", stops: "[{'count2': NULL, 'name': 0}, NULL]" } : { place: "{'lon': 9.0, 'latitude': 0.5}" })
      })))
    }))

  it.effect("takes a field without a name in the mapping for absent", () =>
    Effect.gen(function*() {
      const metadata = yield* tableOf({
        ...definition,
        properties: { [NameMapping.property]: JSON.stringify([{ "field-id": 1, names: ["id"] }, { "field-id": 5, names: [] }, { names: ["place"] }]) }
      })
      const foreign = yield* writeForeign(metadata, rowsSql(0, 1), "{}")
      expect(yield* read(metadata, [planned(foreign)], shown, "id")).toEqual([{ id: 0, place: null, stops: null, days: null, city: null }])
    }))

  it.effect("reads files of one layout by one relation, and keeps apart those whose types differ", () =>
    Effect.gen(function*() {
      const metadata = yield* mapped
      const int = (id: number) => writeForeign(metadata, `SELECT ${id}::INTEGER AS id`, "{}")
      const files = [yield* int(1), yield* int(2), yield* writeForeign(metadata, "SELECT 3::UTINYINT AS id", "{}"), yield* int(4)].map((file) => planned(file))
      expect(yield* read(metadata, files, "id", "id")).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }, { id: 4 }])
      expect((yield* Effect.scoped(relation(metadata, files))).match(/read_parquet/g)).toHaveLength(2)
      // A long that an int's column does not hold, read first or last.
      const wide = yield* evolved(metadata, [{ change: "widen", column: "id", type: Type.long }])
      const long = planned(yield* writeForeign(metadata, "SELECT 5000000000 AS id", "{}"))
      for (const order of [[files[0]!, long], [long, files[0]!]]) {
        expect(yield* read(wide, order, "id", "id")).toEqual([{ id: 1n }, { id: 5000000000n }])
      }
    }))

  it.effect("means the same by bytes and times that a file calls otherwise", () =>
    Effect.gen(function*() {
      const metadata = yield* tableOf({
        ...definition,
        schema: Type.schema([
          Type.optional(1, "text", Type.string),
          Type.optional(2, "bytes", Type.binary),
          Type.optional(3, "instant", Type.timestamptz),
          Type.optional(4, "local_time", Type.timestamp),
          Type.optional(5, "key", Type.uuid)
        ]),
        properties: {
          [NameMapping.property]: JSON.stringify(["text", "bytes", "instant", "local_time", "key"].map((name, at) => ({ "field-id": at + 1, names: [name] })))
        }
      })
      const foreign = yield* writeForeign(
        metadata,
        `SELECT encode('Zürich \\x41') AS text, 'Zürich \\x41' AS bytes, TIMESTAMP '2024-07-01 12:00:00' AS instant,
          TIMESTAMPTZ '2024-07-01 12:00:00+00' AS local_time, '0cc175b9-c0f1-b6a8-31c3-99e269772661'::UUID AS key`,
        "{}"
      )
      const found = yield* read(metadata, [planned(foreign)], "text, decode(bytes) AS bytes, instant, local_time, key::VARCHAR AS key", "1")
      const at = BigInt(Date.UTC(2024, 6, 1, 12)) * 1000n
      expect(found).toEqual([
        { text: "Zürich \\x41", bytes: "Zürich \\x41", instant: at, local_time: at, key: "0cc175b9-c0f1-b6a8-31c3-99e269772661" }
      ])
    }))

  it.effect("leaves out rows by their place in a file and by equality", () =>
    Effect.gen(function*() {
      const before = yield* mapped
      const old = yield* write(before, rowsSql(0, 9), [])
      const foreign = yield* writeForeign(before, `SELECT * REPLACE (CASE id WHEN 23 THEN NULL ELSE city || id END AS city) FROM (${rowsSql(20, 9)})`, "{}")
      const positions = yield* writeForeign(
        before,
        `SELECT * FROM (VALUES ('${old.filePath}', 1::BIGINT), ('${foreign.filePath}', 0::BIGINT), ('${foreign.filePath}', 8::BIGINT)) AS t (file_path, pos)`,
        "{file_path: 2147483546, pos: 2147483545}",
        { content: "position-deletes" }
      )
      const cities = yield* writeForeign(before, "SELECT * FROM (VALUES ('Zürich22'), (NULL)) AS t (city)", "{city: 5}", {
        content: "equality-deletes",
        equalityIds: [5]
      })
      const left = (metadata: TableMetadata) =>
        Effect.map(
          read(metadata, [planned(old, positions, cities), planned(foreign, positions, cities)], "id, place IS NULL AS none", "id"),
          (found) => found.map(({ id }) => id)
        )
      const expected = [0, 2, 3, 4, 5, 6, 7, 8, 21, 24, 25, 26, 27]
      expect(yield* left(before)).toEqual(expected)
      expect(yield* left(yield* change(before))).toEqual(expected)
      expect(yield* left(yield* evolved(before, [{ change: "drop", column: "city" }]))).toEqual(expected)
    }))

  it.effect("takes what a file does not have from its partition", () =>
    Effect.gen(function*() {
      const identities = [1, 2, 3, 4, 5, 6, 7].map((sourceId) => ({ sourceId, fieldId: 1000 + sourceId, name: `p${sourceId}`, transform: Transform.identity }))
      const metadata = yield* tableOf({
        schema: Type.schema([
          Type.optional(1, "day", Type.date),
          Type.optional(2, "text", Type.string),
          Type.optional(3, "at", Type.timestamptz),
          Type.optional(4, "money", Type.decimal(9, 2)),
          Type.optional(5, "single", Type.float),
          Type.optional(6, "bytes", Type.binary),
          Type.optional(7, "flag", Type.boolean),
          Type.required(8, "id", Type.int)
        ]),
        specs: [PartitionSpec.make(0, identities)],
        sortOrder: SortOrder.ascending(1, [8]),
        properties: { [NameMapping.property]: JSON.stringify([{ "field-id": 8, names: ["id"] }, { "field-id": 2, names: ["text"] }]) }
      })
      const one = yield* writeForeign(metadata, "SELECT 1 AS id", "{}", { partition: [-1, "it's", -1n, -5n, 0.5, Uint8Array.of(0, 255), true] })
      const two = yield* writeForeign(metadata, "SELECT 2 AS id", "{}", { partition: [null, null, 1n, 1234567n, -Infinity, null, false] })
      // What its folder's name says, another day, plays no part.
      const three = yield* writeForeign(metadata, "SELECT 3 AS id, 'own' AS text, DATE '1970-01-02' AS day", "{id: 8, text: 2, day: 1}", { partition: [0, "other", null, null, null, null, null] })
      const columns = "id, day::VARCHAR AS day, text, \"at\", money::VARCHAR AS money, single::VARCHAR AS single, hex(bytes) AS bytes, flag"
      const expected = [
        { id: 1, day: "1969-12-31", text: "it's", at: -1n, money: "-0.05", single: "0.5", bytes: "00FF", flag: true },
        { id: 2, day: null, text: null, at: 1n, money: "12345.67", single: "-inf", bytes: null, flag: false },
        { id: 3, day: "1970-01-02", text: "own", at: null, money: null, single: null, bytes: null, flag: null }
      ]
      const files = [one, two, three]
      expect(yield* read(metadata, files.map((file) => planned(file)), columns, "id")).toEqual(expected)
      const gone = yield* writeForeign(metadata, "SELECT 2::INTEGER AS id", "{id: 8}", { content: "equality-deletes", equalityIds: [8] })
      expect(yield* read(metadata, files.map((file) => planned(file, gone)), columns, "id")).toEqual([expected[0], expected[2]])
      // Two layouts, whatever the partitions.
      expect((yield* Effect.scoped(relation(metadata, files.map((file) => planned(file))))).match(/read_parquet/g)).toHaveLength(2)
    }))

  it.effect("refuses what it would read wrongly, and says of which file, which column and why", () =>
    Effect.gen(function*() {
      const metadata = yield* table
      const none = yield* writeForeign(metadata, rowsSql(0), "{}")
      const error = yield* Effect.flip(read(metadata, [planned(none)], "*", "1"))
      expect(error).toMatchObject({ _tag: "ReadUnsupported", table: metadata.location, subject: none.filePath })
      expect(error.message).toContain("set the property")
      const withMapping = (fields: ReadonlyArray<object>) => ({ ...metadata, properties: { [NameMapping.property]: JSON.stringify(fields) } })
      const broken = { ...metadata, properties: { [NameMapping.property]: "[{}]" } }
      expect(yield* Effect.flip(read(broken, [], "*", "1"))).toMatchObject({
        _tag: "NameMappingInvalid",
        table: metadata.location,
        message: expect.stringContaining("schema.name-mapping.default of file://")
      })
      const hollow = yield* tableOf({ ...definition, schema: Type.schema([Type.optional(1, "list", Type.list(2, Type.struct([])))]) })
      expect(yield* Effect.flip(read(hollow, [], "*", "1"))).toMatchObject({ _tag: "ReadUnsupported", subject: "column list.element" })
      const cases: ReadonlyArray<readonly [fields: ReadonlyArray<object>, query: string, reason: RegExp]> = [
        [[{ "field-id": 2, names: ["place"] }], "SELECT 1 AS place", /^is a single value, and in the table a struct$/],
        [[{ "field-id": 1, names: ["id"] }], "SELECT [1] AS id", /^is a list, and in the table a single value$/],
        [[{ "field-id": 3, names: ["stops"] }], `SELECT stops FROM (${rowsSql(0)})`, /^has no element that is known/],
        [[{ "field-id": 4, names: ["days"], fields: [{ "field-id": 40, names: ["key"] }] }], `SELECT days FROM (${rowsSql(0)})`, /^has no value that is known/]
      ]
      for (const [fields, query, reason] of cases) {
        const file = yield* writeForeign(metadata, query, "{}")
        const refused = yield* Effect.flip(read(withMapping(fields), [planned(file)], "*", "1"))
        expect(refused, query).toMatchObject({ _tag: "ReadUnsupported", reason: expect.stringMatching(reason), subject: expect.stringContaining(file.filePath) })
      }
    }))
})
