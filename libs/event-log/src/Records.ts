/**
 * Many records in few objects: their bytes back to back in one buffer, their numbers in typed arrays. Records wait in memory by the ten thousands, and
 * a collector that must look at an object for each of them, its key and its value, costs more than reading them.
 */
import type { Header, LogRecord } from "./EventLog.ts"

const noHeaders: ReadonlyArray<Header> = []

/** Where records come from, by their number from 0 on. Each is asked twice for its key and value. */
export interface Source {
  readonly count: number
  readonly offset: (at: number) => bigint
  readonly timestampMs: (at: number) => number
  readonly key: (at: number) => Uint8Array | null
  readonly value: (at: number) => Uint8Array | null
  readonly headers: (at: number) => ReadonlyArray<Header>
}

export class Records implements Iterable<LogRecord> {
  /** Fields lie key, value, key, value …: field n is `[ends[n], ends[n + 1])` of the bytes. */
  private constructor(
    readonly length: number,
    private readonly offsets: BigInt64Array,
    private readonly timestamps: Float64Array,
    private readonly buffer: Uint8Array,
    private readonly ends: Uint32Array,
    private readonly nulls: Uint8Array,
    /** Undefined where none of them has any. */
    private readonly headers: ReadonlyArray<ReadonlyArray<Header>> | undefined
  ) {}

  static readonly empty = Records.of({ count: 0, offset: () => 0n, timestampMs: () => 0, key: () => null, value: () => null, headers: () => noHeaders })

  static of({ count, headers, key, offset, timestampMs, value }: Source): Records {
    let bytes = 0
    for (let at = 0; at < count; at++) bytes += (key(at)?.length ?? 0) + (value(at)?.length ?? 0)
    const offsets = new BigInt64Array(count)
    const timestamps = new Float64Array(count)
    const ends = new Uint32Array(2 * count + 1)
    const nulls = new Uint8Array(2 * count)
    // Not from the pool, of which a small piece would keep all.
    const buffer = new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer)
    const heads: Array<ReadonlyArray<Header>> = []
    let hasHeaders = false
    let end = 0
    const put = (field: number, given: Uint8Array | null) => {
      if (given === null) nulls[field] = 1
      else {
        buffer.set(given, end)
        end += given.length
      }
      ends[field + 1] = end
    }
    for (let at = 0; at < count; at++) {
      offsets[at] = offset(at)
      timestamps[at] = timestampMs(at)
      put(2 * at, key(at))
      put(2 * at + 1, value(at))
      const own = headers(at)
      if (own.length > 0) hasHeaders = true
      heads.push(own)
    }
    return new Records(count, offsets, timestamps, buffer, ends, nulls, hasHeaders ? heads : undefined)
  }

  static from(list: ReadonlyArray<LogRecord>): Records {
    return Records.of({
      count: list.length,
      offset: (at) => list[at]!.offset,
      timestampMs: (at) => list[at]!.timestampMs,
      key: (at) => list[at]!.key,
      value: (at) => list[at]!.value,
      headers: (at) => list[at]!.headers
    })
  }

  static concat(parts: ReadonlyArray<Records>): Records {
    if (parts.length === 1) return parts[0]!
    const starts: Array<number> = []
    let count = 0
    for (const part of parts) {
      starts.push(count)
      count += part.length
    }
    let which = 0
    const find = (at: number) => {
      if (at < starts[which]!) which = 0
      while (which + 1 < starts.length && starts[which + 1]! <= at) which++
      return at - starts[which]!
    }
    const of = <A>(get: (part: Records, at: number) => A) => (at: number) => {
      const within = find(at)
      return get(parts[which]!, within)
    }
    return Records.of({
      count,
      offset: of((part, at) => part.offset(at)),
      timestampMs: of((part, at) => part.timestampMs(at)),
      key: of((part, at) => part.key(at)),
      value: of((part, at) => part.value(at)),
      headers: of((part, at) => part.headersOf(at))
    })
  }

  offset(at: number): bigint {
    return this.offsets[at]!
  }

  timestampMs(at: number): number {
    return this.timestamps[at]!
  }

  private field(field: number): Uint8Array | null {
    return this.nulls[field] === 1 ? null : this.buffer.subarray(this.ends[field]!, this.ends[field + 1]!)
  }

  key(at: number): Uint8Array | null {
    return this.field(2 * at)
  }

  value(at: number): Uint8Array | null {
    return this.field(2 * at + 1)
  }

  get hasHeaders(): boolean {
    return this.headers !== undefined
  }

  headersOf(at: number): ReadonlyArray<Header> {
    return this.headers?.[at] ?? noHeaders
  }

  /** Bytes of keys and values, of all or of the records up to `count`. */
  bytes(count = this.length): number {
    return this.ends[2 * count]! - this.ends[0]!
  }

  /** The records `[from, to)`, which share this one's bytes. */
  slice(from: number, to: number): Records {
    return new Records(
      to - from,
      this.offsets.subarray(from, to),
      this.timestamps.subarray(from, to),
      this.buffer,
      this.ends.subarray(2 * from, 2 * to + 1),
      this.nulls.subarray(2 * from, 2 * to),
      this.headers?.slice(from, to)
    )
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
