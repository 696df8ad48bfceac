import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Layer, Stream } from "effect"
import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { layer, make } from "./LocalObjectStore.ts"
import { objectStoreContract } from "./ObjectStoreContract.ts"

const temporaryRoot = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake store-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

objectStoreContract("local", Layer.unwrapScoped(Effect.map(temporaryRoot, (root) => layer(join(root, "warehouse")))))

describe("LocalObjectStore", () => {
  it.scopedLive("leaves no temporary file behind, whether a write succeeds or not", () =>
    Effect.gen(function*() {
      const root = yield* temporaryRoot
      const store = yield* make(root)
      yield* store.put("a", new Uint8Array(10))
      yield* Effect.flip(store.putIfAbsent("a", new Uint8Array(10)))
      yield* Effect.flip(store.put("a/below/a/file", new Uint8Array(10)))
      expect(yield* Effect.promise(() => readdir(join(root, ".tmp")))).toEqual([])
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.list(""))).map((info) => info.key)).toEqual(["a"])
    }))

  it.scopedLive("says in words what the file system refused", () =>
    Effect.gen(function*() {
      const root = yield* temporaryRoot
      const store = yield* make(root)
      yield* store.put("a", new Uint8Array(1))
      const below = yield* Effect.flip(store.put("a/b", new Uint8Array(1)))
      expect(below).toMatchObject({ _tag: "ObjectStoreError", outcome: "NotApplied", retryable: false })
      expect(below.message).toContain("a file stands where a folder is needed")
      const blocked = join(root, "blocked")
      yield* Effect.promise(() => writeFile(blocked, "x"))
      expect((yield* Effect.flip(make(join(blocked, "store")))).message).toContain("cannot be used")
      expect((yield* Effect.flip(make(join(root, "what?")))).message).toContain("has a ?")
    }))

  it.scopedLive("names objects by their plain absolute path, which other engines do not decode", () =>
    Effect.gen(function*() {
      const root = yield* temporaryRoot
      const store = yield* make(root)
      expect(store.location("bronze/x.parquet")).toBe(`file://${root}/bronze/x.parquet`)
      expect(store.keyOf(`file:${root}/bronze/x.parquet`)).toBe("bronze/x.parquet")
      expect(store.keyOf(`file://${root}/../etc/passwd`)).toBeUndefined()
    }))

  it.scopedLive("goes on where somebody removed a folder it had made", () =>
    Effect.gen(function*() {
      const root = yield* temporaryRoot
      const store = yield* make(root)
      yield* store.put("d/e/one", new Uint8Array(1))
      yield* Effect.promise(() => rm(join(root, "d"), { recursive: true }))
      yield* store.putIfAbsent("d/e/two", new Uint8Array(2))
      expect((yield* store.head("d/e/two")).sizeBytes).toBe(2)
    }))

  it.scopedLive("removes the temporary files of processes long dead, and no others", () =>
    Effect.gen(function*() {
      const root = yield* temporaryRoot
      const temporary = join(root, ".tmp")
      yield* Effect.promise(() => mkdir(temporary))
      for (const name of ["old", "new"]) yield* Effect.promise(() => writeFile(join(temporary, name), "x"))
      yield* Effect.promise(() => utimes(join(temporary, "old"), 1, 1))
      yield* make(root)
      expect(yield* Effect.promise(() => readdir(temporary))).toEqual(["new"])
    }))

  it.scopedLive("shows a reader whole objects only while a writer replaces them", () =>
    Effect.gen(function*() {
      const store = yield* make(yield* temporaryRoot)
      const body = (fill: number) => new Uint8Array(200_000).fill(fill)
      yield* store.put("x", body(0))
      const fills = Array.from({ length: 30 }, (_, at) => at + 1)
      const writer = Effect.forEach(fills, (fill) => store.put("x", body(fill)), { discard: true })
      const reader = Effect.gen(function*() {
        const read = yield* store.get("x")
        expect(read.length).toBe(200_000)
        expect(read.every((byte) => byte === read[0])).toBe(true)
      })
      yield* Effect.raceFirst(writer, Effect.forever(Effect.zipRight(reader, Effect.yieldNow())))
    }))

  it.scopedLive("copies a file in from another file system", () =>
    Effect.gen(function*() {
      // Where the machine has no second file system to write to, there is nothing to try.
      const other = "/dev/shm"
      const root = yield* temporaryRoot
      const found = yield* Effect.promise(() => stat(other).catch(() => undefined))
      const here = yield* Effect.promise(() => stat(root))
      if (found === undefined || found.dev === here.dev) return
      const folder = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(other, "voltlake-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      const source = join(folder, "part")
      yield* Effect.promise(() => writeFile(source, "abc"))
      const store = yield* make(root)
      yield* store.putFile("data/part", source)
      expect((yield* store.head("data/part")).sizeBytes).toBe(3)
      expect(yield* Effect.promise(() => readdir(folder))).toEqual([])
    }))
})
