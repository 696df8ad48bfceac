/**
 * What a Kafka consumer has fetched of one partition and nobody has read yet: a run of offsets without a hole, from where the reader is.
 *
 * kafkajs moves by itself: to the group's offset after a rebalance, to the log's first offset where the wanted one is gone. So nothing is taken that
 * was not asked for: a fetch counts only where it began at the buffer's end.
 */
import { invariant } from "@voltlake/domain/Failure"
import type { OffsetRange, TopicPartition } from "@voltlake/domain/Position"
import type { LogRecord, ReadLimits, RecordBatch } from "./EventLog.ts"

interface Run {
  readonly start: bigint
  readonly end: bigint
  readonly records: ReadonlyArray<LogRecord>
  readonly bytes: number
  /** Nothing proves yet that the log holds no records here: it may have dropped them. */
  readonly isDoubtful: boolean
}

const sizeOf = (record: LogRecord): number => (record.key?.length ?? 0) + (record.value?.length ?? 0)

export class KafkaBuffer {
  private runs: Array<Run> = []
  /** Records of the first run that were read already. */
  private taken = 0
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
    this.taken = 0
    this.heldBytes = 0
    this.from = offset
    this.until = offset
  }

  /** Takes what a fetch from the buffer's end gave: the records in `[end, end of the fetch)`. */
  add(end: bigint, records: ReadonlyArray<LogRecord>, isDoubtful: boolean): void {
    invariant(this.from !== undefined && end > this.until, "a fetch is added behind what is held")
    let bytes = 0
    for (const record of records) bytes += sizeOf(record)
    this.runs.push({ start: this.until, end, records, bytes, isDoubtful })
    this.heldBytes += bytes
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

  /** Takes out up to about the limits (one record at least), in whole runs where they fit. Stops before a doubtful run. */
  take(limits: ReadLimits): RecordBatch {
    invariant(this.from !== undefined, "a partition is read from somewhere")
    const start = this.from
    const records: Array<LogRecord> = []
    const recordsMax = Math.max(limits.recordsMax, 1)
    let bytes = 0
    while (this.runs.length > 0 && !this.runs[0]!.isDoubtful && records.length < recordsMax && (records.length === 0 || bytes < limits.bytesMax)) {
      const run = this.runs[0]!
      let at = this.taken
      while (at < run.records.length && records.length < recordsMax && (records.length === 0 || bytes < limits.bytesMax)) {
        const record = run.records[at]!
        bytes += sizeOf(record)
        records.push(record)
        at++
      }
      if (at < run.records.length) {
        this.taken = at
        // Up to the next record: what lies between holds none.
        this.from = run.records[at]!.offset
        break
      }
      this.taken = 0
      this.from = run.end
      this.runs.shift()
    }
    this.heldBytes -= bytes
    const range: OffsetRange = { ...this.tp, start, end: this.from }
    return { ...range, records }
  }
}
