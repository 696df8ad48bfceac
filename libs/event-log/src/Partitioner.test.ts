import { describe, expect, it } from "@effect/vitest"
import { murmur2, partitionOf } from "./Partitioner.ts"

const bytes = (text: string) => new TextEncoder().encode(text)

describe("Partitioner", () => {
  // From Kafka's own UtilsTest.testMurmur2.
  it.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107]
  ])("hashes %j as Kafka does", (key, hash) => {
    expect(murmur2(bytes(key))).toBe(hash)
  })

  it("answers partitions of the topic only, also for negative hashes and empty keys", () => {
    for (const key of ["", "21", "foobar", "a-little-bit-long-string"]) {
      for (const partitions of [1, 3, 12, 1000]) {
        const partition = partitionOf(bytes(key), partitions)
        expect(partition).toBeGreaterThanOrEqual(0)
        expect(partition).toBeLessThan(partitions)
      }
    }
    expect(partitionOf(bytes("21"), 10)).toBe((-973932308 & 0x7fffffff) % 10)
  })
})
