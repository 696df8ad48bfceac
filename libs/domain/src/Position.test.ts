import { Either } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Position from "./Position.ts"
import * as Progress from "./Progress.ts"

const at = (entries: Record<string, number>): Position.Position =>
  new Map(Object.entries(entries).map(([key, offset]) => [key, BigInt(offset)]))

describe("Position", () => {
  it("round-trips through JSON with offsets beyond 2^53", () => {
    const position = new Map([["telemetry_raw-0", 9_007_199_254_740_993n], ["a-b-12", 0n]])
    expect(Either.getOrThrow(Position.decode(Position.encode(position)))).toEqual(position)
  })

  it("says what is wrong with damaged JSON", () => {
    expect(Either.isLeft(Position.decode("{\"a-0\": 5}"))).toBe(true)
    expect(Either.isLeft(Position.decode("nothing"))).toBe(true)
  })

  it("splits a key at its last dash", () => {
    expect(Position.parseKey("eu-west-telemetry-7")).toEqual({ topic: "eu-west-telemetry", partition: 7 })
  })

  it("counts lag over the partitions of the end, never below zero", () => {
    expect(Position.lag(at({ "t-0": 5, "t-1": 50 }), at({ "t-0": 7, "t-1": 10, "t-2": 3 }))).toBe(5n)
  })

  it("plans ranges that lie within what is new, start at the position and leave no partition waiting", () => {
    const offsets = fc.dictionary(fc.constantFrom("t-0", "t-1", "t-2", "u-0"), fc.nat(1000))
    fc.assert(fc.property(offsets, offsets, fc.integer({ min: 8, max: 3000 }), (from, to, rowsMax) => {
      const ranges = Position.planRanges(at(from), at(to), rowsMax)
      const open = Object.entries(to).filter(([key, end]) => end > (from[key] ?? 0))
      expect(ranges.map(Position.key).sort()).toEqual(open.map(([key]) => key).sort())
      let rows = 0n
      for (const range of ranges) {
        expect(range.start).toBe(BigInt(from[Position.key(range)] ?? 0))
        expect(range.end).toBeGreaterThan(range.start)
        expect(range.end).toBeLessThanOrEqual(BigInt(to[Position.key(range)] ?? 0))
        rows += range.end - range.start
      }
      const all = open.reduce((sum, [key, end]) => sum + end - (from[key] ?? 0), 0)
      expect(rows).toBeLessThanOrEqual(BigInt(rowsMax))
      if (all <= rowsMax) expect(rows).toBe(BigInt(all))
      else expect(rows).toBe(BigInt(rowsMax))
    }))
  })
})

const range = (change: Partial<Progress.RangeCounts>): Progress.RangeCounts => ({
  topic: "t",
  partition: 0,
  start: 0n,
  end: 10n,
  rows: 10n,
  skipped: 0n,
  lost: 0n,
  rejected: 0n,
  duplicates: 0n,
  ...change
})

describe("Progress", () => {
  const first = Either.getOrThrow(Progress.advance(Progress.empty, [range({})]))

  const table: ReadonlyArray<readonly [string, Partial<Progress.RangeCounts>, string]> = [
    ["goes on where the last range ended", { start: 10n, end: 12n, rows: 2n }, "Right"],
    ["takes a range of skipped offsets alone", { start: 10n, end: 12n, rows: 0n, skipped: 2n }, "Right"],
    ["takes another partition wherever it starts", { partition: 1, start: 7n, end: 8n, rows: 1n }, "Right"],
    ["counts rejected and duplicates as accounted for", { start: 10n, end: 15n, rows: 1n, rejected: 2n, duplicates: 2n }, "Right"],
    ["refuses a gap", { start: 11n, end: 12n, rows: 1n }, "OffsetGap"],
    ["refuses an overlap", { start: 9n, end: 12n, rows: 3n }, "OffsetOverlap"],
    ["refuses rows that went missing", { start: 10n, end: 12n, rows: 1n }, "EquationBreach"],
    ["refuses rows too many", { start: 10n, end: 12n, rows: 3n }, "EquationBreach"],
    ["refuses a negative count that balances", { start: 10n, end: 12n, rows: 3n, skipped: -1n }, "EquationBreach"]
  ]
  it.each(table)("%s", (_, change, expected) => {
    const result = Progress.advance(first, [range(change)])
    expect(Either.isRight(result) ? "Right" : result.left._tag).toBe(expected)
  })

  it("accumulates and round-trips through JSON", () => {
    const second = Either.getOrThrow(
      Progress.advance(first, [range({ start: 10n, end: 20n, rows: 4n, skipped: 1n, lost: 1n, rejected: 2n, duplicates: 2n })])
    )
    expect(Progress.position(second)).toEqual(at({ "t-0": 20 }))
    expect(Progress.total(second, "rows")).toBe(14n)
    expect(Progress.total(second, "duplicates")).toBe(2n)
    expect(Either.getOrThrow(Progress.decode(Progress.encode(second)))).toEqual(second)
  })

  it("finds a breach in decoded counters", () => {
    const damaged = Either.getOrThrow(
      Progress.decode("{\"t-0\":{\"start\":\"0\",\"position\":\"5\",\"rows\":\"4\",\"skipped\":\"0\",\"lost\":\"0\",\"rejected\":\"0\",\"duplicates\":\"0\"}}")
    )
    expect(Either.isLeft(Progress.check(damaged))).toBe(true)
  })
})
