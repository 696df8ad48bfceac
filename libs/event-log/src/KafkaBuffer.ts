/**
 * What a Kafka consumer has fetched of one partition and nobody has read yet: a run of offsets without a hole, from where the reader is.
 *
 * kafkajs moves by itself: to the group's offset after a rebalance, to the log's first offset where the wanted one is gone. So nothing is taken that
 * was not asked for: a fetch counts only where it began at the buffer's end.
 */
import { invariant } from "@voltlake/domain/Failure"
import type { TopicPartition } from "@voltlake/domain/Position"
import type { ReadLimits, RecordBatch } from "./EventLog.ts"
import { Records } from "./Records.ts"

interface Run {
  readonly end: bigint
  readonly records: Records
  /** Nothing proves yet that the log holds no records here: it may have dropped them. */
  readonly isDoubtful: boolean
}

export class KafkaBuffer {
  private runs: Array<Run> = []
  private from: bigint | undefined = undefined
  private until = 0n
  private heldBytes = 0

  constructor(private readonly tp: TopicPartition, readonly generation: number) {}

  get bytes(): number {
    return this.heldBytes
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
    this.from = offset
    this.until = offset
  }

  /** Takes what a fetch from the buffer's end gave: the records in `[end, end of the fetch)`. */
  add(end: bigint, records: Records, isDoubtful: boolean): void {
    invariant(this.from !== undefined && end > this.until, "a fetch is added behind what is held")
    this.runs.push({ end, records, isDoubtful })
    this.heldBytes += records.bytes()
    this.until = end
  }

  /** Whether a run from the buffer's start on is doubtful, up to the first that is not. */
  get isDoubtful(): boolean {
    return this.runs[0]?.isDoubtful ?? false
  }

  /** The doubt is gone: the log has dropped nothing of it. */
  confirm(): void {
    const [first, ...others] = this.runs
    if (first !== undefined) this.runs = [{ ...first, isDoubtful: false }, ...others]
  }

  /** Takes out up to about the limits (one record at least). Stops before a doubtful run. */
  take(limits: ReadLimits): RecordBatch {
    invariant(this.from !== undefined, "a partition is read from somewhere")
    const start = this.from
    const parts: Array<Records> = []
    let room = Math.max(limits.recordsMax, 1)
    let bytes = 0
    while (this.runs.length > 0 && !this.runs[0]!.isDoubtful && room > 0 && (bytes === 0 || bytes < limits.bytesMax)) {
      const { end, isDoubtful, records } = this.runs[0]!
      let count = Math.min(records.length, room)
      while (count > 1 && bytes + records.bytes(count - 1) >= limits.bytesMax) count = count - 1
      room -= count
      bytes += records.bytes(count)
      if (count === records.length) {
        parts.push(records)
        this.from = end
        this.runs.shift()
      } else {
        parts.push(records.slice(0, count))
        // Up to the next record: what lies between holds none.
        this.from = records.offset(count)
        this.runs[0] = { end, isDoubtful, records: records.slice(count, records.length) }
        break
      }
    }
    this.heldBytes -= bytes
    return { ...this.tp, start, end: this.from, records: Records.concat(parts) }
  }
}
