import { describe, expect, it } from "@effect/vitest"
import { Either } from "effect"
import { decode } from "./KafkaRecordBatch.ts"

interface Given {
  readonly offset: number
  readonly timestamp?: number
  readonly key?: string | null
  readonly value?: string | null
  readonly headers?: ReadonlyArray<readonly [string, string | null]>
}

const varint = (value: number): Buffer => {
  let rest = BigInt(value) >= 0n ? BigInt(value) * 2n : -BigInt(value) * 2n - 1n
  const bytes: Array<number> = []
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  return Buffer.from([...bytes, Number(rest)])
}
const field = (text: string | null): Buffer =>
  text === null ? varint(-1) : Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)])

interface BatchOptions {
  readonly attributes?: number
  readonly producerId?: bigint
  readonly lastDelta?: number
  readonly magic?: number
  readonly maxTimestamp?: number
}

/** A batch as the specification lays it out, by hand: what the brokers of the tests would not send. */
const batch = (base: number, given: ReadonlyArray<Given>, options: BatchOptions = {}): Buffer => {
  const records = given.map(({ headers = [], key = null, offset, timestamp = 1000, value = null }) => {
    const body = Buffer.concat([
      Buffer.from([0]), varint(timestamp - 1000), varint(offset - base), field(key), field(value), varint(headers.length),
      ...headers.flatMap(([name, text]) => [field(name), field(text)])
    ])
    return Buffer.concat([varint(body.length), body])
  })
  const head = Buffer.alloc(61)
  head.writeBigInt64BE(BigInt(base), 0)
  head.writeInt8(options.magic ?? 2, 16)
  head.writeInt16BE(options.attributes ?? 0, 21)
  head.writeInt32BE(options.lastDelta ?? (given.at(-1)?.offset ?? base) - base, 23)
  head.writeBigInt64BE(1000n, 27)
  head.writeBigInt64BE(BigInt(options.maxTimestamp ?? 2000), 35)
  head.writeBigInt64BE(options.producerId ?? -1n, 43)
  head.writeInt32BE(given.length, 57)
  const whole = Buffer.concat([head, ...records])
  whole.writeInt32BE(whole.length - 12, 8)
  return whole
}

const control = (base: number, kind: 0 | 1, producerId: bigint) => {
  const made = batch(base, [{ offset: base, key: "....", value: "" }], { attributes: 0x20 | 0x10, producerId })
  const at = made.indexOf("....")
  made.writeInt16BE(0, at)
  made.writeInt16BE(kind, at + 2)
  return made
}

const read = async (bytes: Buffer, from: bigint, aborted: Parameters<typeof decode>[2] = [], bytesMax = 1e9) => {
  const decoded = Either.getOrThrow(await decode(bytes, from, aborted, bytesMax))
  const values = [...(decoded?.records ?? [])].map(({ offset, value }) => [Number(offset), `${Buffer.from(value ?? "null")}`])
  return decoded === undefined ? undefined : { end: decoded.end, values }
}

