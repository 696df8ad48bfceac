/**
 * NDJSON as bytes: a line is an event, whatever it holds. Bytes are never decoded here, so that malformed ones arrive as they are.
 *
 * A line ends with `\n` or `\r\n`, the last one may lack it. A blank line is an event without bytes (a reject), as Kafka's console producer has it.
 */
import { Effect, Option, Schema, Stream } from "effect"

export class LineTooLong extends Schema.TaggedError<LineTooLong>()("LineTooLong", {
  file: Schema.String,
  line: Schema.Number,
  bytesMax: Schema.Number
}) {
  override get message() {
    return `line ${this.line} of ${this.file} is longer than ${this.bytesMax} bytes: is it NDJSON, one event a line?`
  }
}

export const lineBytesMax = 16 * 1024 * 1024

const newline = 0x0a
const carriageReturn = 0x0d

const withoutReturn = (line: Uint8Array) =>
  line.length > 0 && line[line.length - 1] === carriageReturn ? line.subarray(0, line.length - 1) : line

interface Cut {
  readonly lines: ReadonlyArray<Uint8Array>
  readonly rest: Uint8Array
}

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}

/** Cuts the whole lines off `rest` followed by `chunk`. */
export const cut = (rest: Uint8Array, chunk: Uint8Array): Cut => {
  const bytes = join(rest, chunk)
  const lines: Array<Uint8Array> = []
  let from = 0
  for (let to = bytes.indexOf(newline, from); to !== -1; to = bytes.indexOf(newline, from)) {
    lines.push(withoutReturn(bytes.subarray(from, to)))
    from = to + 1
  }
  return { lines, rest: bytes.subarray(from) }
}

type Batch = ReadonlyArray<Uint8Array>

interface Reading {
  readonly rest: Uint8Array
  readonly seen: number
}

const beginning: Reading = { rest: new Uint8Array(0), seen: 0 }

/** The lines of a stream of bytes, by chunk; the stream's elements are batches of lines. */
export const fromBytes = <E, R>(
  file: string,
  bytes: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Batch, E | LineTooLong, R> =>
  bytes.pipe(
    Stream.map(Option.some),
    Stream.concat(Stream.succeed(Option.none<Uint8Array>())),
    Stream.mapAccumEffect(beginning, (state, chunk): Effect.Effect<readonly [Reading, Batch], LineTooLong> => {
      if (Option.isNone(chunk)) {
        return Effect.succeed([state, state.rest.length === 0 ? [] : [withoutReturn(state.rest)]])
      }
      const { lines, rest } = cut(state.rest, chunk.value)
      const seen = state.seen + lines.length
      return rest.length > lineBytesMax
        ? Effect.fail(new LineTooLong({ file, line: seen + 1, bytesMax: lineBytesMax }))
        : Effect.succeed([{ rest, seen }, lines])
    }),
    Stream.filter((lines) => lines.length > 0)
  )

const encoder = new TextEncoder()
const quote = 0x22
const backslash = 0x5c

/**
 * The text of the first string field of this name, found without parsing, or null. It only chooses a partition and a pace, so a wrong find
 * (in a nested object, say) costs nothing but order.
 */
export const findText = (name: string): (line: Uint8Array) => Uint8Array | null => {
  const pattern = Buffer.from(encoder.encode(`"${name}"`))
  return (line) => {
    const buffer = Buffer.from(line.buffer, line.byteOffset, line.byteLength)
    const at = buffer.indexOf(pattern)
    if (at === -1) return null
    let from = at + pattern.length
    while (buffer[from] === 0x20 || buffer[from] === 0x3a) from++
    if (buffer[from] !== quote) return null
    const to = buffer.indexOf(quote, from + 1)
    if (to === -1 || buffer[to - 1] === backslash) return null
    return line.subarray(from + 1, to)
  }
}
