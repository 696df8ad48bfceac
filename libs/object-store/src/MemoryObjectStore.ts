/** Objects in this process's memory, for tests. Locations are `memory://store/<key>`; bytes are copied in and out. */
import { Clock, Effect, Layer, Stream } from "effect"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileFault } from "./FileFault.ts"
import { keyFault, prefixFault } from "./ObjectKey.ts"
import { ObjectExists, ObjectNotFound, ObjectStore, ObjectStoreError } from "./ObjectStore.ts"

const root = "memory://store/"

interface Held {
  readonly body: Uint8Array
  readonly modifiedAtMs: number
}

const refused = (operation: string, key: string, reason: string, retryable: boolean) =>
  new ObjectStoreError({ operation, location: root + key, outcome: "NotApplied", retryable, reason })

const checkKey = (operation: string, key: string) => {
  const fault = keyFault(key)
  return fault === undefined ? Effect.void : Effect.fail(refused(operation, key, fault, false))
}

const file = <A>(operation: string, key: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => {
      const fault = fileFault(cause)
      return refused(operation, key, fault.reason, fault.retryable)
    }
  })

/** A new, empty store. */
export const make = Effect.sync((): ObjectStore["Type"] => {
  const objects = new Map<string, Held>()

  const find = (operation: string, key: string) =>
    Effect.flatMap(checkKey(operation, key), () => {
      const held = objects.get(key)
      return held === undefined ? Effect.fail(new ObjectNotFound({ location: root + key })) : Effect.succeed(held)
    })

  const write = (key: string, body: Uint8Array) =>
    Effect.map(Clock.currentTimeMillis, (modifiedAtMs) => void objects.set(key, { body: body.slice(), modifiedAtMs }))

  const putIfAbsent = Effect.fn("MemoryObjectStore.putIfAbsent")(function*(key: string, body: Uint8Array) {
    yield* checkKey("putIfAbsent", key)
    if (objects.has(key)) return yield* new ObjectExists({ location: root + key })
    yield* write(key, body)
  })

  return {
    location: (key) => (key === "" ? root.slice(0, -1) : root + key),
    keyOf: (location) => {
      if (!location.startsWith(root)) return undefined
      const key = location.slice(root.length)
      return keyFault(key) === undefined ? key : undefined
    },
    get: Effect.fn("MemoryObjectStore.get")((key: string) => Effect.map(find("get", key), (held) => held.body.slice())),
    range: Effect.fn("MemoryObjectStore.range")((key: string, start: number, end: number) =>
      Effect.map(find("range", key), (held) => held.body.slice(start, Math.max(start, end)))
    ),
    put: Effect.fn("MemoryObjectStore.put")((key: string, body: Uint8Array) =>
      Effect.zipRight(checkKey("put", key), write(key, body))
    ),
    putIfAbsent,
    putFile: Effect.fn("MemoryObjectStore.putFile")(function*(key: string, path: string) {
      yield* checkKey("putFile", key)
      const body = yield* file("putFile", key, () => readFile(path))
      yield* putIfAbsent(key, body)
      yield* file("putFile", key, () => rm(path))
    }),
    localFile: Effect.fn("MemoryObjectStore.localFile")(function*(key: string) {
      const held = yield* find("localFile", key)
      const folder = yield* Effect.acquireRelease(
        file("localFile", key, () => mkdtemp(join(tmpdir(), "voltlake-object-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      // The name keeps its ending, by which engines tell Parquet from JSON.
      const path = join(folder, key.slice(key.lastIndexOf("/") + 1))
      yield* file("localFile", key, () => writeFile(path, held.body))
      return path
    }),
    head: Effect.fn("MemoryObjectStore.head")((key: string) =>
      Effect.map(find("head", key), (held) => ({ key, sizeBytes: held.body.length, modifiedAtMs: held.modifiedAtMs }))
    ),
    list: (prefix) =>
      Stream.suspend(() => {
        const fault = prefixFault(prefix)
        if (fault !== undefined) return Stream.fail(refused("list", prefix, fault, false))
        return Stream.fromIterable(
          Array.from(objects)
            .filter(([key]) => key.startsWith(prefix))
            .map(([key, held]) => ({ key, sizeBytes: held.body.length, modifiedAtMs: held.modifiedAtMs }))
        )
      }),
    delete: Effect.fn("MemoryObjectStore.delete")((key: string) =>
      Effect.map(checkKey("delete", key), () => void objects.delete(key))
    )
  }
})

export const layer: Layer.Layer<ObjectStore> = Layer.effect(ObjectStore, make)
