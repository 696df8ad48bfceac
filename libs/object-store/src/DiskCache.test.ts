import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import * as DiskCache from "./DiskCache.ts"

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake-cache-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

/** Fetches files of 10 bytes, and counts how often. */
const source = () => {
  const fetched: Array<string> = []
  const fetch = (key: string) => (path: string) =>
    Effect.promise(() => writeFile(path, key.padEnd(10))).pipe(Effect.tap(() => void fetched.push(key)), Effect.as(10))
  return { fetched, fetch }
}

const stands = (path: string) => Effect.isSuccess(Effect.tryPromise(() => access(path)))
const read = (path: string) => Effect.promise(() => readFile(path, "utf8"))

describe("DiskCache", () => {
  it.scopedLive("fetches once for all who ask, and again only after it forgot", () =>
    Effect.gen(function*() {
      const cache = yield* DiskCache.make(yield* temporaryFolder, 100)
      const { fetch, fetched } = source()
      const use = Effect.scoped(Effect.flatMap(cache.use("a.parquet", fetch("a.parquet")), read))
      expect(yield* Effect.all([use, use, use], { concurrency: 3 })).toEqual(Array.from({ length: 3 }, () => "a.parquet "))
      yield* use
      expect(fetched).toHaveLength(1)
      yield* cache.forget("a.parquet")
      yield* use
      expect(fetched).toHaveLength(2)
    }))

  it.scopedLive("lets go of the least recently used, and never of one in use", () =>
    Effect.gen(function*() {
      const cache = yield* DiskCache.make(yield* temporaryFolder, 20)
      const { fetch, fetched } = source()
      const use = (key: string) => cache.use(key, fetch(key))
      yield* Effect.scoped(Effect.gen(function*() {
        const held = yield* use("held")
        for (const key of ["a", "b", "a", "c"]) yield* Effect.scoped(use(key))
        expect(yield* stands(held)).toBe(true)
        expect(yield* read(held)).toBe("held".padEnd(10))
      }))
      expect(fetched).toEqual(["held", "a", "b", "a", "c"])
      yield* Effect.scoped(use("c"))
      expect(fetched).toHaveLength(5)
    }))

  it.scopedLive("hands a forgotten file on to nobody, and leaves it to those who hold it", () =>
    Effect.gen(function*() {
      const cache = yield* DiskCache.make(yield* temporaryFolder, 100)
      const scope = yield* Scope.make()
      const old = yield* Scope.extend(cache.use("x", source().fetch("old")), scope)
      yield* cache.forget("x")
      expect(yield* Effect.scoped(Effect.flatMap(cache.use("x", source().fetch("new")), read))).toBe("new".padEnd(10))
      expect(yield* read(old)).toBe("old".padEnd(10))
      yield* Scope.close(scope, Exit.void)
      expect(yield* stands(old)).toBe(false)
    }))

  it.scopedLive("fails all who wait with a fetch's error, and tries anew for the next", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const cache = yield* DiskCache.make(folder, 100)
      const broken = (path: string) => Effect.zipRight(Effect.promise(() => writeFile(path, "half")), Effect.fail("broken"))
      const use = Effect.flip(Effect.scoped(cache.use("x", broken)))
      expect(yield* Effect.all([use, use], { concurrency: 2 })).toEqual(["broken", "broken"])
      const [own] = yield* Effect.promise(() => readdir(folder))
      expect(yield* Effect.promise(() => readdir(join(folder, own!)))).toEqual([])
      expect(yield* Effect.scoped(Effect.flatMap(cache.use("x", source().fetch("x")), read))).toBe("x".padEnd(10))
    }))

  it.scopedLive("lets one try again who holds on to a fetch that failed", () =>
    Effect.gen(function*() {
      const cache = yield* DiskCache.make(yield* temporaryFolder, 100)
      expect(yield* Effect.flip(cache.use("x", () => Effect.fail("broken")))).toBe("broken")
      expect(yield* Effect.flatMap(cache.use("x", source().fetch("x")), read)).toBe("x".padEnd(10))
    }))

  it.scopedLive("goes on with a fetch while anybody waits for it, and stops it when nobody does", () =>
    Effect.gen(function*() {
      const cache = yield* DiskCache.make(yield* temporaryFolder, 100)
      const begun = yield* Deferred.make<void>()
      const mayEnd = yield* Deferred.make<void>()
      const stopped = yield* Deferred.make<void>()
      const slow = (path: string) =>
        Deferred.succeed(begun, undefined).pipe(
          Effect.zipRight(Deferred.await(mayEnd)),
          Effect.zipRight(source().fetch("x")(path)),
          Effect.onInterrupt(() => Deferred.succeed(stopped, undefined))
        )
      const first = yield* Effect.fork(Effect.scoped(cache.use("x", slow)))
      yield* Deferred.await(begun)
      const second = yield* Effect.fork(Effect.scoped(Effect.flatMap(cache.use("x", () => Effect.die("it is under way")), read)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(mayEnd, undefined)
      expect(yield* Fiber.join(second)).toBe("x".padEnd(10))

      const alone = yield* Effect.fork(Effect.scoped(cache.use("y", () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined)))))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(alone)
      yield* Deferred.await(stopped)
      expect(yield* Effect.scoped(Effect.flatMap(cache.use("y", source().fetch("y")), read))).toBe("y".padEnd(10))
    }))

  it.scopedLive("takes a finished file in", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const cache = yield* DiskCache.make(join(folder, "cache"), 100)
      const path = join(folder, "part.parquet")
      yield* Effect.promise(() => writeFile(path, "bytes"))
      yield* cache.adopt("data/part.parquet", path)
      expect(yield* stands(path)).toBe(false)
      const cached = yield* cache.use("data/part.parquet", () => Effect.die("it is there"))
      expect(yield* read(cached)).toBe("bytes")
      expect(cached.endsWith("part.parquet")).toBe(true)
    }))

  it.scopedLive("fetches anew what somebody removed", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const cache = yield* DiskCache.make(folder, 100)
      const { fetch, fetched } = source()
      yield* Effect.scoped(cache.use("x", fetch("x")))
      for (const name of yield* Effect.promise(() => readdir(folder))) yield* Effect.promise(() => rm(join(folder, name), { recursive: true }))
      expect(yield* Effect.scoped(Effect.flatMap(cache.use("x", fetch("x")), read))).toBe("x".padEnd(10))
      expect(fetched).toHaveLength(2)
    }))

  it.scopedLive("removes its folder at the end, and at the start those of the dead alone", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const host = hostname().replace(/[^A-Za-z0-9.]/g, "_")
      // Our own id with another's name: a process of an earlier boot. Process 1 lives. Elsewhere nobody can be asked after.
      const names = { dead: `${host}-${process.pid}-abc`, living: `${host}-1-abc`, elsewhere: "elsewhere-1-abc", foreign: "notes" }
      for (const name of Object.values(names)) yield* Effect.promise(() => mkdir(join(folder, name)))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* DiskCache.make(folder, 100)
        yield* DiskCache.make(folder, 100)
        expect(yield* Effect.promise(() => readdir(folder))).toHaveLength(5)
      }))
      expect((yield* Effect.promise(() => readdir(folder))).sort()).toEqual([names.elsewhere, names.foreign, names.living].sort())
    }))
})
