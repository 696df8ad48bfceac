/**
 * Many records in few objects: where their bytes lie in the buffer they came in, and their numbers, in typed arrays. Records wait in memory by the ten
 * thousands, and a collector that must look at an object for each of them, its key and its value, costs more than reading them.
 */
import type { Header, LogRecord } from "./EventLog.ts"

const noHeaders: ReadonlyArray<Header> = []

/** Records of one buffer. Arrays are as long as the chunk has records, and more; only the first `length` count. */
export interface Chunk {
  readonly length: number
  readonly buffer: Uint8Array
  readonly offsets: BigInt64Array
  readonly timestampsMs: Float64Array
  /** Ascending, as `valueStarts`: records lie one behind the other, each with its key before its value. */
  readonly keyStarts: Int32Array
  /** -1 for null. */
  readonly keyLengths: Int32Array
  readonly valueStarts: Int32Array
  readonly valueLengths: Int32Array
  /** By record; undefined where none of them has any. */
  readonly headers: ReadonlyArray<ReadonlyArray<Header>> | undefined
}

/** Arrays for up to `count` records. */
export const emptyChunk = (count: number, buffer: Uint8Array) => ({
  length: 0,
  buffer,
  offsets: new BigInt64Array(count),
  timestampsMs: new Float64Array(count),
  keyStarts: new Int32Array(count),
  keyLengths: new Int32Array(count),
  valueStarts: new Int32Array(count),
  valueLengths: new Int32Array(count),
  headers: undefined as Array<ReadonlyArray<Header>> | undefined
})

const chunkOf = (list: ReadonlyArray<LogRecord>): Chunk => {
  const bytes = list.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0)
  const chunk = emptyChunk(list.length, new Uint8Array(bytes))
  let end = 0
  const put = (given: Uint8Array | null, starts: Int32Array, lengths: Int32Array, at: number) => {
    starts[at] = end
    lengths[at] = given?.length ?? -1
    if (given !== null) chunk.buffer.set(given, end)
    end += given?.length ?? 0
  }
  list.forEach(({ key, offset, timestampMs, value }, at) => {
    chunk.offsets[at] = offset
    chunk.timestampsMs[at] = timestampMs
    put(key, chunk.keyStarts, chunk.keyLengths, at)
    put(value, chunk.valueStarts, chunk.valueLengths, at)
  })
  const hasHeaders = list.some(({ headers }) => headers.length > 0)
  return { ...chunk, length: list.length, headers: hasHeaders ? list.map(({ headers }) => headers) : undefined }
}

const sliceOf = (chunk: Chunk, from: number, to: number): Chunk => ({
  length: to - from,
  buffer: chunk.buffer,
  offsets: chunk.offsets.subarray(from, to),
  timestampsMs: chunk.timestampsMs.subarray(from, to),
  keyStarts: chunk.keyStarts.subarray(from, to),
  keyLengths: chunk.keyLengths.subarray(from, to),
  valueStarts: chunk.valueStarts.subarray(from, to),
  valueLengths: chunk.valueLengths.subarray(from, to),
  headers: chunk.headers?.slice(from, to)
})

/** Where a record's value ends. */
const endOf = ({ valueLengths, valueStarts }: Chunk, at: number): number => valueStarts[at]! + Math.max(valueLengths[at]!, 0)

/** Bytes from a record's key on, up to the end of the last one's value before `to`. */
const bytesOf = (chunk: Chunk, from: number, to: number): number => (from < to ? endOf(chunk, to - 1) - chunk.keyStarts[from]! : 0)

/** A record's place in the columns, and its headers, beside their bytes. */
const overheadBytes = 64

const weightOf = (chunk: Chunk): number => bytesOf(chunk, 0, chunk.length) + chunk.length * overheadBytes * (chunk.headers === undefined ? 1 : 2)

const field = (buffer: Uint8Array, start: number, length: number): Uint8Array | null =>
  length < 0 ? null : buffer.subarray(start, start + length)

