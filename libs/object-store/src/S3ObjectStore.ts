/**
 * Objects in a bucket of S3, or of a server that speaks its protocol.
 *
 * A write is one request (a large file: the last request of a multipart upload), so a reader sees an object whole or not at all, and S3 answers
 * when it is durable. `If-None-Match: *` lets one of many writers create a key. Each such write carries a random id in the object's metadata: when
 * an attempt's answer was lost and the next one hears 412, the id tells our own object from another's.
 *
 * A server without conditional writes is found out with the first one (a probe object is created twice). Then a look comes before the write, so of
 * two writers at the same instant both may win. Commits stay right: no two choose one name, and the catalog decides.
 *
 * Files that go up, and those that come down, are kept in a cache on disk. Objects of tables never change; where `put` or `delete` of this process
 * changes one the cache forgets it, where another process does, its old bytes may be handed out until they leave the cache.
 *
 * Locations are `s3://bucket/prefix/key`, as Iceberg has them.
 */
import { Chunk, Effect, Layer, Option, Random, type Scope, Stream } from "effect"
import { stat } from "node:fs/promises"
import { invariant, type Outcome } from "@voltlake/domain/Failure"
import * as DiskCache from "./DiskCache.ts"
import { fileFault } from "./FileFault.ts"
import { keyFault, prefixFault } from "./ObjectKey.ts"
import { ObjectExists, type ObjectInfo, ObjectNotFound, ObjectStore, ObjectStoreError } from "./ObjectStore.ts"
import { type S3Fault, s3Fault } from "./S3Errors.ts"
import * as S3Requests from "./S3Requests.ts"
import type { S3Settings, S3Warehouse } from "./S3Settings.ts"
import * as S3Transfer from "./S3Transfer.ts"

/** Metadata of an object: which write made it. */
const writeIdName = "voltlake-write"

const randomId = Effect.map(
  Effect.all([Random.nextIntBetween(0, 2 ** 48), Random.nextIntBetween(0, 2 ** 48)]),
  (parts) => parts.map((part) => part.toString(36)).join("-")
)

