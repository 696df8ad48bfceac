import { expect, it } from "@effect/vitest"
import fc from "fast-check"
import type { SingleValue } from "./SingleValue.ts"
import { compare } from "./SingleValue.ts"
import * as Values from "./test/Values.ts"
import * as Transform from "./Transform.ts"
import type { PrimitiveType } from "./Type.ts"
import * as Type from "./Type.ts"

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"))
const micros = (iso: string, more = 0n) => BigInt(Date.parse(iso)) * 1000n + more

/** Specification: Appendix B, "32-bit Hash Requirements". */
const hashes: ReadonlyArray<readonly [PrimitiveType, SingleValue, number]> = [
  [Type.int, 34, 2017239379],
  [Type.long, 34n, 2017239379],
  [Type.decimal(9, 2), 1420n, -500754589],
  [Type.date, Date.parse("2017-11-16") / 86_400_000, -653330422],
  [Type.time, micros("1970-01-01T22:31:08Z"), -662762989],
  [Type.timestamp, micros("2017-11-16T22:31:08Z"), -2047944441],
  [Type.timestamp, micros("2017-11-16T22:31:08Z", 1n), -1207196810],
  [Type.timestamptz, micros("2017-11-16T14:31:08-08:00"), -2047944441],
  [Type.timestamptz, micros("2017-11-16T14:31:08-08:00", 1n), -1207196810],
  [Type.string, "iceberg", 1210000089],
  [Type.uuid, bytes("f79c3e09677c4bbda4793f349cb785e7"), 1488055340],
  [Type.fixed(4), bytes("00010203"), -188683207],
  [Type.binary, bytes("00010203"), -188683207]
]

for (const [type, value, hash] of hashes) {
  it(`puts the specification's ${type.type} ${String(value)} into its bucket`, () => {
    for (const buckets of [16, 100, 2 ** 31 - 1]) {
      expect(Transform.apply(Transform.bucket(buckets), type, value)).toBe((hash & 0x7fff_ffff) % buckets)
    }
  })
}

const given: ReadonlyArray<readonly [Transform.Transform, PrimitiveType, SingleValue, SingleValue | null]> = [
  [Transform.truncate(10), Type.int, 1, 0],
  [Transform.truncate(10), Type.int, -1, -10],
  [Transform.truncate(10), Type.long, 1n, 0n],
  [Transform.truncate(10), Type.long, -1n, -10n],
  [Transform.truncate(10), Type.long, -10n, -10n],
  [Transform.truncate(50), Type.decimal(9, 2), 1065n, 1050n],
  [Transform.truncate(50), Type.decimal(9, 2), -1n, -50n],
  [Transform.truncate(3), Type.string, "iceberg", "ice"],
  [Transform.truncate(2), Type.string, "a\u{1F600}b", "a\u{1F600}"],
  [Transform.truncate(3), Type.binary, bytes("0102030405"), bytes("010203")],
  [Transform.year, Type.date, -1, -1],
  [Transform.year, Type.date, Date.parse("2017-11-16") / 86_400_000, 47],
  [Transform.month, Type.date, -1, -1],
  [Transform.month, Type.date, Date.parse("2017-11-16") / 86_400_000, 574],
  [Transform.day, Type.date, -5, -5],
  [Transform.year, Type.timestamp, micros("1969-12-31T23:59:59Z"), -1],
  [Transform.month, Type.timestamptz, micros("1970-02-01T00:00:00Z"), 1],
  [Transform.day, Type.timestamp, -1n, -1],
  [Transform.day, Type.timestamp, micros("2017-12-01T10:00:00Z"), 17501],
  [Transform.hour, Type.timestamptz, micros("2017-12-01T10:59:59Z"), 420034],
  [Transform.hour, Type.timestamp, -1n, -1],
  // Beyond what Date holds.
  [Transform.year, Type.timestamp, 2n ** 63n - 1n, 292_277],
  [Transform.identity, Type.string, "x", "x"],
  [Transform.alwaysNull, Type.string, "x", null]
]

for (const [transform, type, value, expected] of given) {
  it(`${Transform.toText(transform)} makes ${String(expected)} of the ${type.type} ${String(value)}`, () => {
    expect(Transform.apply(transform, type, value)).toEqual(expected)
  })
}

const transforms: ReadonlyArray<Transform.Transform> = [
  Transform.identity,
  Transform.year,
  Transform.month,
  Transform.day,
  Transform.hour,
  Transform.alwaysNull,
  Transform.bucket(16),
  Transform.truncate(10)
]

it("keeps text and makes null of null", () => {
  for (const transform of [...transforms, Transform.fromText("zorder[4]"), Transform.fromText("bucket[0]")]) {
    expect(Transform.fromText(Transform.toText(transform))).toEqual(transform)
  }
  expect(Transform.fromText("bucket[0]")).toEqual({ type: "unknown", text: "bucket[0]" })
  for (const transform of transforms) expect(Transform.apply(transform, Type.int, null)).toBeNull()
})

it("accepts the types that the specification lists", () => {
  const accepted = (transform: Transform.Transform) =>
    Values.types.filter((type) => Transform.accepts(transform, type)).map(({ type }) => type).join(" ")
  expect(accepted(Transform.bucket(2))).toBe("int long date time timestamp timestamptz string uuid binary decimal fixed")
  expect(accepted(Transform.truncate(2))).toBe("int long string binary decimal")
  expect(accepted(Transform.year)).toBe("date timestamp timestamptz")
  expect(accepted(Transform.hour)).toBe("timestamp timestamptz")
})

/** Pruning by partitions rests on it: a greater value is never in a lesser partition. */
it("keeps the order of values, but for buckets", () => {
  for (const type of Values.types) {
    for (const transform of transforms) {
      if (transform.type === "bucket" || !Transform.accepts(transform, type)) continue
      fc.assert(fc.property(Values.ofType(type), Values.ofType(type), (a, b) => {
        const [low, high] = compare(a, b) <= 0 ? [a, b] : [b, a]
        const [first, second] = [Transform.apply(transform, type, low), Transform.apply(transform, type, high)]
        if (first !== null && second !== null) expect(compare(first, second)).toBeLessThanOrEqual(0)
      }), { numRuns: 50 })
    }
  }
})

it("truncates to at most the value, less than a width away, and once", () => {
  const numbers = Values.types.filter((type) => Transform.accepts(Transform.truncate(1), type))
  for (const type of numbers) {
    fc.assert(fc.property(Values.ofType(type), fc.integer({ min: 1, max: 1000 }), (value, width) => {
      const cut = Transform.apply(Transform.truncate(width), type, value)!
      expect(compare(cut, value)).toBeLessThanOrEqual(0)
      expect(Transform.apply(Transform.truncate(width), type, cut)).toEqual(cut)
      if (typeof value === "bigint") expect(value - (cut as bigint)).toBeLessThan(BigInt(width))
    }))
  }
})

it("keeps buckets where a column is widened", () => {
  fc.assert(fc.property(Values.int32, (value) => {
    const bucket = Transform.bucket(16)
    expect(Transform.apply(bucket, Type.int, value)).toBe(Transform.apply(bucket, Type.long, BigInt(value)))
  }))
})
