/**
 * Objects as files on this machine's disk, kept after use up to a number of bytes.
 *
 * A file in use by an open scope is never removed; the least recently used of the others go first. Several that ask for one key at once share one
 * fetch. Every process has a folder of its own below the given one, which goes when the scope of the cache closes, or with the next start on this
 * host after the process died.
 *
 * Not guaranteed: that a file is there again after it was used (somebody may empty the folder; it is then fetched anew), nor durability.
 */
import { Clock, Deferred, Effect, Exit, Fiber, FiberId, Random, type Scope } from "effect"
import * as fs from "node:fs/promises"
import { hostname } from "node:os"
import { join } from "node:path"

export interface DiskCache {
  /** A path that holds the object until the scope closes. `fetch` writes it to a path where nothing stands, and answers its size in bytes. */
  readonly use: <E>(key: string, fetch: (path: string) => Effect.Effect<number, E>) => Effect.Effect<string, E, Scope.Scope>
  /** Moves a file of a finished object in; where that fails it is removed. */
  readonly adopt: (key: string, path: string) => Effect.Effect<void>
  /** The object is no longer what it was: who asks from now on gets it fetched anew, who holds the old file keeps it. */
  readonly forget: (key: string) => Effect.Effect<void>
}

interface Entry {
  readonly key: string
  readonly path: string
  /** Done when the file stands, with the fetch's error where it does not. */
  readonly ready: Deferred.Deferred<void, unknown>
  fetching: Fiber.RuntimeFiber<unknown, unknown> | undefined
  /** Undefined until the file stands. */
  bytes: number | undefined
  users: number
}

/** A folder of another host, whose processes cannot be asked after, is left alone for so long after its last change. */
const foreignAgeMaxMs = 7 * 24 * 60 * 60 * 1000
const baseLengthMax = 100

/** Folders of this process: two caches of one process have the same process id. */
const ownFolders = new Set<string>()

