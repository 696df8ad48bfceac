/**
 * The bytes of a segment: consecutive records of one partition.
 *
 * ```
 * 0   u8   format, 1
 * 1   u8×3 zero
 * 4   u32  CRC-32 of everything from byte 8 on
 * 8   u32  number of records
 * 12  per record, 20 bytes: f64 timestamp in ms; i32 key length, i32 value length (-1: null); u32 length of the headers
 *     then per record: key, value, headers
 * ```
 * Headers: u16 count, then per header u16 length and UTF-8 bytes of its key, i32 length (-1: null) and bytes of its
 * value. All numbers are little-endian. The lengths stand together so that a reader finds a record in the middle
 * without touching those before it.
 */
import { Either } from "effect"
import { crc32 } from "node:zlib"
import { invariant } from "@voltlake/domain/Failure"
import type { Header, LogRecord, NewRecord } from "./EventLog.ts"

const format = 1
const headBytes = 12
const indexBytes = 20
const checkedFrom = 8

const headerCountMax = 0xffff
const headerKeyBytesMax = 0xffff
const noHeaders: ReadonlyArray<Header> = []

const headersSize = (headers: ReadonlyArray<Header>): number => {
  if (headers.length === 0) return 0
  let size = 2
  for (const header of headers) size += 2 + Buffer.byteLength(header.key) + 4 + (header.value?.length ?? 0)
  return size
}

/** Bytes that a record takes in a segment. */
export const recordSize = (record: NewRecord): number =>
  indexBytes + (record.key?.length ?? 0) + (record.value?.length ?? 0) + headersSize(record.headers)

/** Bytes of a segment whose records take `recordBytes` together. */
export const segmentSize = (recordBytes: number): number => headBytes + recordBytes

const writeHeaders = (target: Buffer, view: DataView, start: number, headers: ReadonlyArray<Header>): number => {
  invariant(headers.length <= headerCountMax, `a record has more than ${headerCountMax} headers`)
  view.setUint16(start, headers.length, true)
  let at = start + 2
  for (const { key, value } of headers) {
    const keyBytes = target.write(key, at + 2)
    invariant(keyBytes <= headerKeyBytesMax, `a header's key is longer than ${headerKeyBytesMax} bytes`)
    view.setUint16(at, keyBytes, true)
    at += 2 + keyBytes
    view.setInt32(at, value === null ? -1 : value.length, true)
    at += 4
    if (value !== null) {
      target.set(value, at)
      at += value.length
    }
  }
  return at - start
}

/**
 * Writes the records `[from, to)` as a segment at `start` of `target`, which has room for it, and answers where the
 * segment ends.
 */
export const write = (
  target: Buffer,
  start: number,
  records: ReadonlyArray<NewRecord>,
  from: number,
  to: number
): number => {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength)
  view.setUint32(start, format, true)
  view.setUint32(start + 8, to - from, true)
  let index = start + headBytes
  let at = index + (to - from) * indexBytes
  for (let which = from; which < to; which++) {
    const { headers, key, timestampMs, value } = records[which]!
    view.setFloat64(index, timestampMs, true)
    view.setInt32(index + 8, key === null ? -1 : key.length, true)
    view.setInt32(index + 12, value === null ? -1 : value.length, true)
    if (key !== null) {
      target.set(key, at)
      at += key.length
    }
    if (value !== null) {
      target.set(value, at)
      at += value.length
    }
    const headersLength = headers.length === 0 ? 0 : writeHeaders(target, view, at, headers)
    view.setUint32(index + 16, headersLength, true)
    at += headersLength
    index += indexBytes
  }
  view.setUint32(start + 4, crc32(target.subarray(start + checkedFrom, at)), true)
  return at
}

const readHeaders = (bytes: Uint8Array, view: DataView, start: number): ReadonlyArray<Header> => {
  const headers: Array<Header> = []
  let at = start + 2
  for (let left = view.getUint16(start, true); left > 0; left--) {
    const keyLength = view.getUint16(at, true)
    const key = Buffer.from(bytes.buffer, bytes.byteOffset + at + 2, keyLength).toString("utf8")
    at += 2 + keyLength
    const valueLength = view.getInt32(at, true)
    at += 4
    headers.push({ key, value: valueLength < 0 ? null : bytes.subarray(at, at + valueLength) })
    at += Math.max(valueLength, 0)
  }
  return headers
}

const check = (bytes: Uint8Array, view: DataView, count: number): string | undefined => {
  if (bytes.length < headBytes) return `it has ${bytes.length} bytes only`
  if (view.getUint32(0, true) !== format) return `its format is ${view.getUint32(0, true)}, not ${format}`
  if (view.getUint32(4, true) !== crc32(bytes.subarray(checkedFrom))) return "its checksum does not match its bytes"
  const found = view.getUint32(8, true)
  return found === count ? undefined : `it holds ${found} records, not ${count}`
}

/** What is wrong with a segment's bytes. */
export interface Damage {
  readonly reason: string
}

/**
 * Adds the records at `[from, to)` of a segment to `into`; keys and values are views on `bytes`, so they keep all of it
 * in memory. `base` is the offset of the segment's first record, `count` how many it should hold.
 */
export const read = (
  bytes: Uint8Array,
  base: bigint,
  count: number,
  from: number,
  to: number,
  into: Array<LogRecord>
): Either.Either<void, Damage> => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const reason = check(bytes, view, count)
  if (reason !== undefined) return Either.left({ reason })
  let index = headBytes
  let at = headBytes + count * indexBytes
  // Producers repeat their headers: equal ones in a row become one value, which is cheaper to make and to carry on.
  let headersBytes = bytes.subarray(0, 0)
  let headers = noHeaders
  for (let which = 0; which < to; which++, index += indexBytes) {
    const keyLength = view.getInt32(index + 8, true)
    const valueLength = view.getInt32(index + 12, true)
    const headersLength = view.getUint32(index + 16, true)
    const valueAt = at + (keyLength < 0 ? 0 : keyLength)
    const headersAt = valueAt + (valueLength < 0 ? 0 : valueLength)
    if (which >= from) {
      const own = bytes.subarray(headersAt, headersAt + headersLength)
      if (Buffer.compare(own, headersBytes) !== 0) {
        headersBytes = own
        headers = headersLength === 0 ? noHeaders : readHeaders(bytes, view, headersAt)
      }
      into.push({
        timestampMs: view.getFloat64(index, true),
        key: keyLength < 0 ? null : new Uint8Array(bytes.buffer, bytes.byteOffset + at, keyLength),
        value: valueLength < 0 ? null : new Uint8Array(bytes.buffer, bytes.byteOffset + valueAt, valueLength),
        headers,
        offset: base + BigInt(which)
      })
    }
    at = headersAt + headersLength
  }
  return Either.void
}
