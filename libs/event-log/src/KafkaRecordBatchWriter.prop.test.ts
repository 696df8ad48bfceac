import { describe, expect, it } from "@effect/vitest"
import { Either } from "effect"
import fc from "fast-check"
import { crc32c } from "./Crc32c.ts"
import type { NewRecord } from "./EventLog.ts"
import { codecs } from "./KafkaCodecs.ts"
import { decode } from "./KafkaRecordBatch.ts"
import { bytesMax, headBytes, writeBatch, writeBody } from "./KafkaRecordBatchWriter.ts"

/** Also such lengths whose numbers take another byte. */
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 80 }),
  fc.constantFrom(0, 24, 25, 63, 64, 8191, 8192, 70_000).map((length) => new Uint8Array(length).fill(length & 0xff))
)
const text = fc.oneof(fc.string({ unit: "binary", maxLength: 20 }), fc.constantFrom("", "ключ", "x".repeat(200)))
const headers = fc.array(fc.record({ key: text, value: fc.option(bytes) }), { maxLength: 3 })
const time = fc.oneof(fc.integer({ min: 1_767_225_600_000, max: 1_767_225_700_000 }), fc.integer({ min: 0, max: 8_640_000_000_000_000 / 2 }))
const record: fc.Arbitrary<NewRecord> = fc.record({ timestampMs: time, key: fc.option(bytes), value: fc.option(bytes), headers })

const plain = (one: NewRecord) => ({
  timestampMs: one.timestampMs,
  key: one.key === null ? null : Buffer.from(one.key).toString("hex"),
  value: one.value === null ? null : Buffer.from(one.value).toString("hex"),
  headers: one.headers.map(({ key, value }) => [key, value === null ? null : Buffer.from(value).toString("hex")])
})

const stamp = { producerId: 2n ** 62n, producerEpoch: 7, sequence: 2 ** 31 - 1 }

describe("KafkaRecordBatchWriter", () => {
  it.each(Object.entries(codecs))("writes what is read back, with %s", (_, codec) =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.array(record, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 3 }), fc.nat(5), async (lists, before) => {
        // Each of them a part of a longer list.
        const spans = lists.map((list) => ({ records: [list[0]!, ...list, list[0]!], from: 1, to: 1 + list.length }))
        const given = lists.flat()
        const room = given.reduce((sum, one) => sum + bytesMax(one), 0)
        const raw = writeBody(spans, room)
        expect(raw.bytes.length).toBeLessThanOrEqual(room)
        const body = { ...raw, bytes: await codec.compress(raw.bytes) }
        const target = Buffer.alloc(before + headBytes + body.bytes.length)
        expect(writeBatch(target, before, body, codec.number, stamp)).toBe(target.length)
        const batch = target.subarray(before)
        const found = Either.getOrThrow(await decode(batch, 0n, [], 1e9))!
        expect(found.end).toBe(BigInt(given.length))
        expect([...found.records].map(plain)).toEqual(given.map(plain))
        expect(batch.readUInt32BE(17)).toBe(crc32c(batch.subarray(21)))
        expect(batch.readBigInt64BE(35)).toBe(BigInt(Math.max(...given.map(({ timestampMs }) => timestampMs))))
        expect([batch.readBigInt64BE(43), batch.readInt16BE(51), batch.readInt32BE(53)]).toEqual(Object.values(stamp))
      }),
      { numRuns: 60 }
    ))

  it("refuses a time that no batch can hold", () => {
    const records = [{ timestampMs: 0.5, key: null, value: null, headers: [] }]
    expect(() => writeBody([{ records, from: 0, to: 1 }], 100)).toThrow("whole number")
  })
})
