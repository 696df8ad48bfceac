import { expect, it } from "@effect/vitest"
import fc from "fast-check"
import type { ColumnStats, WrittenFile } from "@voltlake/query-engine/QueryEngine"
import { decode } from "./BoundsBinary.ts"
import { metrics, parseValue } from "./FromEngineStats.ts"
import * as MetricsMode from "./MetricsMode.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Type from "./Type.ts"

const certain: ReadonlyArray<readonly [Type.PrimitiveType, string, unknown]> = [
  [Type.boolean, "1", true],
  [Type.boolean, "0", false],
  [Type.int, "-2147483648", -2147483648],
  [Type.long, "9223372036854775807", 9223372036854775807n],
  [Type.double, "333.0", 333],
  [Type.double, "1e-07", 1e-7],
  [Type.double, "-inf", -Infinity],
  [Type.float, "0.1", Math.fround(0.1)],
  [Type.date, "1970-01-01", 0],
  [Type.date, "2024-02-29", 19_782],
  [Type.date, "12026-11-24", 3_673_206],
  [Type.date, "0001-01-01 (BC)", -719_528],
  [Type.time, "12:34:56.789", 45_296_789_000n],
  [Type.timestamp, "2026-11-24 14:54:46", 1_795_532_086_000_000n],
  [Type.timestamptz, "2026-11-24 14:54:46.490898+00", 1_795_532_086_490_898n],
  [Type.timestamptz, "2026-11-24 20:24:46.5+05:30", 1_795_532_086_500_000n],
  [Type.timestamptz, "1969-12-31 23:59:59.999999+00", -1n],
  [Type.timestamptz, "0001-01-01 (BC) 00:00:00+00", -719_528n * 86_400_000_000n],
  [Type.decimal(38, 6), "-1234567890123456789.123456", -1234567890123456789123456n],
  [Type.decimal(9, 0), "12", 12n],
  [Type.string, "ünï'x\n", "ünï'x\n"],
  [Type.binary, "6B30", Uint8Array.of(0x6b, 0x30)],
  [Type.binary, "", Uint8Array.of()],
  [Type.uuid, "c68ad75a-8dfa-4537-9b83-f50a1e61d179", Buffer.from("c68ad75a8dfa45379b83f50a1e61d179", "hex")]
]

for (const [type, text, expected] of certain) {
  it(`reads ${type.type} ${JSON.stringify(text)}`, () => {
    const value = parseValue(type, text)
    expect(value instanceof Uint8Array ? Array.from(value) : value).toEqual(
      expected instanceof Uint8Array ? Array.from(expected) : expected
    )
  })
}

const uncertain: ReadonlyArray<readonly [Type.PrimitiveType, string]> = [
  [Type.int, "2147483648"],
  [Type.int, "1.0"],
  [Type.long, "9223372036854775808"],
  [Type.double, "nan"],
  [Type.double, "1e999"],
  [Type.double, ""],
  [Type.date, "2026-02-29"],
  [Type.date, "0000-01-01"],
  [Type.date, "infinity"],
  [Type.timestamptz, "infinity"],
  [Type.timestamptz, "2026-11-24 14:54:46"],
  [Type.timestamp, "2026-11-24 14:54:46+00"],
  [Type.timestamp, "2026-11-24 24:00:00"],
  [Type.timestamp, "2026-11-24 14:54:46.1234567"],
  [Type.decimal(38, 6), "1.5"],
  [Type.decimal(3, 1), "100.0"],
  [Type.string, "cut\ufffd"],
  [Type.binary, "6B3"],
  [Type.binary, "\\x6B"],
  [Type.fixed(2), "6B"],
  [Type.uuid, "c68ad75a8dfa45379b83f50a1e61d179"]
]

for (const [type, text] of uncertain) {
  it(`leaves ${type.type} ${JSON.stringify(text)} out`, () => {
    expect(parseValue(type, text)).toBeUndefined()
  })
}

it("counts days as the calendar does", () => {
  const [min, max] = [new Date("0001-01-01T00:00:00Z"), new Date("9999-12-31T00:00:00Z")]
  const dates = fc.date({ min, max, noInvalidDate: true })
  fc.assert(fc.property(dates, (date) => {
    const text = date.toISOString()
    expect(parseValue(Type.date, text.slice(0, 10))).toBe(Math.floor(date.getTime() / 86_400_000))
    expect(parseValue(Type.timestamp, text.slice(0, -1).replace("T", " "))).toBe(BigInt(date.getTime()) * 1000n)
  }))
})

const stats = (over: Partial<ColumnStats>): ColumnStats => ({
  sizeBytes: 40n,
  valueCount: 5n,
  nullCount: 1n,
  nanCount: undefined,
  min: undefined,
  max: undefined,
  ...over
})

const written = (columns: Record<string, ColumnStats>): WrittenFile => ({
  path: "x",
  rowCount: 5n,
  sizeBytes: 100n,
  columns: new Map(Object.entries(columns))
})

it("gives each column's metrics under its field id", () => {
  const found = metrics(
    Fixture.schema,
    written({
      topic: stats({ min: "a", max: "z".repeat(20) }),
      "headers.element.key": stats({ min: "a", max: "b" }),
      speed: stats({ nanCount: 0n, min: "0.0", max: "0.0" }),
      unknown: stats({})
    })
  )
  expect(Array.from(found.valueCounts.keys())).toEqual([1, 8, 13])
  expect(found.nullValueCounts.get(8)).toBe(1n)
  expect(Array.from(found.nanValueCounts)).toEqual([[13, 0n]])
  expect(decode(Type.string, found.upperBounds.get(1)!)).toBe(`${"z".repeat(15)}{`)
  // A list's values are not the row's: no reader may skip a row by them.
  expect(found.lowerBounds.has(8)).toBe(false)
  expect(Object.is(decode(Type.double, found.lowerBounds.get(13)!), -0)).toBe(true)
  expect(Object.is(decode(Type.double, found.upperBounds.get(13)!), 0)).toBe(true)
})

const modes: ReadonlyArray<readonly [string, Readonly<Record<string, string>>, object]> = [
  ["none of a column", { "write.metadata.metrics.column.topic": "none" }, { count: undefined, upper: undefined }],
  ["counts only", { "write.metadata.metrics.default": "counts" }, { count: 10n, upper: undefined }],
  ["short bounds", { "write.metadata.metrics.default": "truncate(2)" }, { count: 10n, upper: "z{" }],
  ["whole bounds", { "write.metadata.metrics.default": "none", "write.metadata.metrics.column.topic": "full" }, { count: 10n, upper: "z".repeat(20) }],
  ["what is the default, where the mode is unknown", { "write.metadata.metrics.default": "truncate(0)" }, { count: 10n, upper: `${"z".repeat(15)}{` }]
]

for (const [what, properties, expected] of modes) {
  it(`keeps ${what} where the table says so`, () => {
    const topic = { ...stats({ min: "a", max: "z".repeat(20) }), valueCount: 10n }
    const found = metrics(Fixture.schema, written({ topic }), (path) => MetricsMode.of({ properties }, path))
    const upper = found.upperBounds.get(1)
    expect({ count: found.valueCounts.get(1), upper: upper && decode(Type.string, upper) }).toEqual(expected)
  })
}
