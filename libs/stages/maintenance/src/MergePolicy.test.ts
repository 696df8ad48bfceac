import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import { merges, type MergeLimits } from "./MergePolicy.ts"

const limits: MergeLimits = { targetBytes: 1000, filesMin: 4, filesMax: 50 }
const file = (sizeBytes: number, hasDeletes = false) => ({ sizeBytes, hasDeletes })
const sizes = (groups: ReadonlyArray<ReadonlyArray<{ readonly sizeBytes: number }>>) => groups.map((group) => group.map((one) => one.sizeBytes))

describe("merges", () => {
  it("leaves a class alone until it has enough files", () => {
    expect(merges([file(10), file(10), file(10)], false, limits)).toEqual([])
    expect(sizes(merges([file(20), file(30), file(40), file(50)], false, limits))).toEqual([[20, 30, 40, 50]])
  })

  it("merges like with like", () => {
    expect(sizes(merges([file(10), file(600), file(10), file(10), file(10), file(600)], false, limits))).toEqual([[10, 10, 10, 10]])
  })

  it("lets files near the target be, however many", () => {
    expect(merges(Array.from({ length: 20 }, () => file(800)), false, limits)).toEqual([])
    expect(merges(Array.from({ length: 20 }, () => file(800)), true, limits)).toEqual([])
  })

  it("merges all of a partition at rest that is not done, up to the target size", () => {
    expect(sizes(merges([file(10), file(900), file(300), file(500), file(400)], true, limits))).toEqual([[10, 300, 500]])
  })

  it("writes a file anew whose rows others deleted, even alone and done", () => {
    expect(sizes(merges([file(900, true), file(10), file(10)], false, limits))).toEqual([[900]])
    expect(sizes(merges([file(10, true)], false, limits))).toEqual([[10]])
  })

  it("takes each file once, keeps their order and its limits", () => {
    fc.assert(fc.property(fc.array(fc.record({ sizeBytes: fc.nat(2000), hasDeletes: fc.boolean() }), { maxLength: 200 }), fc.boolean(), (files, atRest) => {
      const groups = merges(files, atRest, limits)
      const taken = groups.flat()
      expect(new Set(taken).size).toBe(taken.length)
      for (const group of groups) {
        const places = group.map((one) => files.indexOf(one))
        expect(places).toEqual([...places].sort((a, b) => a - b))
        expect(group.length).toBeLessThanOrEqual(limits.filesMax)
        if (group.length > 1) expect(group.reduce((sum, one) => sum + one.sizeBytes, 0)).toBeLessThanOrEqual(limits.targetBytes)
      }
    }))
  })

  it("keeps a partition that grows by small files small, and writes each row a few times", () => {
    let files: Array<{ sizeBytes: number; hasDeletes: boolean }> = []
    let written = 0
    let most = 0
    const big: MergeLimits = { targetBytes: 128_000, filesMin: 16, filesMax: 500 }
    for (let commit = 0; commit < 10_000; commit++) {
      files.push(file(20))
      if (commit % 60 !== 0) continue
      for (const group of merges(files, false, big)) {
        const total = group.reduce((sum, one) => sum + one.sizeBytes, 0)
        written += total
        files = [file(total), ...files.filter((one) => !group.includes(one))]
      }
      most = Math.max(most, files.length)
    }
    expect(most).toBeLessThan(150)
    expect(written / (10_000 * 20)).toBeLessThan(5)
  })
})
