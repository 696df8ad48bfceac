/** Files to S3 and back, in parts of bounded size and number. A part that fails is tried again alone. */
import { Effect, Schedule } from "effect"
import { createWriteStream } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import type { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import type { GetObjectCommandInput } from "@aws-sdk/client-s3"
import type { S3Fault } from "./S3Errors.ts"
import { s3Fault } from "./S3Errors.ts"
import type { S3Requests } from "./S3Requests.ts"

/** Parts of one file that are under way at once. */
export const partsAtOnce = 4
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const partsMax = 10_000

export interface ObjectName {
  readonly Bucket: string
  readonly Key: string
}

interface Range {
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

const rangesOf = (start: number, end: number, bytes: number): ReadonlyArray<Range> =>
  Array.from({ length: Math.ceil((end - start) / bytes) }, (_, at) => ({
    start: start + at * bytes,
    end: Math.min(start + (at + 1) * bytes, end)
  }))

const tried = <A>(run: () => Promise<A>) => Effect.tryPromise({ try: run, catch: s3Fault })

const withFile = <A, E>(path: string, use: (handle: FileHandle) => Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(tried(() => open(path, "r")), use, (handle) => Effect.promise(() => handle.close()))

/** The bytes of a range. Fails where the file has become shorter. */
export const readRange = (handle: FileHandle, { end, start }: Range): Effect.Effect<Uint8Array, S3Fault> =>
  tried(async () => {
    const bytes = Buffer.allocUnsafe(end - start)
    for (let at = 0; at < bytes.length;) {
      const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at)
      if (bytesRead === 0) throw Object.assign(new Error("the file became shorter while it was read"), { code: "FileChanged" })
      at += bytesRead
    }
    return bytes
  })

/** The whole of a file that is known to fit into memory. */
export const readWhole = (path: string, sizeBytes: number) =>
  withFile(path, (handle) => readRange(handle, { start: 0, end: sizeBytes }))

export interface Upload {
  readonly name: ObjectName
  readonly path: string
  readonly sizeBytes: number
  readonly partBytes: number
  readonly metadata: Record<string, string>
  /** Fails the last step where an object stands under the name. */
  readonly ifAbsent: boolean
  /** Bounds the parts in memory over all uploads. */
  readonly memory: Effect.Semaphore
}

/**
 * Uploads in parts; nothing is to be seen before the last step. On failure and interruption the parts are removed; what a process leaves that dies in
 * between, or that never heard its upload's id, is for the bucket's lifecycle rule (AbortIncompleteMultipartUpload).
 */
export const upload = ({ client, call, sdk }: S3Requests, { ifAbsent, memory, metadata, name, partBytes, path, sizeBytes }: Upload) => {
  const ranges = rangesOf(0, sizeBytes, Math.max(partBytes, Math.ceil(sizeBytes / partsMax)))

  const part = (handle: FileHandle, UploadId: string | undefined, range: Range, PartNumber: number) =>
    Effect.flatMap(readRange(handle, range), (Body) =>
      call("write", (abortSignal) => client.send(new sdk.UploadPartCommand({ ...name, UploadId, PartNumber, Body }), { abortSignal }))
    ).pipe(
      memory.withPermits(1),
      Effect.map(({ ETag }) => ({ PartNumber, ETag })),
      // A part that may be there is no object.
      Effect.mapError((fault): S3Fault => ({ ...fault, outcome: "NotApplied" }))
    )

  return Effect.acquireUseRelease(
    call("write", (abortSignal) => client.send(new sdk.CreateMultipartUploadCommand({ ...name, Metadata: metadata }), { abortSignal })).pipe(
      Effect.mapError((fault): S3Fault => ({ ...fault, outcome: "NotApplied" }))
    ),
    ({ UploadId }) =>
      withFile(path, (handle) =>
        Effect.forEach(ranges, (range, at) => part(handle, UploadId, range, at + 1), { concurrency: partsAtOnce })).pipe(
          Effect.flatMap((Parts) =>
            call("write", (abortSignal) =>
              client.send(
                new sdk.CompleteMultipartUploadCommand({
                  ...name,
                  UploadId,
                  MultipartUpload: { Parts },
                  ...(ifAbsent ? { IfNoneMatch: "*" } : {})
                }),
                { abortSignal }
              ))
          )
        ),
    ({ UploadId }, exit) =>
      exit._tag === "Success"
        ? Effect.void
        // What was completed all the same is no upload any more, and is not touched.
        : call("write", (abortSignal) => client.send(new sdk.AbortMultipartUploadCommand({ ...name, UploadId }), { abortSignal })).pipe(
          Effect.catchIf((fault) => fault.status === 404, () => Effect.void),
          // A part that is still under way makes a server answer 500; nobody else will clean up.
          Effect.retry({ times: 5, schedule: Schedule.spaced("100 millis"), while: (fault) => fault.retryable }),
          Effect.catchAll((fault) =>
            Effect.logWarning("the parts of a failed upload are left in the bucket").pipe(
              Effect.annotateLogs({ key: name.Key, reason: fault.reason })
            ))
        )
  )
}

const rangeHeader = ({ end, start }: Range) => `bytes=${start}-${end - 1}`

/** The object's bytes of a range, as far as there are any. */
export const readRemote = ({ client, call, sdk }: S3Requests, name: ObjectName, range: Range): Effect.Effect<Uint8Array, S3Fault> =>
  call("read", async (abortSignal) => {
    const answer = await client.send(new sdk.GetObjectCommand({ ...name, Range: rangeHeader(range) }), { abortSignal })
    const body = await answer.Body!.transformToByteArray()
    if (body.length !== answer.ContentLength) {
      throw Object.assign(new Error(`${body.length} bytes came of ${answer.ContentLength}`), { code: "BodyTruncated" })
    }
    // A server that knows no ranges sent the whole.
    return answer.ContentRange === undefined ? body.subarray(range.start, range.end) : body
  }).pipe(Effect.catchIf((fault) => fault.status === 416, () => Effect.succeed(new Uint8Array())))

/** Downloads into a file that does not stand yet, and answers the object's size. */
export const download = ({ client, call, sdk }: S3Requests, name: ObjectName, path: string, partBytes: number): Effect.Effect<number, S3Fault> => {
  /** Writes what `request` asks for at `start`, and answers the object's whole size and its version. */
  const fetch = (request: Omit<GetObjectCommandInput, keyof ObjectName>, start: number, flags: "w" | "r+") =>
    call("read", async (signal) => {
      const answer = await client.send(new sdk.GetObjectCommand({ ...name, ...request }), { abortSignal: signal })
      const file = createWriteStream(path, { flags, start, highWaterMark: 1024 * 1024 })
      await pipeline(answer.Body as Readable, file, { signal })
      if (file.bytesWritten !== answer.ContentLength) {
        throw Object.assign(new Error(`${file.bytesWritten} bytes came of ${answer.ContentLength}`), { code: "BodyTruncated" })
      }
      // `bytes 0-99/1234`. A server that knows no ranges sent the whole.
      const total = /\/(\d+)$/.exec(answer.ContentRange ?? "")?.[1]
      return { sizeBytes: total === undefined ? answer.ContentLength : Number(total), written: start + file.bytesWritten, IfMatch: answer.ETag }
    })

  return fetch({ Range: rangeHeader({ start: 0, end: partBytes }) }, 0, "w").pipe(
    // No range lies within an empty object.
    Effect.catchIf((fault) => fault.status === 416, () => fetch({}, 0, "w")),
    Effect.flatMap(({ IfMatch, sizeBytes, written }) =>
      Effect.forEach(
        rangesOf(written, sizeBytes, partBytes),
        (range) => fetch({ Range: rangeHeader(range), IfMatch }, range.start, "r+"),
        { concurrency: partsAtOnce, discard: true }
      ).pipe(
        // Replaced while it was read: what is here is of two objects.
        Effect.mapError((fault): S3Fault => (fault.status === 412 ? { ...fault, retryable: true, reason: "the object was replaced while it was read" } : fault)),
        Effect.as(sizeBytes)
      ))
  )
}
