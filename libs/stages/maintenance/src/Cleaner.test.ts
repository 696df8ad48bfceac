import { describe, expect, layer } from "@effect/vitest"
import { Chunk, Duration, Effect, Layer, Stream, TestClock } from "effect"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Cleaner from "./Cleaner.ts"

const table = TableIdentifier.make("bronze", "t")

const keys = Effect.flatMap(ObjectStore, (store) => Effect.map(Stream.runCollect(store.list("")), (found) =>
  Chunk.toReadonlyArray(found).map((info) => info.key).sort()))

describe("Cleaner", () => {
  layer(Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer))((it) => {
    it.effect("deletes what no table names once the grace period is over, and nothing before or else", () =>
      Effect.gen(function*() {
        const catalog = yield* Catalog
        const store = yield* ObjectStore
        for (const key of ["a/old", "a/new", "a/named"]) yield* store.put(key, new Uint8Array([1]))
        yield* catalog.createNamespace("bronze")
        yield* catalog.createTable(table, "m0")
        const swap = (from: string, to: string, unreferenced: ReadonlyArray<string>) =>
          catalog.swap({
            commitId: to,
            tables: [{ table, expected: from, next: to, head: undefined }],
            unreferenced
          })
        yield* swap("m0", "m1", [store.location("a/old"), "s3://elsewhere/a/named"])
        const cleaner = yield* Cleaner.make({ gracePeriod: Duration.hours(1) })
        yield* TestClock.adjust(Duration.minutes(50))
        expect(yield* cleaner.step).toBe("idle")
        yield* swap("m1", "m2", [store.location("a/new")])
        yield* TestClock.adjust(Duration.minutes(15))
        expect(yield* cleaner.step).toBe("advanced")
        expect(yield* keys).toEqual(["a/named", "a/new"])
        expect(yield* cleaner.step).toBe("idle")
        yield* TestClock.adjust(Duration.minutes(50))
        yield* cleaner.step
        expect(yield* keys).toEqual(["a/named"])
        expect(yield* catalog.expiredFiles(0)).toEqual([])
      }))
  })
})
