/**
 * Replay of recorded events as a source: NDJSON files (plain or gzip) and standard input, at full speed or at a multiple of real time.
 *
 * Every record carries the header `voltlake-replay` with the replay's id, and the time of sending as its timestamp: the recorded times live in the values.
 */
import { FileSystem } from "@effect/platform"
import { NodeStream } from "@effect/platform-node"
import { Clock, Duration, Effect, Option, Schema, Stream } from "effect"
import * as zlib from "node:zlib"
import type { OffsetRange } from "@voltlake/domain/Position"
import { Ingest, type Message } from "./Ingest.ts"
import * as Lines from "./Lines.ts"

export const headerName = "voltlake-replay"

export class ReplayFileError extends Schema.TaggedError<ReplayFileError>()("ReplayFileError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `cannot read ${this.file}: ${this.reason}`
  }
}

export interface Progress {
  readonly events: number
  /** Bytes read from the files, before decompression. */
  readonly bytes: number
}

export interface ReplayOptions {
  readonly id: string
  /** Paths; `-` is standard input. */
  readonly files: ReadonlyArray<string>
  /** Multiple of real time by event_time, or `max`. */
  readonly speed: number | "max"
  readonly onProgress: (progress: Progress) => Effect.Effect<void>
}

export interface Sent {
  readonly events: number
  /** Offsets that the replay's records got, joined where they touch. */
  readonly ranges: ReadonlyArray<OffsetRange>
}

/** Events of one send, and bytes after which a send goes out even with fewer. */
const sendEventsMax = 5000
const sendBytesMax = 4 * 1024 * 1024
const readBytes = 256 * 1024

const vehicleOf = Lines.findText("vehicle_id")
const timeOf = Lines.findText("event_time")

const fault = (file: string) => (cause: unknown) =>
  new ReplayFileError({ file, reason: cause instanceof Error ? cause.message : String(cause) })

const isGzip = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  const head = yield* Effect.scoped(Effect.flatMap(fs.open(file), (opened) => opened.readAlloc(2)))
  return Option.isSome(head) && head.value[0] === 0x1f && head.value[1] === 0x8b
})

type Bytes = Stream.Stream<Uint8Array, ReplayFileError, FileSystem.FileSystem>

/** Whether standard input begins as gzip does; what was looked at is put back. */
const isGzipInput = Effect.async<boolean>((resume) => {
  process.stdin.once("readable", () => {
    const head = process.stdin.read() as Buffer | null
    // Null where there is no input at all.
    if (head !== null) process.stdin.unshift(head)
    resume(Effect.succeed(head !== null && head[0] === 0x1f && head[1] === 0x8b))
  })
})

/** Bytes of a file or of standard input, decompressed where they begin as gzip does, whatever the name. */
const bytesOf = (file: string, onRead: (bytes: number) => void): Bytes =>
  Stream.unwrap(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const name = file === "-" ? "standard input" : file
    const gzip = file === "-" ? yield* isGzipInput : yield* Effect.mapError(isGzip(file), fault(file))
    const raw = file === "-"
      ? NodeStream.fromReadable<ReplayFileError, Uint8Array>(() => process.stdin, fault(name))
      : Stream.mapError(fs.stream(file, { chunkSize: readBytes }), fault(name))
    const counted = Stream.tap(raw, (chunk) => Effect.sync(() => onRead(chunk.length)))
    return gzip
      ? counted.pipe(NodeStream.pipeThroughDuplex(() => zlib.createGunzip({ chunkSize: readBytes }), fault(name)))
      : counted
  }))

/** Cuts a batch of lines into sends of bounded size. */
const sends = (lines: ReadonlyArray<Uint8Array>): ReadonlyArray<ReadonlyArray<Uint8Array>> => {
  const out: Array<Array<Uint8Array>> = []
  let bytes = Infinity
  for (const line of lines) {
    const current = out.at(-1)
    if (current === undefined || bytes + line.length > sendBytesMax || current.length >= sendEventsMax) {
      out.push([line])
      bytes = line.length
    } else {
      current.push(line)
      bytes += line.length
    }
  }
  return out
}

const message = (line: Uint8Array): Message => ({ key: vehicleOf(line), value: line })

/** Adds ranges to those known, joining the ones that touch. */
const joined = (known: Array<OffsetRange>, added: ReadonlyArray<OffsetRange>) => {
  for (const range of added) {
    const at = known.findLastIndex((other) =>
      other.topic === range.topic && other.partition === range.partition && other.end === range.start
    )
    if (at === -1) known.push(range)
    else known[at] = { ...range, start: known[at]!.start }
  }
}

const decoder = new TextDecoder()

/** Milliseconds since 1970 of the line's event_time, or undefined. */
const timeMs = (line: Uint8Array): number | undefined => {
  const text = timeOf(line)
  const parsed = text === null ? NaN : Date.parse(decoder.decode(text))
  return Number.isNaN(parsed) ? undefined : parsed
}

/**
 * Sends lines when they are due: at their distance from the first event time seen, divided by `speed`.
 * Lines that go back in time, or bear none, are due at once.
 */
const makePaced = Effect.fnUntraced(function*<E, R>(
  speed: number,
  send: (lines: ReadonlyArray<Uint8Array>) => Effect.Effect<void, E, R>
) {
  const startMs = yield* Clock.currentTimeMillis
  let first: number | undefined
  return Effect.fnUntraced(function*(lines: ReadonlyArray<Uint8Array>) {
    let due: Array<Uint8Array> = []
    for (const line of lines) {
      const time = timeMs(line)
      if (time !== undefined) {
        first ??= time
        const waitMs = startMs + (time - first) / speed - (yield* Clock.currentTimeMillis)
        if (waitMs > 0) {
          if (due.length > 0) yield* send(due)
          due = []
          yield* Effect.sleep(Duration.millis(waitMs))
        }
      }
      due.push(line)
    }
    if (due.length > 0) yield* send(due)
  })
})

/** Sends every line of every file, in order. Answers when the last one is durable in the log. */
export const run = Effect.fn("Replay.run")(function*(options: ReplayOptions) {
  const ingest = yield* Ingest
  const headers = [{ key: headerName, value: new TextEncoder().encode(options.id) }]
  const ranges: Array<OffsetRange> = []
  let events = 0
  let bytes = 0
  const send = Effect.fnUntraced(function*(lines: ReadonlyArray<Uint8Array>) {
    joined(ranges, yield* ingest.send(lines.map(message), headers))
    events += lines.length
    yield* options.onProgress({ events, bytes })
  })
  const sendAll = (lines: ReadonlyArray<Uint8Array>) => Effect.forEach(sends(lines), send, { discard: true })
  const sendLines = options.speed === "max" ? sendAll : yield* makePaced(options.speed, sendAll)
  for (const file of options.files) {
    yield* Lines.fromBytes(file, bytesOf(file, (read) => (bytes += read))).pipe(
      Stream.runForEach(sendLines)
    )
  }
  const sent: Sent = { events, ranges }
  return sent
})
