/**
 * Decodes what a broker answers to a fetch: record batches of format 2 (https://kafka.apache.org/documentation/#recordbatch), into columns, without an
 * object for each record.
 *
 * Aborted transactions and control records are left out, as for Kafka's own consumers that read committed records. Bytes of keys and values stay where
 * they came in.
 */
import { Either } from "effect"
import { lookup } from "./KafkaCodecs.ts"
import type { Header } from "./EventLog.ts"
import { type Chunk, emptyChunk, Records } from "./Records.ts"

const magic = 2
/** Up to and with the number of records. */
const headBytes = 61
const codecMask = 0x07
const logAppendTime = 0x08
const transactional = 0x10
const control = 0x20
const abortMarker = 0

export interface AbortedTransaction {
  readonly producerId: bigint
  readonly firstOffset: bigint
}

/** Records at offsets in `[from, end)`; all offsets of it that hold none are known to. */
export interface Decoded {
  readonly end: bigint
  readonly records: Records
}

/** Reads the numbers of a record: zigzag varints. */
class Cursor {
  at: number
  constructor(readonly bytes: Buffer, start: number) {
    this.at = start
  }

  /** Of up to 53 bits; more of it are no numbers that occur (lengths, and differences of times in ms). */
  varint(): number {
    let byte = this.bytes[this.at++]!
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let low = byte & 0x7f
    let scale = 0x80
    do {
      byte = this.bytes[this.at++]!
      low += (byte & 0x7f) * scale
      scale *= 0x80
    } while (byte >= 0x80 && scale < 2 ** 63)
    return low % 2 === 0 ? low / 2 : -(low + 1) / 2
  }
}

const readHeaders = (cursor: Cursor, count: number): ReadonlyArray<Header> => {
  const headers: Array<Header> = []
  for (let left = count; left > 0; left--) {
    const keyLength = cursor.varint()
    const key = cursor.bytes.toString("utf8", cursor.at, cursor.at + keyLength)
    cursor.at += keyLength
    const valueLength = cursor.varint()
    headers.push({ key, value: valueLength < 0 ? null : new Uint8Array(cursor.bytes.subarray(cursor.at, cursor.at + valueLength)) })
    cursor.at += Math.max(valueLength, 0)
  }
  return headers
}

interface BatchHead {
  readonly baseOffset: bigint
  readonly lastOffset: bigint
  readonly attributes: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
  readonly producerId: bigint
  readonly count: number
}

const readHead = (bytes: Buffer, at: number): BatchHead => {
  const baseOffset = bytes.readBigInt64BE(at)
  return {
    baseOffset,
    attributes: bytes.readInt16BE(at + 21),
    lastOffset: baseOffset + BigInt(bytes.readInt32BE(at + 23)),
    baseTimestampMs: Number(bytes.readBigInt64BE(at + 27)),
    maxTimestampMs: Number(bytes.readBigInt64BE(at + 35)),
    producerId: bytes.readBigInt64BE(at + 43),
    count: bytes.readInt32BE(at + 57)
  }
}

