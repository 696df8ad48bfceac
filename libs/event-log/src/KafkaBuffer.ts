/**
 * What was fetched of one partition and nobody has read yet: a run of offsets without a hole, from where the reader is. A fetch counts only where it
 * began at the buffer's end.
 */
import { invariant } from "@voltlake/domain/Failure"
import type { TopicPartition } from "@voltlake/domain/Position"
import type { EventLogError, ReadLimits, RecordBatch } from "./EventLog.ts"
import { Records } from "./Records.ts"

interface Run {
  readonly end: bigint
  readonly records: Records
  readonly weight: number
}

export class KafkaBuffer {
  /** Fetches begun for it, and the newest of them that is over: by these a read knows that the broker has nothing more. */
  begun = 0
  over = 0
  /** Where the log ended, as of the last fetch. */
  logEnd = 0n
  /** Where the first open transaction began, or the log ended, as of the last fetch. */
  lastStable: bigint | undefined = undefined
  /** The log does not hold the buffer's end. Nothing is fetched until somebody reads elsewhere. */
  isLost = false
  /** Why the last fetch failed, where it did. */
  fault: EventLogError | undefined = undefined
  private runs: Array<Run> = []
  private from: bigint | undefined = undefined
  private until = 0n
  private heldBytes = 0
  private heldRecords = 0

  constructor(private readonly tp: TopicPartition, readonly generation: number) {}

  /** Bytes of memory, about. */
  get bytes(): number {
    return this.heldBytes
  }

  get records(): number {
    return this.heldRecords
  }

  /** Where the next fetch must begin, or undefined where nobody has asked yet. */
  get end(): bigint | undefined {
    return this.from === undefined ? undefined : this.until
  }

  isAt(offset: bigint): boolean {
    return this.from === offset
  }

  get isEmpty(): boolean {
    return this.from === undefined || this.from === this.until
  }

  /** Begins anew at an offset. */
  reset(offset: bigint): void {
    this.runs = []
    this.heldBytes = 0
    this.heldRecords = 0
    this.from = offset
    this.until = offset
    this.lastStable = undefined
    this.isLost = false
  }

  /** Takes what a fetch from the buffer's end gave: the records in `[end, end of the fetch)`. */
  add(end: bigint, records: Records): void {
    invariant(this.from !== undefined && end > this.until, "a fetch is added behind what is held")
    const { weight } = records
    this.runs.push({ end, records, weight })
    this.heldBytes += weight
    this.heldRecords += records.length
    this.until = end
  }

  /** Takes out up to about the limits, one record at least. */
  take(limits: ReadLimits): RecordBatch {
    invariant(this.from !== undefined, "a partition is read from somewhere")
    const start = this.from
    const parts: Array<Records> = []
    const recordsMax = Math.max(limits.recordsMax, 1)
    let count = 0
    let bytes = 0
    while (this.runs.length > 0 && count < recordsMax && (count === 0 || bytes < limits.bytesMax)) {
      const { end, records, weight } = this.runs[0]!
      const wanted = Math.max(records.countOf(limits.bytesMax - bytes), count === 0 ? 1 : 0)
      const taken = Math.min(wanted, recordsMax - count, records.length)
      if (taken === records.length) {
        parts.push(records)
        this.from = end
        this.runs.shift()
        this.heldBytes -= weight
      } else {
        parts.push(records.slice(0, taken))
        // Up to the next record: what lies between holds none.
        this.from = records.offset(taken)
        const rest = records.slice(taken, records.length)
        this.runs[0] = { end, records: rest, weight: rest.weight }
        this.heldBytes += rest.weight - weight
      }
      count += taken
      bytes += parts.at(-1)!.bytes
    }
    this.heldRecords -= count
    return { ...this.tp, start, end: this.from, records: Records.concat(parts) }
  }
}