describe("KafkaRecordBatch", () => {
  it("reads every field, of numbers of every length", async () => {
    const headers = [["a", "1"], ["", null], ["ключ", ""]] as const
    const bytes = batch(5_000_000_000, [
      { offset: 5_000_000_000, timestamp: 1000, key: "k", value: "v".repeat(200), headers },
      { offset: 5_000_000_001, timestamp: 0, key: "", value: null, headers },
      { offset: 5_000_100_000, timestamp: 4_102_444_800_123, key: null, value: "" }
    ])
    const { end, records } = Either.getOrThrow(await decode(bytes, 0n, [], 1e9))!
    expect(end).toBe(5_000_100_001n)
    const plain = (one: Uint8Array | null) => (one === null ? null : Buffer.from(one).toString())
    const found = [...records].map((one) => ({
      ...one,
      key: plain(one.key),
      value: plain(one.value),
      headers: one.headers.map(({ key, value }) => [key, plain(value)])
    }))
    expect(found).toEqual([
        { offset: 5_000_000_000n, timestampMs: 1000, key: "k", value: "v".repeat(200), headers },
        { offset: 5_000_000_001n, timestampMs: 0, key: "", value: null, headers },
        { offset: 5_000_100_000n, timestampMs: 4_102_444_800_123, key: null, value: "", headers: [] }
    ])
    // Equal headers in a row are one.
    expect(records.headersOf(0)).toBe(records.headersOf(1))
  })

  it("gives headers to those records alone that have them", async () => {
    const bytes = batch(0, [{ offset: 0 }, { offset: 1, headers: [["a", "1"]] }, { offset: 2 }])
    const { records } = Either.getOrThrow(await decode(bytes, 0n, [], 1e9))!
    expect([...records].map(({ headers }) => headers.length)).toEqual([0, 1, 0])
  })

  it("takes the time of appending where the topic has it", async () => {
    const { records } = Either.getOrThrow(await decode(batch(0, [{ offset: 0, timestamp: 1 }], { attributes: 0x08, maxTimestamp: 77 }), 0n, [], 1e9))!
    expect(records.timestampMs(0)).toBe(77)
  })

  it("begins in the middle of a batch, and passes over what compaction removed", async () => {
    const compacted = batch(10, [{ offset: 11, value: "b" }, { offset: 14, value: "e" }], { lastDelta: 9 })
    expect(await read(compacted, 10n)).toEqual({ end: 20n, values: [[11, "b"], [14, "e"]] })
    expect(await read(compacted, 12n)).toEqual({ end: 20n, values: [[14, "e"]] })
    expect(await read(compacted, 15n)).toEqual({ end: 20n, values: [] })
    // A batch of which nothing is left is kept for its producer's numbers.
    expect(await read(batch(20, [], { lastDelta: 3 }), 20n)).toEqual({ end: 24n, values: [] })
    expect(await read(batch(0, [{ offset: 0 }]), 5n)).toBeUndefined()
  })

  it("leaves aborted transactions and their markers out, those of other producers in between not", async () => {
    const bytes = Buffer.concat([
      batch(0, [{ offset: 0, value: "a1" }], { attributes: 0x10, producerId: 1n }),
      batch(1, [{ offset: 1, value: "b1" }], { attributes: 0x10, producerId: 2n }),
      control(2, 0, 1n),
      batch(3, [{ offset: 3, value: "a2" }], { attributes: 0x10, producerId: 1n }),
      control(4, 1, 2n),
      batch(5, [{ offset: 5, value: "plain" }], { producerId: 1n }),
      control(6, 1, 1n)
    ])
    expect(await read(bytes, 0n, [{ producerId: 1n, firstOffset: 0n }])).toEqual({ end: 7n, values: [[1, "b1"], [3, "a2"], [5, "plain"]] })
    // Aborted twice.
    const twice = [{ producerId: 1n, firstOffset: 3n }, { producerId: 1n, firstOffset: 0n }]
    expect(await read(bytes, 0n, twice)).toEqual({ end: 7n, values: [[1, "b1"], [5, "plain"]] })
  })

  it("leaves a batch that is cut off to the next fetch", async () => {
    const [first, second] = [batch(0, [{ offset: 0, value: "a" }]), batch(1, [{ offset: 1, value: "b" }])]
    for (const length of [0, 1, 60, second.length - 1]) {
      expect(await read(Buffer.concat([first, second.subarray(0, length)]), 0n)).toEqual({ end: 1n, values: [[0, "a"]] })
    }
    expect(await read(second.subarray(0, 30), 1n)).toBeUndefined()
  })

  it("stops where it holds enough", async () => {
    const bytes = Buffer.concat([0, 1, 2].map((offset) => batch(offset, [{ offset, value: "x".repeat(100) }])))
    expect((await read(bytes, 0n, [], 150))?.end).toBe(2n)
  })

  it("says what it cannot read", async () => {
    expect(await decode(batch(7, [{ offset: 7 }], { magic: 1 }), 0n, [], 1e9)).toEqual(Either.left(expect.stringContaining("a batch at offset 7 has format 1")))
    expect(await decode(batch(7, [{ offset: 7 }], { attributes: 6 }), 0n, [], 1e9)).toEqual(Either.left(expect.stringContaining("unknown codec 6")))
  })
})
