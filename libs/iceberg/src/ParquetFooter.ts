/** What a Parquet file says of itself, without the engine: a file's last bytes, which hold its columns, row groups and where their bytes lie. */
import { Effect, Schema } from "effect"
import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync } from "hyparquet"
import * as fs from "node:fs/promises"

/** The file is no Parquet, damaged, or of a kind that cannot be read. */
export class ParquetUnreadable extends Schema.TaggedError<ParquetUnreadable>()("ParquetUnreadable", { location: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.location} cannot be read as Parquet: ${this.reason}`
  }
}

/** Most footers are smaller; of a larger one the rest is read after. */
const footerBytesGuess = 64 * 1024
/** A footer begins and ends with words of four bytes. */
const fileBytesMin = 12

export const unreadable = (location: string) => (cause: unknown) =>
  new ParquetUnreadable({ location, reason: cause instanceof Error ? cause.message : String(cause) })

/** Fails with what reading the bytes fails with, as a {@link ParquetUnreadable}. */
export const read = (buffer: AsyncBuffer, location: string): Effect.Effect<FileMetaData, ParquetUnreadable> =>
  buffer.byteLength < fileBytesMin
    ? Effect.fail(unreadable(location)(`it has ${buffer.byteLength} bytes`))
    : Effect.tryPromise({
      try: () => parquetMetadataAsync(buffer, { initialFetchSize: footerBytesGuess, geoparquet: false }),
      catch: unreadable(location)
    })

const exact = async (handle: fs.FileHandle, start: number, length: number): Promise<ArrayBuffer> => {
  const bytes = new Uint8Array(length)
  for (let filled = 0; filled < length;) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, start + filled)
    if (bytesRead === 0) throw new Error(`it ends before byte ${start + length}`)
    filled += bytesRead
  }
  return bytes.buffer
}

/** The bytes of a local file, of which only what is asked for is read, until the scope closes. */
export const localBuffer = (path: string, location: string) =>
  Effect.gen(function*() {
    const handle = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => fs.open(path, "r"), catch: unreadable(location) }),
      (opened) => Effect.promise(() => opened.close())
    )
    const { size } = yield* Effect.tryPromise({ try: () => handle.stat(), catch: unreadable(location) })
    const slice = (start: number, end = size) => exact(handle, start, Math.max(0, Math.min(end, size) - start))
    return { byteLength: size, slice } satisfies AsyncBuffer
  })

/** The footer of a local file; `location` is what the table calls it. */
export const ofLocalFile = (path: string, location: string) =>
  Effect.scoped(Effect.flatMap(localBuffer(path, location), (buffer) => read(buffer, location)))
