/** Commits whose answer from the catalog is lost: what the client hears is what happened, or that nobody knows. */
import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Catalog, CatalogError } from "@voltlake/iceberg/Catalog"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { newTable, prepared } from "./RestCatalogContract.ts"
import * as Client from "./test/Client.ts"
import * as Engine from "./test/Engine.ts"

type Fault = "applied" | "not applied" | "gone"

const lost = (operation: string) => new CatalogError({ operation, outcome: "Unknown", retryable: true, reason: "connection reset" })
const down = (operation: string) => new CatalogError({ operation, outcome: "NotApplied", retryable: false, reason: "connection refused" })

/** Answers to `swap` and `createTable` are lost, once asked to; with `gone` the catalog cannot be asked any more either. */
const losing = (armed: { fault: Fault | undefined; isGone: boolean }) =>
  Layer.effect(Catalog, Effect.map(MemoryCatalog.make, (catalog) => {
    const through = <A, E>(operation: string, call: Effect.Effect<A, E>) =>
      Effect.suspend(() => {
        const { fault } = armed
        if (fault === undefined) return call
        armed.fault = undefined
        armed.isGone = fault === "gone"
        return Effect.zipRight(fault === "not applied" ? Effect.void : call, Effect.fail(lost(operation)))
      })
    return Catalog.of({
      ...catalog,
      swap: (swap) => through("swap", catalog.swap(swap)),
      createTable: (table, location) => through("createTable", catalog.createTable(table, location)),
      metadataLocation: (table) => (armed.isGone ? Effect.fail(down("metadataLocation")) : catalog.metadataLocation(table))
    })
  }))

const run = <A, E, R>(test: (armed: { fault: Fault | undefined; isGone: boolean }) => Effect.Effect<A, E, R>) => {
  const armed = { fault: undefined, isGone: false }
  return Effect.provide(test(armed), Tables.layer.pipe(Layer.provideMerge(Layer.merge(losing(armed), MemoryObjectStore.layer))))
}

for (const fault of ["applied", "not applied", "gone"] as const) {
  it.live(`a commit whose answer is lost (${fault}) is looked up, and applied once`, () =>
    run((armed) =>
      Effect.gen(function*() {
        const { load, path, post } = yield* prepared("n", ["t"])
        const metadata = yield* load("t")
        const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, "x", 1n)] })
        armed.fault = fault
        const first = yield* post(path("t"), Engine.onMain(metadata, snapshot))
        armed.isGone = false
        if (fault === "gone") expect([first.status, first.json.error.type]).toEqual([500, "CommitStateUnknownException"])
        else expect(first.status).toBe(200)
        const again = yield* post(path("t"), Engine.onMain(metadata, snapshot))
        expect(again.status).toBe(200)
        const after = yield* load("t")
        expect([after.currentSnapshotId, after.snapshots.length, after.metadataLog.length]).toEqual([snapshot.snapshotId, 1, 1])
      })))

  it.live(`a table whose making is not answered (${fault}) is looked up`, () =>
    run((armed) =>
      Effect.gen(function*() {
        const { ask, path, post } = yield* prepared("n", [])
        armed.fault = fault
        const answer = yield* post("/v1/namespaces/n/tables", newTable("t"))
        armed.isGone = false
        if (fault === "applied") expect(answer.status).toBe(200)
        else expect([answer.status, answer.json.error.type]).toEqual([500, "CommitStateUnknownException"])
        expect((yield* ask("HEAD", path("t"))).status).toBe(fault === "not applied" ? 404 : 204)
      })))
}

it.live("a commit that surely did not happen says so, and a read is never of unknown outcome", () =>
  run((armed) =>
    Effect.gen(function*() {
      const { load, path, post } = yield* prepared("n", ["t"])
      const metadata = yield* load("t")
      const snapshot = yield* Engine.snapshot(metadata, { operation: "append", added: [Engine.file(metadata, "x", 1n)] })
      const client = yield* Client.make()
      armed.isGone = true
      for (const answer of [yield* post(path("t"), Engine.onMain(metadata, snapshot)), yield* client.get(path("t"))]) {
        expect([answer.status, answer.json.error.type]).toEqual([503, "ServiceUnavailableException"])
      }
    })))
