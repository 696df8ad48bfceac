/** What every ObjectStore must do: a suite to run over each adapter. */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Either, type Layer, Stream } from "effect"
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ObjectStore } from "./ObjectStore.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (body: Uint8Array) => new TextDecoder().decode(body)

const keysOf = (store: ObjectStore["Type"], prefix: string) =>
  Stream.runCollect(store.list(prefix)).pipe(
    Effect.map((found) => Chunk.toReadonlyArray(found).map((info) => info.key).sort())
  )

/** A local file to hand to `putFile`, in a folder of its own that goes with the scope. */
const localFile = (body: Uint8Array) =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake-contract-"))),
      (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
    )
    const path = join(folder, "part.parquet")
    yield* Effect.promise(() => writeFile(path, body))
    return path
  })

/** Registers the suite. `layer` makes a store of its own for each test. */
export const objectStoreContract = (name: string, layer: Layer.Layer<ObjectStore, unknown>): void => {
  const run = (title: string, body: Effect.Effect<void, unknown, ObjectStore>) =>
    it.live(title, () => Effect.provide(body, layer))

  describe(`ObjectStore contract: ${name}`, () => {
    run("answers the bytes that were put, and the last ones after another put", Effect.gen(function*() {
      const store = yield* ObjectStore
      const every = Uint8Array.from({ length: 256 }, (_, at) => at)
      yield* store.put("a/b/c.bin", every)
      expect(new Uint8Array(yield* store.get("a/b/c.bin"))).toEqual(every)
      yield* store.put("a/b/c.bin", new Uint8Array())
      expect((yield* store.get("a/b/c.bin")).length).toBe(0)
    }))

    run("answers the bytes of a range, as far as there are any", Effect.gen(function*() {
      const store = yield* ObjectStore
      yield* store.put("a/b", bytes("0123456789"))
      const cases: ReadonlyArray<readonly [start: number, end: number, expected: string]> = [
        [0, 10, "0123456789"], [3, 5, "34"], [9, 10, "9"], [8, 99, "89"], [10, 20, ""], [50, 60, ""], [4, 4, ""], [5, 4, ""]
      ]
      for (const [start, end, expected] of cases) expect(text(yield* store.range("a/b", start, end)), `${start} ${end}`).toBe(expected)
      yield* store.put("a/empty", new Uint8Array())
      expect((yield* store.range("a/empty", 0, 5)).length).toBe(0)
    }))

    run("says which object is missing", Effect.gen(function*() {
      const store = yield* ObjectStore
      yield* store.put("folder/x", bytes("x"))
      for (const key of ["nothing", "folder", "folder/x/below"]) {
        for (const call of [store.get(key), store.range(key, 0, 1), store.range(key, 1, 1), store.head(key), Effect.scoped(store.localFile(key))]) {
          const error = yield* Effect.flip(call as Effect.Effect<unknown, { readonly _tag: string }>)
          expect(error).toMatchObject({ _tag: "ObjectNotFound", location: store.location(key) })
        }
      }
    }))

    run("lets exactly one of many writers create a key", Effect.gen(function*() {
      const store = yield* ObjectStore
      const results = yield* Effect.forEach(
        Array.from({ length: 16 }, (_, at) => at),
        (at) => Effect.either(store.putIfAbsent("metadata/v2.json", bytes(`writer ${at}`))),
        { concurrency: "unbounded" }
      )
      const winners = results.flatMap((result, at) => (Either.isRight(result) ? [at] : []))
      expect(winners).toHaveLength(1)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("ObjectExists")
      expect(text(yield* store.get("metadata/v2.json"))).toBe(`writer ${winners[0]}`)
    }))

    run("moves a local file in, and leaves it alone where the key is taken", Effect.scoped(Effect.gen(function*() {
      const store = yield* ObjectStore
      const first = yield* localFile(bytes("first"))
      yield* store.putFile("data/day=2026-01-01/part.parquet", first)
      expect(yield* Effect.isFailure(Effect.tryPromise(() => access(first)))).toBe(true)
      const second = yield* localFile(bytes("second"))
      const error = yield* Effect.flip(store.putFile("data/day=2026-01-01/part.parquet", second))
      expect(error._tag).toBe("ObjectExists")
      expect(text(yield* store.get("data/day=2026-01-01/part.parquet"))).toBe("first")
      expect(text(yield* Effect.promise(() => readFile(second)))).toBe("second")
    })))

    run("hands out a local path with the object's bytes and ending", Effect.gen(function*() {
      const store = yield* ObjectStore
      yield* store.put("data/x.parquet", bytes("PAR1"))
      yield* Effect.scoped(Effect.gen(function*() {
        const path = yield* store.localFile("data/x.parquet")
        expect(path.endsWith(".parquet")).toBe(true)
        expect(text(yield* Effect.promise(() => readFile(path)))).toBe("PAR1")
      }))
      expect(text(yield* store.get("data/x.parquet"))).toBe("PAR1")
    }))

    run("hands out the last bytes of an object that was replaced, and none of one that was deleted", Effect.gen(function*() {
      const store = yield* ObjectStore
      const read = Effect.scoped(Effect.flatMap(store.localFile("data/x.parquet"), (path) => Effect.promise(() => readFile(path))))
      for (const body of ["one", "two"]) {
        yield* store.put("data/x.parquet", bytes(body))
        expect(text(yield* read)).toBe(body)
      }
      yield* store.delete("data/x.parquet")
      expect((yield* Effect.flip(read))._tag).toBe("ObjectNotFound")
    }))

    run("lists by prefix, also one that ends inside a name", Effect.gen(function*() {
      const store = yield* ObjectStore
      const keys = ["a/x1", "a/x2", "a/y", "a/x/deep/er", "ab", "b/x"]
      for (const key of keys) yield* store.put(key, bytes(key))
      expect(yield* keysOf(store, "")).toEqual([...keys].sort())
      expect(yield* keysOf(store, "a/")).toEqual(["a/x/deep/er", "a/x1", "a/x2", "a/y"])
      expect(yield* keysOf(store, "a/x")).toEqual(["a/x/deep/er", "a/x1", "a/x2"])
      expect(yield* keysOf(store, "a")).toEqual(["a/x/deep/er", "a/x1", "a/x2", "a/y", "ab"])
      expect(yield* keysOf(store, "nothing/here")).toEqual([])
    }))

    run("tells an object's size and time", Effect.gen(function*() {
      const store = yield* ObjectStore
      yield* store.put("sized", bytes("12345"))
      const info = yield* store.head("sized")
      expect(info).toMatchObject({ key: "sized", sizeBytes: 5 })
      expect(Number.isInteger(info.modifiedAtMs)).toBe(true)
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.list("sized")))).toEqual([info])
    }))

    run("deletes an object, and is content where there is none", Effect.gen(function*() {
      const store = yield* ObjectStore
      yield* store.put("gone/soon", bytes("x"))
      yield* store.delete("gone/soon")
      yield* store.delete("gone/soon")
      expect((yield* Effect.flip(store.get("gone/soon")))._tag).toBe("ObjectNotFound")
      yield* store.putIfAbsent("gone/soon", bytes("again"))
    }))

    run("refuses keys that would leave the store", Effect.gen(function*() {
      const store = yield* ObjectStore
      const long = "x".repeat(256)
      for (const key of ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\u0000b", "a\\b", long]) {
        const error = yield* Effect.flip(store.put(key, bytes("x")))
        expect(error).toMatchObject({ _tag: "ObjectStoreError", outcome: "NotApplied", retryable: false })
        expect((yield* Effect.flip(store.get(key)))._tag).toBe("ObjectStoreError")
        expect((yield* Effect.flip(store.delete(key)))._tag).toBe("ObjectStoreError")
      }
    }))

    run("translates keys to locations and back", Effect.gen(function*() {
      const store = yield* ObjectStore
      const key = "bronze/telemetry_raw/data/timestamp_day=2026-01-01/0-1.parquet"
      expect(store.location(key)).toMatch(/^[a-z0-9]+:\/\//)
      expect(store.keyOf(store.location(key))).toBe(key)
      expect(store.location(key)).toBe(`${store.location("")}/${key}`)
      expect(store.keyOf(`${store.location("")}-other/x`)).toBeUndefined()
      expect(store.keyOf("s3://lakehouse/x")).toBeUndefined()
      // No key ends in a slash: who asks for the folder of many asks without.
      expect(store.keyOf(`${store.location("bronze")}/`)).toBeUndefined()
    }))
  })
}