const remove = (path: string) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }).catch(() => undefined))

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    // Forbidden to signal, so it is there.
    return (cause as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** `<host>-<pid>-<random>` */
const ownerOf = (name: string) => {
  const [, host, pid] = /^(.+)-(\d+)-[0-9a-z]+$/.exec(name) ?? []
  return host === undefined ? undefined : { host, pid: Number(pid) }
}

const removeDeadFolders = Effect.fnUntraced(function*(folder: string, host: string) {
  const now = yield* Clock.currentTimeMillis
  for (const name of yield* Effect.promise(() => fs.readdir(folder))) {
    const owner = ownerOf(name)
    const path = join(folder, name)
    // What we did not make is not ours to remove.
    if (owner === undefined || ownFolders.has(path)) continue
    const changedMs = yield* Effect.promise(() => fs.stat(path).then((stat) => stat.mtimeMs, () => now))
    // A process that has our id and is not us has died.
    const dead = owner.host === host ? owner.pid === process.pid || !isAlive(owner.pid) : now - changedMs > foreignAgeMaxMs
    if (dead) yield* remove(path)
  }
})

/** Opens a cache below `folder`, which is made where it is missing. Fails with the file system's error. */
export const make = Effect.fn("DiskCache.make")(function*(folder: string, bytesMax: number): Effect.fn.Return<DiskCache, unknown, Scope.Scope> {
  const host = hostname().replace(/[^A-Za-z0-9.]/g, "_")
  const id = (yield* Random.nextIntBetween(0, Number.MAX_SAFE_INTEGER)).toString(36)
  const own = join(folder, `${host}-${process.pid}-${id}`)
  yield* Effect.acquireRelease(
    Effect.tryPromise({ try: () => fs.mkdir(own, { recursive: true }), catch: (cause) => cause }).pipe(Effect.tap(() => ownFolders.add(own))),
    () => Effect.zipRight(remove(own), Effect.sync(() => ownFolders.delete(own)))
  )
  yield* removeDeadFolders(folder, host)

  /** In the order of their last use, and none of what was forgotten. */
  const entries = new Map<string, Entry>()
  let bytesHeld = 0
  let made = 0

  /** Keeps the ending of the key, by which engines tell Parquet from JSON. */
  const pathFor = (key: string) => {
    const base = key.slice(key.lastIndexOf("/") + 1).replace(/[^A-Za-z0-9._=-]/g, "_")
    return join(own, `${made++}-${base.slice(-baseLengthMax)}`)
  }

  const isListed = (entry: Entry) => entries.get(entry.key) === entry

  /** Takes the entry off the list. Its file goes when nobody uses it. */
  const drop = (entry: Entry) =>
    Effect.suspend(() => {
      if (isListed(entry)) {
        entries.delete(entry.key)
        bytesHeld -= entry.bytes ?? 0
      }
      return entry.users === 0 ? remove(entry.path) : Effect.void
    })

  const evict = Effect.suspend(() => {
    const victims: Array<Entry> = []
    let bytes = bytesHeld
    for (const entry of entries.values()) {
      if (bytes <= bytesMax) break
      if (entry.users > 0 || entry.bytes === undefined) continue
      victims.push(entry)
      bytes -= entry.bytes
    }
    return Effect.forEach(victims, drop, { discard: true })
  })

  const stands = (entry: Entry, bytes: number) => {
    entry.bytes = bytes
    if (isListed(entry)) bytesHeld += bytes
  }

  /** Fetches as a fiber of its own, since it must outlive the first who asked while others wait. */
  const start = <E>(entry: Entry, fetch: (path: string) => Effect.Effect<number, E>) =>
    fetch(entry.path).pipe(
      Effect.tap((bytes) => Effect.zipRight(Effect.sync(() => stands(entry, bytes)), evict)),
      Effect.interruptible,
      // Who asks from now on gets another try, also one who has not let go of this one.
      Effect.onError(() => drop(entry)),
      Effect.onExit((exit) => Deferred.done(entry.ready, Exit.asVoid(exit))),
      Effect.forkDaemon,
      Effect.tap((fiber) => void (entry.fetching = fiber))
    )

  /** Somebody may have emptied the folder. */
  const isThere = (entry: Entry) =>
    entry.bytes === undefined
      ? Effect.succeed(true)
      : Effect.promise(() => fs.stat(entry.path).then((stat) => stat.size === entry.bytes, () => false))

  const makeFolder = Effect.promise(() => fs.mkdir(own, { recursive: true }).catch(() => undefined))

  const newEntry = (key: string): Entry => ({
    key,
    path: pathFor(key),
    ready: Deferred.unsafeMake(FiberId.none),
    fetching: undefined,
    bytes: undefined,
    users: 1
  })

  const claim = <E>(key: string, fetch: (path: string) => Effect.Effect<number, E>): Effect.Effect<Entry> =>
    Effect.suspend(() => {
      const found = entries.get(key)
      if (found === undefined) {
        const entry = newEntry(key)
        entries.set(key, entry)
        return Effect.as(start(entry, (path) => Effect.zipRight(makeFolder, fetch(path))), entry)
      }
      found.users++
      entries.delete(key)
      entries.set(key, found)
      return Effect.flatMap(isThere(found), (there) =>
        there ? Effect.succeed(found) : drop(found).pipe(Effect.zipRight(release(found)), Effect.zipRight(claim(key, fetch))))
    })

  const release = (entry: Entry): Effect.Effect<void> =>
    Effect.suspend(() => {
      entry.users--
      if (entry.users > 0) return Effect.void
      if (entry.bytes !== undefined) return isListed(entry) ? evict : remove(entry.path)
      // Nobody waits for it any more. Off the list first, so that nobody joins a fetch that is being stopped.
      const { fetching } = entry
      return Effect.zipRight(drop(entry), fetching === undefined ? Effect.void : Fiber.interrupt(fetching)).pipe(
        Effect.zipRight(remove(entry.path))
      )
    })

  return {
    use: <E>(key: string, fetch: (path: string) => Effect.Effect<number, E>) =>
      Effect.flatMap(Effect.acquireRelease(claim(key, fetch), release), (entry) =>
        // Whoever fetches a key does so in the same way, so that its errors are of the caller's kind.
        Effect.as(Deferred.await(entry.ready as Deferred.Deferred<void, E>), entry.path)),
    adopt: (key, path) =>
      Effect.gen(function*() {
        const entry = newEntry(key)
        const bytes = yield* Effect.promise(() =>
          fs.stat(path).then((stat) => fs.rename(path, entry.path).then(() => stat.size)).catch(() => undefined))
        if (bytes === undefined) return yield* remove(path)
        const earlier = entries.get(key)
        if (earlier !== undefined) yield* drop(earlier)
        entries.set(key, entry)
        stands(entry, bytes)
        yield* Deferred.succeed(entry.ready, undefined)
        yield* release(entry)
      }).pipe(Effect.uninterruptible),
    forget: (key) =>
      Effect.suspend(() => {
        const entry = entries.get(key)
        return entry === undefined ? Effect.void : drop(entry)
      })
  }
})
