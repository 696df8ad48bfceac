/**
 * Objects as files below a root folder.
 *
 * A write goes to a temporary file under `<root>/.tmp`, is synced, gets its name by rename(2) or, where the key must be
 * free, by link(2) (which one of many writers wins), and then its folder is synced. So a reader never sees half an
 * object, and a crash leaves at most a temporary file, removed a day later. The root must be one file system with hard
 * links.
 *
 * Locations are `file://` and the absolute path as it is, without percent encoding: PyIceberg, DuckDB and Hadoop take
 * the rest of such a location for a path and decode nothing. Roots with `?` or `#` are refused, since URI parsers would
 * cut the path there.
 */
import { Chunk, Clock, Effect, Layer, Option, Random, Schema, Stream } from "effect"
import { type Outcome, invariant } from "@voltlake/domain/Failure"
import type { FileHandle } from "node:fs/promises"
import * as fs from "node:fs/promises"
import { dirname, join, resolve, sep } from "node:path"
import { codeOf, fileFault } from "./FileFault.ts"
import { keyFault, prefixFault } from "./ObjectKey.ts"
import { type ObjectInfo, ObjectExists, ObjectNotFound, ObjectStore, ObjectStoreError } from "./ObjectStore.ts"

const temporaryFolder = ".tmp"
/** A temporary file older than this belongs to a process that died: none is written for so long. */
const temporaryAgeMaxMs = 24 * 60 * 60 * 1000
/** Folders known to be durable, so that their ancestors are not synced again for every object. */
const foldersKnownMax = 10_000
const statConcurrency = 16

/** The root folder cannot hold a store. */
export class StoreUnusable extends Schema.TaggedError<StoreUnusable>()("StoreUnusable", {
  root: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `the object store at ${this.root} cannot be used: ${this.reason}`
  }
}

const sync = (path: string) =>
  Effect.acquireUseRelease(
    Effect.tryPromise({ try: () => fs.open(path, "r"), catch: (cause) => cause }),
    (handle) => Effect.tryPromise({ try: () => handle.sync(), catch: (cause) => cause }),
    (handle) => Effect.promise(() => handle.close())
  )

/** Makes a folder's entries durable. Windows cannot sync folders; its file systems journal names. */
const syncFolder = (path: string) => (process.platform === "win32" ? Effect.void : sync(path))

const writeWhole = (handle: FileHandle, body: Uint8Array) =>
  Effect.tryPromise({ try: () => handle.writeFile(body).then(() => handle.sync()), catch: (cause) => cause })

const readRange = async (path: string, start: number, end: number): Promise<Uint8Array> => {
  const handle = await fs.open(path, "r")
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw Object.assign(new Error("it is a folder"), { code: "EISDIR" })
    const { size } = stat
    const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start))
    for (let filled = 0; filled < bytes.length;) {
      const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, start + filled)
      if (bytesRead === 0) return bytes.subarray(0, filled)
      filled += bytesRead
    }
    return bytes
  } finally {
    await handle.close()
  }
}

const removeStaleTemporaries = Effect.fnUntraced(function*(folder: string) {
  const now = yield* Clock.currentTimeMillis
  const names = yield* Effect.tryPromise(() => fs.readdir(folder))
  for (const name of names) {
    const path = join(folder, name)
    yield* Effect.tryPromise(() => fs.stat(path)).pipe(
      Effect.flatMap((stat) =>
        now - stat.mtimeMs > temporaryAgeMaxMs ? Effect.tryPromise(() => fs.rm(path, { force: true })) : Effect.void
      ),
      // Another process may be removing the same one.
      Effect.ignore
    )
  }
})

