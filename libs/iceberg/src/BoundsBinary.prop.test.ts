import { expect, it } from "@effect/vitest"
import fc from "fast-check"
import type { SingleValue } from "./SingleValue.ts"
import { decode, encode, truncateLength, truncateLower, truncateUpper } from "./BoundsBinary.ts"
import * as Type from "./Type.ts"

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const finite = { noNaN: true }

const cases: ReadonlyArray<readonly [Type.PrimitiveType, fc.Arbitrary<SingleValue>]> = [
  [Type.boolean, fc.boolean()],
  [Type.int, fc.integer()],
  [Type.date, fc.integer()],
  [Type.long, int64],
  [Type.timestamptz, int64],
  [Type.float, fc.float(finite)],
  [Type.double, fc.double(finite)],
  [Type.string, fc.string({ unit: "binary" })],
  [Type.binary, fc.uint8Array()],
  [Type.uuid, fc.uint8Array({ minLength: 16, maxLength: 16 })],
  [Type.fixed(3), fc.uint8Array({ minLength: 3, maxLength: 3 })],
  [Type.decimal(38, 6), fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n })]
]

for (const [type, values] of cases) {
  it(`reads back every ${type.type} that it writes`, () => {
    fc.assert(fc.property(values, (value) => {
      expect(decode(type, encode(type, value))).toEqual(value)
    }))
  })
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

it("writes the specification's forms", () => {
  expect(hex(encode(Type.long, 1n))).toBe("0100000000000000")
  expect(hex(encode(Type.int, -2))).toBe("feffffff")
  // Big-endian two's complement in as few bytes as hold it.
  expect(hex(encode(Type.decimal(9, 2), 0n))).toBe("00")
  expect(hex(encode(Type.decimal(9, 2), 127n))).toBe("7f")
  expect(hex(encode(Type.decimal(9, 2), 128n))).toBe("0080")
  expect(hex(encode(Type.decimal(9, 2), -128n))).toBe("80")
  expect(hex(encode(Type.decimal(9, 2), -129n))).toBe("ff7f")
})

it("reads bytes of an older, narrower type, and nothing from bytes of another length", () => {
  expect(decode(Type.long, encode(Type.int, -5))).toBe(-5n)
  expect(decode(Type.double, encode(Type.float, 0.5))).toBe(0.5)
  expect(decode(Type.int, encode(Type.long, 5n))).toBeUndefined()
  expect(decode(Type.string, Uint8Array.of(0xff))).toBeUndefined()
})

const compareBytes = (a: SingleValue, b: SingleValue, type: Type.PrimitiveType) =>
  Buffer.compare(encode(type, a), encode(type, b))

const longText = fc.string({ unit: "binary", minLength: 0, maxLength: 40 })
const highText = fc.array(fc.constantFrom("\u{10ffff}", "\ud7ff", "a", "\uffff"), { maxLength: 24 })
  .map((all) => all.join(""))
const highBytes = fc.array(fc.constantFrom(0xff, 0xfe, 0), { maxLength: 24 }).map((all) => Uint8Array.from(all))

for (
  const [type, values] of [
    [Type.string, fc.oneof(longText, highText)],
    [Type.binary, fc.oneof(fc.uint8Array({ maxLength: 40 }), highBytes)]
  ] as ReadonlyArray<readonly [Type.PrimitiveType, fc.Arbitrary<SingleValue>]>
) {
  it(`shortens bounds of ${type.type} to ${truncateLength} without ever crossing the value`, () => {
    fc.assert(fc.property(values, (value) => {
      expect(compareBytes(truncateLower(type, value), value, type)).toBeLessThanOrEqual(0)
      const upper = truncateUpper(type, value)
      if (upper !== undefined) {
        expect(compareBytes(upper, value, type)).toBeGreaterThanOrEqual(0)
        const length = typeof upper === "string" ? Array.from(upper).length : (upper as Uint8Array).length
        expect(length).toBeLessThanOrEqual(truncateLength)
      }
    }), { numRuns: 500 })
  })
}

it("knows no short upper bound of what is the greatest already", () => {
  expect(truncateUpper(Type.string, "\u{10ffff}".repeat(17))).toBeUndefined()
  expect(truncateUpper(Type.binary, new Uint8Array(17).fill(0xff))).toBeUndefined()
  expect(truncateUpper(Type.string, `${"\ud7ff".repeat(16)}x`)).toBe(`${"\ud7ff".repeat(15)}\ue000`)
})