/** Opens the store, and the cache below `cacheFolder`. Fails where the bucket cannot be listed. */
export const make = Effect.fn("S3ObjectStore.make")(function*(
  warehouse: S3Warehouse,
  cacheFolder: string,
  settings: S3Settings
): Effect.fn.Return<ObjectStore["Type"], ObjectStoreError, Scope.Scope> {
  const { bucket: Bucket } = warehouse
  const folder = warehouse.prefix === "" ? "" : `${warehouse.prefix}/`
  const base = `s3://${Bucket}${warehouse.prefix === "" ? "" : `/${warehouse.prefix}`}`
  const location = (key: string) => (key === "" ? base : `${base}/${key}`)
  const nameOf = (key: string): S3Transfer.ObjectName => ({ Bucket, Key: folder + key })

  const requests = yield* S3Requests.make(settings)
  const { call, client, sdk } = requests
  const memory = yield* Effect.makeSemaphore(S3Transfer.partsAtOnce)
  const cache = yield* Effect.mapError(DiskCache.make(cacheFolder, settings.cacheBytesMax), (cause) => {
    const { reason, retryable } = fileFault(cause)
    return new ObjectStoreError({ operation: "open", location: base, outcome: "NotApplied", retryable, reason: `its cache at ${cacheFolder}: ${reason}` })
  })

  const failed = (operation: string, key: string, outcome?: Outcome) => (fault: S3Fault) =>
    new ObjectStoreError({ operation, location: location(key), outcome: outcome ?? fault.outcome, retryable: fault.retryable, reason: fault.reason })
  const failedRead = (operation: string, key: string) => (fault: S3Fault) =>
    fault.status === 404 && fault.code !== "NoSuchBucket" ? new ObjectNotFound({ location: location(key) }) : failed(operation, key)(fault)
  const refused = (operation: string, key: string, reason: string) =>
    new ObjectStoreError({ operation, location: location(key), outcome: "NotApplied", retryable: false, reason })
  const checkKey = (operation: string, key: string) => {
    const fault = keyFault(key)
    return fault === undefined ? Effect.void : Effect.fail(refused(operation, key, fault))
  }

  const headObject = (key: string) =>
    call("read", (abortSignal) => client.send(new sdk.HeadObjectCommand(nameOf(key)), { abortSignal }))
  const putObject = (key: string, Body: Uint8Array, ifAbsent: boolean, Metadata: Record<string, string> = {}) =>
    call("write", (abortSignal) =>
      client.send(new sdk.PutObjectCommand({ ...nameOf(key), Body, Metadata, ...(ifAbsent ? { IfNoneMatch: "*" } : {}) }), { abortSignal }))
  const deleteObject = (key: string) =>
    call("write", (abortSignal) => client.send(new sdk.DeleteObjectCommand(nameOf(key)), { abortSignal })).pipe(
      Effect.catchIf((fault) => fault.code === "NoSuchKey", () => Effect.void),
      Effect.asVoid
    )

  const probe = Effect.gen(function*() {
    const key = `.voltlake-probe-${yield* randomId}`
    /** Whether it was refused as taken. An attempt whose answer was lost can make that of the first, too: it shows the same. */
    const isRefused = putObject(key, new Uint8Array(), true).pipe(
      Effect.as(false),
      Effect.catchIf((fault) => fault.status === 412, () => Effect.succeed(true))
    )
    const answer = yield* Effect.flatMap(isRefused, (refused) => (refused ? Effect.succeed(true) : isRefused)).pipe(
      Effect.catchIf((fault) => fault.status === 501, () => Effect.succeed(false)),
      Effect.ensuring(Effect.ignore(deleteObject(key)))
    )
    if (!answer) {
      yield* Effect.logWarning("the S3 server knows no conditional writes: two writers of one key at the same instant may both succeed").pipe(
        Effect.annotateLogs({ warehouse: base })
      )
    }
    return answer
  })

  /** Whether the server has conditional writes. Asked once; not remembered where the asking failed. */
  const asking = yield* Effect.makeSemaphore(1)
  let known: boolean | undefined
  const conditional = asking.withPermits(1)(Effect.suspend(() =>
    known === undefined ? Effect.tap(probe, (answer) => void (known = answer)) : Effect.succeed(known)))

  const isTaken = (key: string) =>
    headObject(key).pipe(Effect.as(true), Effect.catchIf((fault) => fault.status === 404, () => Effect.succeed(false)))

  /** Our write was refused, or its upload is gone, after an attempt of unknown outcome: was that one ours? */
  const resolve = (operation: string, key: string, id: string, refusal: S3Fault) =>
    headObject(key).pipe(
      // Neither ours nor another's is there: somebody deleted it, or it never was.
      Effect.mapError((fault) => failed(operation, key, "Unknown")(fault.status === 404 ? refusal : fault)),
      Effect.flatMap(({ Metadata }) => (Metadata?.[writeIdName] === id ? Effect.void : Effect.fail(new ObjectExists({ location: location(key) }))))
    )

  /** Creates an object by `write`, which is told whether the server takes conditions. `lookFirst`: where a refusal at the end comes dear. */
  const create = Effect.fnUntraced(function*(
    operation: string,
    key: string,
    lookFirst: boolean,
    write: (ifAbsent: boolean, metadata: Record<string, string>) => Effect.Effect<unknown, S3Fault>
  ) {
    const ifAbsent = yield* Effect.mapError(conditional, failed(operation, key, "NotApplied"))
    if (lookFirst || !ifAbsent) {
      if (yield* Effect.mapError(isTaken(key), failed(operation, key, "NotApplied"))) return yield* new ObjectExists({ location: location(key) })
    }
    const id = yield* randomId
    yield* write(ifAbsent, { [writeIdName]: id }).pipe(
      Effect.catchAll((fault) => {
        // An upload that was completed, its answer lost, is not there to be completed again.
        const settled = fault.status === 412 || fault.code === "NoSuchUpload"
        if (settled && fault.outcome === "Unknown") return resolve(operation, key, id, fault)
        return Effect.fail(fault.status === 412 ? new ObjectExists({ location: location(key) }) : failed(operation, key)(fault))
      })
    )
  })

  const put = Effect.fn("S3ObjectStore.put")(function*(key: string, body: Uint8Array) {
    yield* checkKey("put", key)
    yield* putObject(key, body, false).pipe(Effect.mapError(failed("put", key)), Effect.ensuring(cache.forget(key)))
  })

  const putIfAbsent = Effect.fn("S3ObjectStore.putIfAbsent")(function*(key: string, body: Uint8Array) {
    yield* checkKey("putIfAbsent", key)
    yield* create("putIfAbsent", key, false, (ifAbsent, metadata) => putObject(key, body, ifAbsent, metadata))
  })

  const putFile = Effect.fn("S3ObjectStore.putFile")(function*(key: string, path: string) {
    yield* checkKey("putFile", key)
    const { size: sizeBytes } = yield* Effect.tryPromise({ try: () => stat(path), catch: (cause) => failed("putFile", key)(s3Fault(cause)) })
    const { partBytes } = settings
    if (sizeBytes <= partBytes) {
      yield* create("putFile", key, false, (ifAbsent, metadata) =>
        Effect.flatMap(S3Transfer.readWhole(path, sizeBytes), (body) => putObject(key, body, ifAbsent, metadata)).pipe(memory.withPermits(1)))
    } else {
      yield* create("putFile", key, true, (ifAbsent, metadata) =>
        S3Transfer.upload(requests, { name: nameOf(key), path, sizeBytes, partBytes, metadata, ifAbsent, memory }))
    }
    yield* cache.adopt(key, path)
  })

  const get = Effect.fn("S3ObjectStore.get")(function*(key: string) {
    yield* checkKey("get", key)
    return yield* call("read", async (abortSignal) => {
      const answer = await client.send(new sdk.GetObjectCommand(nameOf(key)), { abortSignal })
      const body = await answer.Body!.transformToByteArray()
      if (body.length !== answer.ContentLength) {
        throw Object.assign(new Error(`${body.length} bytes came of ${answer.ContentLength}`), { code: "BodyTruncated" })
      }
      return body
    }).pipe(Effect.mapError(failedRead("get", key)))
  })

  const range = Effect.fn("S3ObjectStore.range")(function*(key: string, start: number, end: number) {
    yield* checkKey("range", key)
    // The protocol has no range without a byte.
    if (end <= start) return yield* Effect.as(Effect.mapError(headObject(key), failedRead("range", key)), new Uint8Array())
    return yield* Effect.mapError(S3Transfer.readRemote(requests, nameOf(key), { start, end }), failedRead("range", key))
  })

  const localFile = Effect.fn("S3ObjectStore.localFile")(function*(key: string) {
    yield* checkKey("localFile", key)
    return yield* cache.use(key, (path) =>
      Effect.mapError(S3Transfer.download(requests, nameOf(key), path, settings.partBytes), failedRead("localFile", key)))
  })

  const head = Effect.fn("S3ObjectStore.head")(function*(key: string) {
    yield* checkKey("head", key)
    const { ContentLength, LastModified } = yield* Effect.mapError(headObject(key), failedRead("head", key))
    return { key, sizeBytes: ContentLength ?? 0, modifiedAtMs: wholeSeconds(LastModified) }
  })

  const listPage = (prefix: string, ContinuationToken: string | undefined) =>
    call("read", (abortSignal) =>
      client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: folder + prefix, ContinuationToken }), { abortSignal }))

  const list = (prefix: string): Stream.Stream<ObjectInfo, ObjectStoreError> => {
    const fault = prefixFault(prefix)
    if (fault !== undefined) return Stream.fail(refused("list", prefix, fault))
    return Stream.paginateChunkEffect(undefined as string | undefined, (token) =>
      listPage(prefix, token).pipe(
        Effect.mapError(failed("list", prefix)),
        Effect.map(({ Contents, IsTruncated, NextContinuationToken }) => {
          const infos = (Contents ?? []).flatMap(({ Key, LastModified, Size }) => {
            const key = Key?.slice(folder.length) ?? ""
            // Consoles make objects named `folder/` to show empty folders.
            return keyFault(key) === undefined ? [{ key, sizeBytes: Size ?? 0, modifiedAtMs: wholeSeconds(LastModified) }] : []
          })
          return [Chunk.unsafeFromArray(infos), IsTruncated === true ? Option.some(NextContinuationToken) : Option.none()] as const
        })
      ))
  }

  // The one request that needs no object and names what is wrong: HEAD has no body to say it in.
  yield* call("read", (abortSignal) =>
    client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: folder, MaxKeys: 1 }), { abortSignal })
  ).pipe(Effect.mapError(failed("open", "")))

  return ObjectStore.of({
    location: (key) => {
      invariant(key === "" || keyFault(key) === undefined, `${key} is not an object's key: ${keyFault(key)}`)
      return location(key)
    },
    keyOf: (uri) => {
      // Hadoop's names for the scheme.
      const plain = uri.replace(/^s3[an]:/, "s3:")
      if (!plain.startsWith(`${base}/`)) return undefined
      const key = plain.slice(base.length + 1)
      return keyFault(key) === undefined ? key : undefined
    },
    get,
    range,
    put,
    putIfAbsent,
    putFile,
    localFile,
    head,
    list,
    delete: Effect.fn("S3ObjectStore.delete")((key: string) =>
      checkKey("delete", key).pipe(
        Effect.zipRight(Effect.mapError(deleteObject(key), failed("delete", key))),
        Effect.ensuring(cache.forget(key))
      )
    )
  })
})

/** HTTP's dates have no milliseconds, those of a listing do. */
const wholeSeconds = (time: Date | undefined) => Math.floor((time?.getTime() ?? 0) / 1000) * 1000

/** The store of `warehouse`; data files are cached below `cacheFolder`. */
export const layer = (warehouse: S3Warehouse, cacheFolder: string, settings: S3Settings): Layer.Layer<ObjectStore, ObjectStoreError> =>
  Layer.scoped(ObjectStore, make(warehouse, cacheFolder, settings))
