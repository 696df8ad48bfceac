import { describe, expect, it } from "@effect/vitest"
import fc from "fast-check"
import { KafkaBuffer } from "./KafkaBuffer.ts"
import { Records } from "./Records.ts"

/** Records of the given sizes at offsets that leave some out, as compaction does. */
const recordsOf = (from: number, sizes: ReadonlyArray<number>) =>
  Records.from(sizes.map((size, at) => ({
    offset: BigInt(from + 2 * at),
    timestampMs: 0,
    key: size % 3 === 0 ? null : Buffer.from("key"),
    value: size % 5 === 0 ? null : Buffer.alloc(size),
    headers: size % 7 === 0 ? [{ key: "a", value: null }] : []
  })))

const sizeOf = (records: Records) => [...records].reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0)

describe("KafkaBuffer", () => {
  it("gives what it took in, in order and without a hole, in parts as large as asked for", () => {
    const sizes = fc.array(fc.nat(300), { maxLength: 20 })
    const limits = fc.record({ recordsMax: fc.nat(15), bytesMax: fc.nat(2_000) })
    fc.assert(fc.property(fc.array(fc.array(sizes, { maxLength: 3 }), { minLength: 1, maxLength: 5 }), limits, (runs, limit) => {
      const buffer = new KafkaBuffer({ topic: "t", partition: 0 }, 1)
      buffer.reset(0n)
      let end = 0
      const added: Array<Records> = []
      for (const run of runs) {
        const parts = run.map((list) => {
          const made = recordsOf(end, list)
          end += 2 * list.length
          return made
        })
        end += 1
        added.push(Records.concat(parts))
        buffer.add(BigInt(end), added.at(-1)!)
      }
      expect(buffer.bytes).toBe(added.reduce((sum, { weight }) => sum + weight, 0))
      const offsets: Array<bigint> = []
      for (let at = 0n; !buffer.isEmpty;) {
        const { end: next, records, start } = buffer.take(limit)
        expect(start).toBe(at)
        at = next
        offsets.push(...[...records].map(({ offset }) => offset))
        // One at least; and up to the record that has the bytes.
        expect(records.length).toBeLessThanOrEqual(Math.max(limit.recordsMax, 1))
        if (records.length > 1) expect(sizeOf(records.slice(0, records.length - 1))).toBeLessThan(limit.bytesMax)
        if (!buffer.isEmpty && records.length < limit.recordsMax) expect(sizeOf(records)).toBeGreaterThanOrEqual(limit.bytesMax)
        if (!buffer.isEmpty) expect(records.length).toBeGreaterThan(0)
      }
      expect(offsets).toEqual([...Records.concat(added)].map(({ offset }) => offset))
      expect([buffer.bytes, buffer.records]).toEqual([0, 0])
    }))
  })
})