/** The records of one batch from offset `from` on. `bytes` from `start` on are those of the records, decompressed. */
const readRecords = (bytes: Buffer, start: number, head: BatchHead, from: bigint): Chunk => {
  const chunk = emptyChunk(head.count, bytes)
  const { keyLengths, keyStarts, offsets, timestampsMs, valueLengths, valueStarts } = chunk
  const isAppendTime = (head.attributes & logAppendTime) !== 0
  const skipTo = Number(from - head.baseOffset)
  const cursor = new Cursor(bytes, start)
  let headers: Array<ReadonlyArray<Header>> | undefined
  let length = 0
  // Producers repeat their headers: equal ones in a row become one value, which is cheaper to carry on.
  let lastHeaders: ReadonlyArray<Header> = []
  let lastHeaderBytes = bytes.subarray(0, 0)
  for (let which = 0; which < head.count; which++) {
    const size = cursor.varint()
    const past = cursor.at + size
    // One byte of attributes, unused.
    cursor.at += 1
    const timestampDelta = cursor.varint()
    const offsetDelta = cursor.varint()
    const keyLength = cursor.varint()
    const keyStart = cursor.at
    cursor.at += Math.max(keyLength, 0)
    const valueLength = cursor.varint()
    const valueStart = cursor.at
    cursor.at += Math.max(valueLength, 0)
    if (offsetDelta >= skipTo) {
      offsets[length] = head.baseOffset + BigInt(offsetDelta)
      timestampsMs[length] = isAppendTime ? head.maxTimestampMs : head.baseTimestampMs + timestampDelta
      keyStarts[length] = keyStart
      keyLengths[length] = keyLength
      valueStarts[length] = valueStart
      valueLengths[length] = valueLength
      const headersAt = cursor.at
      const headerCount = cursor.varint()
      if (headerCount > 0) {
        const own = bytes.subarray(headersAt, past)
        if (!own.equals(lastHeaderBytes)) {
          lastHeaderBytes = own
          lastHeaders = readHeaders(cursor, headerCount)
        }
        headers ??= []
        // Records before it had none.
        while (headers.length < length) headers.push([])
        headers.push(lastHeaders)
      } else headers?.push([])
      length += 1
    }
    cursor.at = past
  }
  return { ...chunk, length, headers }
}

/**
 * Decodes the batches of one partition's answer to a fetch from `from`. Undefined where there is not even one whole batch, which says that nothing new
 * is there. The aborted transactions are those that the answer names. Stops after about `bytesMax` bytes: few that came may be many decompressed.
 */
export const decode = async (
  bytes: Buffer,
  from: bigint,
  aborted: ReadonlyArray<AbortedTransaction>,
  bytesMax: number
): Promise<Either.Either<Decoded | undefined, string>> => {
  const chunks: Array<Chunk> = []
  const waiting = [...aborted].sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1))
  const open = new Set<bigint>()
  let end = from
  let held = 0
  for (let at = 0; at + headBytes <= bytes.length && held < bytesMax;) {
    const past = at + 12 + bytes.readInt32BE(at + 8)
    if (past < at + headBytes) return Either.left(`a batch at offset ${bytes.readBigInt64BE(at)} has a length that no batch has`)
    // The last batch may be cut off.
    if (past > bytes.length) break
    const found = bytes[at + 16]!
    if (found !== magic) return Either.left(`a batch at offset ${bytes.readBigInt64BE(at)} has format ${found}; formats before 2 (Kafka 0.11) are not read`)
    const head = readHead(bytes, at)
    const start = at + headBytes
    at = past
    if (head.lastOffset < from) continue
    end = head.lastOffset + 1n
    while (waiting.length > 0 && waiting[0]!.firstOffset <= head.lastOffset) open.add(waiting.shift()!.producerId)
    const codec = lookup(head.attributes & codecMask)
    if (codec === undefined) return Either.left(`a batch at offset ${head.baseOffset} is compressed by unknown codec ${head.attributes & codecMask}`)
    if ((head.attributes & control) !== 0) {
      const marker = readRecords(bytes, start, head, head.baseOffset)
      // Its key: version and kind, two bytes each.
      if (marker.length > 0 && bytes.readInt16BE(marker.keyStarts[0]! + 2) === abortMarker) open.delete(head.producerId)
      continue
    }
    if ((head.attributes & transactional) !== 0 && open.has(head.producerId)) continue
    if (head.count === 0) continue
    const plain = codec === "none" ? bytes : await codec(bytes.subarray(start, past))
    held += codec === "none" ? past - start : plain.length
    const chunk = readRecords(plain, codec === "none" ? start : 0, head, from)
    if (chunk.length > 0) chunks.push(chunk)
  }
  return Either.right(end === from ? undefined : { end, records: new Records(chunks) })
}
