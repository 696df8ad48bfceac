/**
 * Encodes record batches of format 2 (https://kafka.apache.org/documentation/#recordbatch), for sending. What {@link KafkaRecordBatch} reads.
 *
 * In two steps: the records, which are compressed and may wait; and the head, which names the producer and is known when the batch is sent.
 */
import { invariant } from "@voltlake/domain/Failure"
import { crc32c } from "./Crc32c.ts"
import type { Header, NewRecord } from "./EventLog.ts"

const magic = 2
/** Up to and with the number of records. */
export const headBytes = 61
/** The checksum is of all that follows it. */
const checkedFrom = 21
/** A record's own numbers, and those of a header, at most: varints of 32 bits take 5 bytes, of 64 bits 10. */
const recordOverhead = 1 + 10 + 5 * 5
const headerOverhead = 2 * 5

/** Records `[from, to)` of a list. */
export interface Span {
  readonly records: ReadonlyArray<NewRecord>
  readonly from: number
  readonly to: number
}

/** The records of a batch, one after the other. */
export interface Body {
  readonly bytes: Buffer
  readonly count: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
}

/** Who sends a batch, by which the broker knows it again. */
export interface Stamp {
  readonly producerId: bigint
  readonly producerEpoch: number
  /** Of the first record; of 31 bits. */
  readonly sequence: number
}

/** Bytes that a record takes in a body, at most. */
export const bytesMax = ({ headers, key, value }: NewRecord): number => {
  let sum = recordOverhead + (key?.length ?? 0) + (value?.length ?? 0)
  // A character takes up to three bytes of UTF-8.
  for (const header of headers) sum += headerOverhead + header.key.length * 3 + (header.value?.length ?? 0)
  return sum
}

/** Below it in size, a zigzag number is one of 31 bits. */
const smallMax = 2 ** 30

/** Lengths and differences as brokers read them: zigzag, seven bits a byte. Of up to 53 bits, for the differences of times. */
const zigzag = (value: number): number => (value >= 0 ? value * 2 : -value * 2 - 1)

const varintBytes = (value: number): number => {
  if (value >= -smallMax && value < smallMax) return Math.trunc((38 - Math.clz32(((value << 1) ^ (value >> 31)) | 1)) / 7)
  let bytes = 1
  for (let rest = zigzag(value); rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes += 1
  return bytes
}

const fieldBytes = (bytes: Uint8Array | null): number => (bytes === null ? 1 : varintBytes(bytes.length) + bytes.length)

const headersBytes = (headers: ReadonlyArray<Header>): number => {
  let sum = varintBytes(headers.length)
  for (const { key, value } of headers) {
    const keyBytes = Buffer.byteLength(key)
    sum += varintBytes(keyBytes) + keyBytes + fieldBytes(value)
  }
  return sum
}

const shortBytes = 24

class Writer {
  at = 0
  constructor(readonly target: Buffer) {}

  varint(value: number): void {
    if (value >= -smallMax && value < smallMax) {
      let rest = (value << 1) ^ (value >> 31)
      for (; rest >= 0x80; rest >>>= 7) this.target[this.at++] = (rest & 0x7f) | 0x80
      this.target[this.at++] = rest
      return
    }
    let rest = zigzag(value)
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.target[this.at++] = (rest % 0x80) | 0x80
    this.target[this.at++] = rest
  }

  field(bytes: Uint8Array | null): void {
    if (bytes === null) return this.varint(-1)
    this.varint(bytes.length)
    // A call costs more than copying few bytes.
    if (bytes.length <= shortBytes) for (let from = 0; from < bytes.length; from++) this.target[this.at + from] = bytes[from]!
    else this.target.set(bytes, this.at)
    this.at += bytes.length
  }

  headers(headers: ReadonlyArray<Header>): void {
    this.varint(headers.length)
    for (const { key, value } of headers) {
      this.varint(Buffer.byteLength(key))
      this.at += this.target.write(key, this.at)
      this.field(value)
    }
  }
}

/** Encodes the records of all spans, at least one, which take `room` bytes at most ({@link bytesMax}). Times are whole milliseconds. */
export const writeBody = (spans: ReadonlyArray<Span>, room: number): Body => {
  const writer = new Writer(Buffer.allocUnsafeSlow(room))
  const baseTimestampMs = spans[0]!.records[spans[0]!.from]!.timestampMs
  let maxTimestampMs = baseTimestampMs
  let count = 0
  // Producers repeat their headers.
  let lastHeaders: ReadonlyArray<Header> | undefined
  let lastHeadersBytes = 0
  for (const { from, records, to } of spans) {
    for (let which = from; which < to; which++, count++) {
      const { headers, key, timestampMs, value } = records[which]!
      invariant(Number.isSafeInteger(timestampMs), "a record's time is a whole number of milliseconds")
      if (timestampMs > maxTimestampMs) maxTimestampMs = timestampMs
      if (headers !== lastHeaders) {
        lastHeaders = headers
        lastHeadersBytes = headersBytes(headers)
      }
      writer.varint(1 + varintBytes(timestampMs - baseTimestampMs) + varintBytes(count) + fieldBytes(key) + fieldBytes(value) + lastHeadersBytes)
      // Attributes, unused.
      writer.target[writer.at++] = 0
      writer.varint(timestampMs - baseTimestampMs)
      writer.varint(count)
      writer.field(key)
      writer.field(value)
      writer.headers(headers)
    }
  }
  return { bytes: writer.target.subarray(0, writer.at), count, baseTimestampMs, maxTimestampMs }
}

/** Writes a batch at `start` of `target`, which has room for it, and answers where it ends. `codec` is that of the body's bytes. */
export const writeBatch = (target: Buffer, start: number, body: Body, codec: number, stamp: Stamp): number => {
  const end = start + headBytes + body.bytes.length
  target.writeBigInt64BE(0n, start)
  target.writeInt32BE(end - start - 12, start + 8)
  // Epoch of the leader: brokers fill it in.
  target.writeInt32BE(-1, start + 12)
  target.writeInt8(magic, start + 16)
  // No transaction, times of creation.
  target.writeInt16BE(codec, start + 21)
  target.writeInt32BE(body.count - 1, start + 23)
  target.writeBigInt64BE(BigInt(body.baseTimestampMs), start + 27)
  target.writeBigInt64BE(BigInt(body.maxTimestampMs), start + 35)
  target.writeBigInt64BE(stamp.producerId, start + 43)
  target.writeInt16BE(stamp.producerEpoch, start + 51)
  target.writeInt32BE(stamp.sequence, start + 53)
  target.writeInt32BE(body.count, start + 57)
  target.set(body.bytes, start + headBytes)
  target.writeUInt32BE(crc32c(target, start + checkedFrom, end), start + 17)
  return end
}
