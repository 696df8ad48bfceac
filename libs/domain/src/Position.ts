/**
 * Position: where reading continues, per topic-partition. The only progress coordinate of the system.
 *
 * An offset in a position is exclusive: the next offset to read. A partition without an entry starts at the log's first offset.
 * Values are immutable; every function returns a new one.
 */
import { Either, Order, Schema } from "effect"

/** One partition of one topic. `topic` may carry an incarnation (`telemetry_raw~2`), which is part of its identity. */
export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/** Offsets `[start, end)` of one partition. */
export interface OffsetRange extends TopicPartition {
  readonly start: bigint
  readonly end: bigint
}

/** Next offset to read by {@link key}. */
export type Position = ReadonlyMap<string, bigint>

export const empty: Position = new Map()

/** `topic-partition`, as Kafka's own tools write it. Unambiguous, since the last `-` ends the topic. */
export const key = (tp: TopicPartition): string => `${tp.topic}-${tp.partition}`

export const parseKey = (k: string): TopicPartition => {
  const dash = k.lastIndexOf("-")
  return { topic: k.slice(0, dash), partition: Number(k.slice(dash + 1)) }
}

const orderTopicPartition: Order.Order<TopicPartition> = Order.make((a, b) =>
  a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition < b.partition ? -1 : a.partition > b.partition ? 1 : 0
)

export const make = (entries: Iterable<readonly [TopicPartition, bigint]>): Position =>
  new Map(Array.from(entries, ([tp, offset]) => [key(tp), offset]))

export const get = (position: Position, tp: TopicPartition): bigint | undefined => position.get(key(tp))

/** Every partition of either, at the greater of its two offsets. */
export const max = (a: Position, b: Position): Position => {
  const out = new Map(a)
  for (const [k, offset] of b) {
    const known = out.get(k)
    if (known === undefined || known < offset) out.set(k, offset)
  }
  return out
}

/** Whether `position` has reached `target` in every partition that `target` names. */
export const reached = (position: Position, target: Position): boolean => {
  for (const [k, offset] of target) if ((position.get(k) ?? 0n) < offset) return false
  return true
}

export const equals = (a: Position, b: Position): boolean => reached(a, b) && reached(b, a)

/** Offsets between `position` and `end`, summed over the partitions of `end`; never negative. */
export const lag = (position: Position, end: Position): bigint => {
  let sum = 0n
  for (const [k, offset] of end) {
    const at = position.get(k) ?? 0n
    if (offset > at) sum += offset - at
  }
  return sum
}

/**
 * What to read next: from `from` towards `to`, at most about `rowsMax` offsets, shared out so that a small
 * partition never waits for a large one. Empty where nothing is new.
 */
export const planRanges = (from: Position, to: Position, rowsMax: number): ReadonlyArray<OffsetRange> => {
  const open = Array.from(to, ([k, end]) => ({ ...parseKey(k), start: from.get(k) ?? 0n, end }))
    .filter((range) => range.end > range.start)
    .sort((a, b) => (a.end - a.start < b.end - b.start ? -1 : 1))
  let left = BigInt(rowsMax)
  const planned = open.map((range, index) => {
    const share = left / BigInt(open.length - index)
    const size = range.end - range.start < share ? range.end - range.start : share
    left -= size
    return { ...range, end: range.start + size }
  })
  return planned.filter((range) => range.end > range.start).sort(orderTopicPartition)
}

const Offsets = Schema.Record({ key: Schema.String, value: Schema.BigInt })

/** JSON form: `{"telemetry_raw-0": "123"}`; offsets as strings, since JSON numbers lose 64-bit integers. */
export const fromJson: Schema.Schema<Position, string> = Schema.transform(
  Schema.parseJson(Offsets),
  Schema.typeSchema(Schema.ReadonlyMap({ key: Schema.String, value: Schema.BigIntFromSelf })),
  {
    strict: true,
    decode: (record) => new Map(Object.entries(record)),
    encode: (map) => Object.fromEntries(map)
  }
)

export const encode = (position: Position): string => Schema.encodeSync(fromJson)(position)
export const decode = (text: string): Either.Either<Position, Error> =>
  Either.mapLeft(Schema.decodeEither(fromJson)(text), (error) => new Error(error.message))