export class Records implements Iterable<LogRecord> {
  readonly length: number
  private readonly starts: ReadonlyArray<number>
  /** The chunk that was asked last: most ask for one record after the other. */
  private last = 0

  constructor(readonly chunks: ReadonlyArray<Chunk>) {
    const starts: Array<number> = []
    let length = 0
    for (const chunk of chunks) {
      starts.push(length)
      length += chunk.length
    }
    this.starts = starts
    this.length = length
  }

  static readonly empty = new Records([])

  static from(list: ReadonlyArray<LogRecord>): Records {
    return list.length === 0 ? Records.empty : new Records([chunkOf(list)])
  }

  static concat(parts: ReadonlyArray<Records>): Records {
    return new Records(parts.flatMap((part) => part.chunks))
  }

  /** Makes `last` the chunk of a record, and answers the record's place in it. */
  private find(at: number): number {
    if (at < this.starts[this.last]!) this.last = 0
    while (this.last + 1 < this.starts.length && this.starts[this.last + 1]! <= at) this.last++
    return at - this.starts[this.last]!
  }

  offset(at: number): bigint {
    const within = this.find(at)
    return this.chunks[this.last]!.offsets[within]!
  }

  timestampMs(at: number): number {
    const within = this.find(at)
    return this.chunks[this.last]!.timestampsMs[within]!
  }

  key(at: number): Uint8Array | null {
    const within = this.find(at)
    const { buffer, keyLengths, keyStarts } = this.chunks[this.last]!
    return field(buffer, keyStarts[within]!, keyLengths[within]!)
  }

  value(at: number): Uint8Array | null {
    const within = this.find(at)
    const { buffer, valueLengths, valueStarts } = this.chunks[this.last]!
    return field(buffer, valueStarts[within]!, valueLengths[within]!)
  }

  get hasHeaders(): boolean {
    return this.chunks.some(({ headers }) => headers !== undefined)
  }

  headersOf(at: number): ReadonlyArray<Header> {
    const within = this.find(at)
    return this.chunks[this.last]!.headers?.[within] ?? noHeaders
  }

  /** Bytes of keys and values, and of what lies between them. */
  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + bytesOf(chunk, 0, chunk.length), 0)
  }

  /** Bytes of memory, about. */
  get weight(): number {
    return this.chunks.reduce((sum, chunk) => sum + weightOf(chunk), 0)
  }

  /** How many records from the first on have `bytes` bytes together; all of them where they have fewer. */
  countOf(bytes: number): number {
    let left = bytes
    for (let which = 0; which < this.chunks.length; which++) {
      const chunk = this.chunks[which]!
      const whole = bytesOf(chunk, 0, chunk.length)
      if (whole < left) {
        left -= whole
        continue
      }
      // The least number that has them.
      let [low, high] = [0, chunk.length]
      while (low < high) {
        const middle = (low + high) >>> 1
        if (bytesOf(chunk, 0, middle) < left) low = middle + 1
        else high = middle
      }
      return this.starts[which]! + low
    }
    return this.length
  }

  /** The records `[from, to)`, which share this one's bytes. */
  slice(from: number, to: number): Records {
    return new Records(this.chunks.flatMap((chunk, which) => {
      const start = this.starts[which]!
      const [first, past] = [Math.max(from - start, 0), Math.min(to - start, chunk.length)]
      return first < past ? [sliceOf(chunk, first, past)] : []
    }))
  }

  /** One of them; a number below 0 counts from the end. */
  at(index: number): LogRecord | undefined {
    const at = index < 0 ? this.length + index : index
    if (at < 0 || at >= this.length) return undefined
    return { offset: this.offset(at), timestampMs: this.timestampMs(at), key: this.key(at), value: this.value(at), headers: this.headersOf(at) }
  }

  *[Symbol.iterator](): Iterator<LogRecord> {
    for (let at = 0; at < this.length; at++) yield this.at(at)!
  }
}
