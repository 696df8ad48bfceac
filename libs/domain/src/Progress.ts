/**
 * Progress: the cumulative counters of a table, kept in the summary of each of its snapshots beside the data they count.
 *
 * For every topic-partition, since the table began:
 * - `position - start = rows + rejected + duplicates + skipped + lost`
 *
 * In bronze `rejected` and `duplicates` are 0; in silver `rows` counts `telemetry_clean`, `rejected` counts `telemetry_rejected`,
 * and `skipped` counts the offsets in which bronze holds no row (its own skipped and lost ones).
 * {@link advance} is the rule that makes a table exactly once: a range is accepted only where the last one ended.
 */
import { Either, Schema } from "effect"
import type { OffsetRange, Position } from "./Position.ts"
import { key, parseKey } from "./Position.ts"

const Count = Schema.BigInt

export class PartitionProgress extends Schema.Class<PartitionProgress>("PartitionProgress")({
  /** First offset that this table ever covered. */
  start: Count,
  /** Next offset to read. */
  position: Count,
  rows: Count,
  /** Offsets that hold no record: transaction markers, compacted ones. */
  skipped: Count,
  /** Offsets that the log dropped before we read them. */
  lost: Count,
  rejected: Count,
  duplicates: Count
}) {}

/** By `Position.key`. */
export type Progress = ReadonlyMap<string, PartitionProgress>

export const empty: Progress = new Map()

/** What one commit adds for one partition: the offsets `[start, end)` and what became of each. */
export interface RangeCounts extends OffsetRange {
  readonly rows: bigint
  readonly skipped: bigint
  readonly lost: bigint
  readonly rejected: bigint
  readonly duplicates: bigint
}

/** The range starts after the table's position: offsets between would never be read. */
export class OffsetGap extends Schema.TaggedError<OffsetGap>()("OffsetGap", {
  topic: Schema.String,
  partition: Schema.Number,
  position: Schema.BigIntFromSelf,
  start: Schema.BigIntFromSelf
}) {
  override get message() {
    return `range of ${this.topic}-${this.partition} starts at ${this.start}, but the table is at ${this.position}: offsets between would be lost`
  }
}

/** The range starts before the table's position: somebody else committed these offsets. */
export class OffsetOverlap extends Schema.TaggedError<OffsetOverlap>()("OffsetOverlap", {
  topic: Schema.String,
  partition: Schema.Number,
  position: Schema.BigIntFromSelf,
  start: Schema.BigIntFromSelf
}) {
  override get message() {
    return `range of ${this.topic}-${this.partition} starts at ${this.start}, but the table is already at ${this.position}: another process committed it`
  }
}

/** The counts of a range do not add up to its length. A bug or damaged data: the stage stops before it commits. */
export class EquationBreach extends Schema.TaggedError<EquationBreach>()("EquationBreach", {
  subject: Schema.String,
  equation: Schema.String,
  expected: Schema.BigIntFromSelf,
  actual: Schema.BigIntFromSelf
}) {
  override get message() {
    return `${this.subject}: ${this.equation} does not hold, expected ${this.expected}, got ${this.actual}`
  }
}

export type AdvanceError = OffsetGap | OffsetOverlap | EquationBreach

const totals = ["rows", "skipped", "lost", "rejected", "duplicates"] as const
export type Total = (typeof totals)[number]

const accountedFor = (c: {
  readonly rows: bigint
  readonly skipped: bigint
  readonly lost: bigint
  readonly rejected: bigint
  readonly duplicates: bigint
}): bigint => c.rows + c.skipped + c.lost + c.rejected + c.duplicates

/** Adds one commit's ranges, or says why they may not be committed. A partition met for the first time begins at its range's start. */
export const advance = (progress: Progress, ranges: Iterable<RangeCounts>): Either.Either<Progress, AdvanceError> => {
  const out = new Map(progress)
  for (const range of ranges) {
    const k = key(range)
    const known = out.get(k)
    const at = known?.position ?? range.start
    const place = { topic: range.topic, partition: range.partition, position: at, start: range.start }
    if (range.start > at) return Either.left(new OffsetGap(place))
    if (range.start < at) return Either.left(new OffsetOverlap(place))
    const sum = accountedFor(range)
    const length = range.end - range.start
    if (length < 0n || sum !== length || range.rows < 0n || range.skipped < 0n || range.lost < 0n ||
      range.rejected < 0n || range.duplicates < 0n) {
      return Either.left(
        new EquationBreach({
          subject: `range ${k} [${range.start}, ${range.end})`,
          equation: "rows + skipped + lost + rejected + duplicates = end - start",
          expected: length,
          actual: sum
        })
      )
    }
    out.set(k, new PartitionProgress({
      start: known?.start ?? range.start,
      position: range.end,
      rows: (known?.rows ?? 0n) + range.rows,
      skipped: (known?.skipped ?? 0n) + range.skipped,
      lost: (known?.lost ?? 0n) + range.lost,
      rejected: (known?.rejected ?? 0n) + range.rejected,
      duplicates: (known?.duplicates ?? 0n) + range.duplicates
    }))
  }
  return check(out)
}

/** The equation above, for every partition. */
export const check = (progress: Progress): Either.Either<Progress, EquationBreach> => {
  for (const [k, p] of progress) {
    const sum = accountedFor(p)
    const negative = totals.find((counter) => p[counter] < 0n)
    if (negative !== undefined) {
      return Either.left(new EquationBreach({ subject: k, equation: `${negative} >= 0`, expected: 0n, actual: p[negative] }))
    }
    if (p.position - p.start !== sum) {
      return Either.left(
        new EquationBreach({
          subject: k,
          equation: "rows + skipped + lost + rejected + duplicates = position - start",
          expected: p.position - p.start,
          actual: sum
        })
      )
    }
  }
  return Either.right(progress)
}

/** The offsets that it has covered, a range for each partition. */
export const covered = (progress: Progress): ReadonlyArray<OffsetRange> =>
  Array.from(progress, ([k, { position: end, start }]) => ({ ...parseKey(k), start, end }))

export const position = (progress: Progress): Position => new Map(Array.from(progress, ([k, p]) => [k, p.position]))


export const total = (progress: Progress, counter: Total): bigint => {
  let sum = 0n
  for (const p of progress.values()) sum += p[counter]
  return sum
}

const ProgressRecord = Schema.parseJson(Schema.Record({ key: Schema.String, value: PartitionProgress }))

/** JSON form by `Position.key`, counters as strings. */
export const encode = (progress: Progress): string => Schema.encodeSync(ProgressRecord)(Object.fromEntries(progress))

export const decode = (text: string): Either.Either<Progress, Error> =>
  Either.mapBoth(Schema.decodeEither(ProgressRecord)(text), {
    onLeft: (error) => new Error(error.message),
    onRight: (record) => new Map(Object.entries(record))
  })

/** Where a reader of `upstream` goes on: at its own position, or where upstream began for a partition that it meets for the first time. */
export const resume = (progress: Progress, upstream: Progress): Position =>
  new Map(Array.from(upstream, ([k, p]) => [k, progress.get(k)?.position ?? p.start]))