const openRoot = Effect.fnUntraced(function*(folder: string) {
  const root = resolve(folder)

  if (/[?#\u0000-\u001f\u007f]/.test(root)) {
    return yield* new StoreUnusable({ root, reason: "its path has a ?, a # or a control character" })
  }
  const temporary = join(root, temporaryFolder)
  yield* Effect.tryPromise({
    try: () => fs.mkdir(temporary, { recursive: true }),
    catch: (cause) => new StoreUnusable({ root, reason: fileFault(cause).reason })
  })
  yield* Effect.ignore(removeStaleTemporaries(temporary))
  return { root, temporary }
})

/** Opens the store at `folder`, making the folder where it is missing. */
export const make = Effect.fn("LocalObjectStore.make")(function*(folder: string) {
  const { root, temporary } = yield* openRoot(folder)
  const base = `file://${root.startsWith("/") ? "" : "/"}${root.split(sep).join("/")}`.replace(/\/$/, "")
  const rootPath = base.slice("file://".length)
  const knownFolders = new Set<string>()

  const location = (key: string) => (key === "" ? base : `${base}/${key}`)
  const pathOf = (key: string) => join(root, ...key.split("/"))
  const failed = (operation: string, key: string, outcome: Outcome) => (cause: unknown) => {
    const { reason, retryable } = fileFault(cause)
    return new ObjectStoreError({ operation, location: location(key), outcome, retryable, reason })
  }
  const refused = (operation: string, key: string, reason: string) =>
    new ObjectStoreError({ operation, location: location(key), outcome: "NotApplied", retryable: false, reason })
  const checkKey = (operation: string, key: string) => {
    const fault = keyFault(key) ?? (key.startsWith(`${temporaryFolder}/`) ? "the folder is reserved" : undefined)
    return fault === undefined ? Effect.void : Effect.fail(refused(operation, key, fault))
  }

  /**
   * Makes an object's folder. Every folder above it is synced, also where it stood already: another process may have
   * made it this instant and not synced it yet.
   */
  const ensureFolder = Effect.fnUntraced(function*(path: string) {
    if (knownFolders.has(path)) return
    yield* Effect.tryPromise({
      try: () => fs.mkdir(path, { recursive: true }),
      // mkdir says EEXIST where a file stands in the way, which is not the object's own name being taken.
      catch: (cause) => (codeOf(cause) === "EEXIST" ? { code: "ENOTDIR" } : cause)
    })
    for (let at = path; at !== root; ) {
      at = dirname(at)
      yield* syncFolder(at)
    }
    if (knownFolders.size >= foldersKnownMax) knownFolders.clear()
    knownFolders.add(path)
  })

  /** Gives a synced file its name in the store, then makes the name durable. */
  const publish = Effect.fnUntraced(function*(
    operation: string,
    key: string,
    name: (path: string) => Promise<void>
  ) {
    const path = pathOf(key)
    const attempt = Effect.zipRight(
      ensureFolder(dirname(path)),
      Effect.tryPromise({ try: () => name(path), catch: (cause) => cause })
    )
    yield* attempt.pipe(
      Effect.catchIf((cause) => codeOf(cause) === "ENOENT", () => {
        // Somebody removed the folder since it was made.
        knownFolders.delete(dirname(path))
        return attempt
      }),
      Effect.mapError((cause) =>
        codeOf(cause) === "EEXIST"
          ? new ObjectExists({ location: location(key) })
          : failed(operation, key, "NotApplied")(cause)
      )
    )
    yield* Effect.mapError(syncFolder(dirname(path)), failed(operation, key, "Unknown"))
  })

  /** A path under the temporary folder; whatever stands there when `use` is over is removed. */
  const withTemporary = <A, E>(use: (path: string) => Effect.Effect<A, E>) =>
    Effect.flatMap(Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER), (id) => {
      const path = join(temporary, `${process.pid}-${id.toString(36)}`)
      return Effect.ensuring(use(path), Effect.ignore(Effect.tryPromise(() => fs.rm(path, { force: true }))))
    })

  const writeTemporary = (operation: string, key: string, path: string, body: Uint8Array) =>
    Effect.acquireUseRelease(
      Effect.tryPromise({ try: () => fs.open(path, "wx"), catch: (cause) => cause }),
      (handle) => writeWhole(handle, body),
      (handle) => Effect.promise(() => handle.close())
    ).pipe(Effect.mapError(failed(operation, key, "NotApplied")))

  const neverExists = (error: ObjectExists | ObjectStoreError) =>
    error._tag === "ObjectExists" ? Effect.die(error) : Effect.fail(error)

  const put = Effect.fn("LocalObjectStore.put")(function*(key: string, body: Uint8Array) {
    yield* checkKey("put", key)
    yield* withTemporary((temporaryPath) =>
      Effect.zipRight(
        writeTemporary("put", key, temporaryPath, body),
        publish("put", key, (path) => fs.rename(temporaryPath, path))
      )
    ).pipe(Effect.catchAll(neverExists))
    // Uninterruptible, as the calls under way could not be called back: an interrupted write would have an unknown
    // outcome.
  }, Effect.uninterruptible)

  const putIfAbsent = Effect.fn("LocalObjectStore.putIfAbsent")(function*(key: string, body: Uint8Array) {
    yield* checkKey("putIfAbsent", key)
    yield* withTemporary((temporaryPath) =>
      Effect.zipRight(
        writeTemporary("putIfAbsent", key, temporaryPath, body),
        publish("putIfAbsent", key, (path) => fs.link(temporaryPath, path))
      )
    )
  }, Effect.uninterruptible)

  const copyIn = (key: string, source: string) =>
    withTemporary((temporaryPath) =>
      Effect.tryPromise({ try: () => fs.copyFile(source, temporaryPath), catch: (cause) => cause }).pipe(
        Effect.zipRight(sync(temporaryPath)),
        Effect.mapError(failed("putFile", key, "NotApplied")),
        Effect.zipRight(publish("putFile", key, (path) => fs.link(temporaryPath, path)))
      )
    )

  const putFile = Effect.fn("LocalObjectStore.putFile")(function*(key: string, source: string) {
    yield* checkKey("putFile", key)
    yield* Effect.mapError(sync(source), failed("putFile", key, "NotApplied"))
    let otherFileSystem = false
    const link = (path: string) =>
      fs.link(source, path).catch((cause: unknown) => {
        otherFileSystem = codeOf(cause) === "EXDEV"
        throw cause
      })
    yield* Effect.catchIf(publish("putFile", key, link), () => otherFileSystem, () => copyIn(key, source))
    // The object stands; a source that cannot be removed only wastes space.
    yield* Effect.ignore(Effect.tryPromise(() => fs.rm(source)))
  }, Effect.uninterruptible)

  const reading = <A>(operation: string, key: string, run: (path: string) => Promise<A>) =>
    Effect.zipRight(
      checkKey(operation, key),
      Effect.tryPromise({
        try: () => run(pathOf(key)),
        catch: (cause) =>
          ["ENOENT", "ENOTDIR", "EISDIR"].includes(codeOf(cause))
            ? new ObjectNotFound({ location: location(key) })
            : failed(operation, key, "NotApplied")(cause)
      })
    )

  const head = Effect.fn("LocalObjectStore.head")(function*(key: string) {
    const stat = yield* reading("head", key, (path) => fs.stat(path))
    if (!stat.isFile()) return yield* new ObjectNotFound({ location: location(key) })
    return { key, sizeBytes: stat.size, modifiedAtMs: Math.trunc(stat.mtimeMs) }
  })

  /** The files of one folder, and the folders below it. Nothing where the folder is missing. */
  const listFolder = Effect.fnUntraced(function*(folder: string, prefix: string) {
    const entries = yield* Effect.tryPromise({
      try: () => fs.readdir(join(root, ...folder.split("/")), { withFileTypes: true }),
      catch: (cause) => cause
    }).pipe(Effect.catchIf((cause) => ["ENOENT", "ENOTDIR"].includes(codeOf(cause)), () => Effect.succeed([])))
    const named = entries.map((entry) => ({ entry, key: folder === "" ? entry.name : `${folder}/${entry.name}` }))
    const folders = named
      .filter(({ entry, key }) =>
        entry.isDirectory() && key !== temporaryFolder && (key.startsWith(prefix) || prefix.startsWith(`${key}/`))
      )
      .map(({ key }) => key)
    const files = yield* Effect.forEach(
      named.filter(({ entry, key }) => entry.isFile() && key.startsWith(prefix)),
      ({ key }) => Effect.catchTag(head(key), "ObjectNotFound", () => Effect.succeed(undefined)),
      { concurrency: statConcurrency }
    )
    return { folders, files: files.filter((info): info is ObjectInfo => info !== undefined) }
  })

  const list = (prefix: string): Stream.Stream<ObjectInfo, ObjectStoreError> => {
    const fault = prefixFault(prefix)
    if (fault !== undefined) return Stream.fail(refused("list", prefix, fault))
    const start = prefix.slice(0, Math.max(prefix.lastIndexOf("/"), 0))
    return Stream.unfoldChunkEffect([start] as ReadonlyArray<string>, (open) => {
      const [folder, ...rest] = open
      if (folder === undefined) return Effect.succeedNone
      return listFolder(folder, prefix).pipe(
        Effect.mapError((cause) =>
          cause instanceof ObjectStoreError ? cause : failed("list", prefix, "NotApplied")(cause)
        ),
        Effect.map(({ files, folders }) => Option.some([Chunk.unsafeFromArray(files), [...folders, ...rest]] as const))
      )
    })
  }

  return ObjectStore.of({
    location: (key) => {
      invariant(key === "" || keyFault(key) === undefined, `${key} is not an object's key: ${keyFault(key)}`)
      return location(key)
    },
    keyOf: (uri) => {
      // Hadoop writes file:/path, others file:///path.
      const path = uri.replace(/^file:(\/\/)?(?=\/(?!\/))/, "")
      if (!path.startsWith(`${rootPath}/`)) return undefined
      const key = path.slice(rootPath.length + 1)
      return keyFault(key) === undefined ? key : undefined
    },
    get: Effect.fn("LocalObjectStore.get")((key: string) => reading("get", key, (path) => fs.readFile(path))),
    range: Effect.fn("LocalObjectStore.range")((key: string, start: number, end: number) =>
      reading("range", key, (path) => readRange(path, start, Math.max(start, end)))
    ),
    put,
    putIfAbsent,
    putFile,
    // The object's own path: objects are deleted only a grace period after the last table stopped naming them.
    localFile: Effect.fn("LocalObjectStore.localFile")((key: string) => Effect.as(head(key), pathOf(key))),
    head,
    list,
    delete: Effect.fn("LocalObjectStore.delete")((key: string) =>
      // Not synced: an object that comes back after a crash is an orphan, and is removed again.
      reading("delete", key, (path) => fs.unlink(path)).pipe(Effect.catchTag("ObjectNotFound", () => Effect.void))
    )
  })
})

/** The store at `folder`. */
export const layer = (folder: string): Layer.Layer<ObjectStore, StoreUnusable> =>
  Layer.effect(ObjectStore, make(folder))
