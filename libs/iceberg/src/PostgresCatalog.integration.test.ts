import { PgClient } from "@effect/sql-pg"
import { expect, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as ActionContract from "./ActionContract.ts"
import { Catalog, commitChannel } from "./Catalog.ts"
import * as CatalogContract from "./CatalogContract.ts"
import * as CommitContract from "./CommitContract.ts"
import * as PostgresCatalog from "./PostgresCatalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(Effect.zipRight(PostgresCatalog.migrate, PostgresCatalog.migrate))),
  Layer.provideMerge(TestPostgres.layer)
)

const localFiles = Layer.unwrapScoped(
  Effect.map(temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse")))
)

CatalogContract.contract("PostgresCatalog", catalog)
CommitContract.contract("PostgreSQL and local files", Layer.merge(catalog, localFiles))
ActionContract.contract("PostgreSQL and local files", Layer.merge(catalog, localFiles))

layer(catalog, { excludeTestServices: true })("PostgresCatalog beyond the contract", (it) => {
  it.effect("wakes listeners with the tables' names once a swap is visible, and not for one that failed", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const catalog = yield* Catalog
      const table = TableIdentifier.make("woken", "t")
      yield* catalog.createTable(table, "0")
      const heard = yield* sql.listen(commitChannel).pipe(
        Stream.mapEffect((payload) =>
          Effect.map(catalog.metadataLocation(table), (location) => ({ payload, location }))
        ),
        Stream.take(1),
        Stream.runCollect,
        Effect.fork
      )
      const swap = (expected: string, next: string) => ({
        commitId: `woken-${next}`,
        tables: [{ table, expected, next, head: undefined }],
        unreferenced: []
      })
      // Until the listener is there nothing says so; a swap that it missed would make this test wait for ever.
      yield* Effect.sleep("500 millis")
      yield* Effect.flip(catalog.swap(swap("9", "10")))
      yield* catalog.swap(swap("0", "1"))
      expect(Array.from(yield* Fiber.join(heard))).toEqual([{ payload: "woken.t", location: "1" }])
    }))

  it.effect("is made ready by a process that starts while a commit is under way, without waiting for it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* (yield* Catalog).createTable(TableIdentifier.make("held", "t"), "0")
      const connection = yield* sql.reserve
      yield* connection.executeRaw("BEGIN", [])
      yield* connection.executeRaw("UPDATE iceberg_tables SET metadata_location = '1' WHERE table_namespace = 'held'", [])
      yield* connection.executeRaw("INSERT INTO lake.unreferenced_file VALUES ('held', now())", [])
      yield* PostgresCatalog.migrate.pipe(Effect.timeout("20 seconds"))
      yield* connection.executeRaw("ROLLBACK", [])
    }).pipe(Effect.scoped))

  it.effect("gives tables of the first layout what they lack", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`ALTER TABLE iceberg_tables DROP COLUMN iceberg_type`
      yield* sql`DROP INDEX lake.unreferenced_file_since`
      yield* PostgresCatalog.migrate
      const table = TableIdentifier.make("older", "t")
      yield* (yield* Catalog).createTable(table, "0")
      expect(yield* (yield* Catalog).metadataLocation(table)).toBe("0")
      expect(yield* sql`SELECT to_regclass('lake.unreferenced_file_since') IS NOT NULL AS there`).toEqual([{ there: true }])
    }))

  it.effect("has tables as other engines' catalogs find them", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const catalog = yield* Catalog
      yield* catalog.createNamespace("found")
      yield* catalog.createTable(TableIdentifier.make("found", "t"), "0")
      expect(yield* sql`SELECT * FROM iceberg_tables WHERE table_namespace = 'found'`).toEqual([{
        catalog_name: "lakehouse",
        table_namespace: "found",
        table_name: "t",
        metadata_location: "0",
        previous_metadata_location: null,
        iceberg_type: "TABLE"
      }])
      expect(yield* sql`SELECT * FROM iceberg_namespace_properties WHERE namespace = 'found'`).toEqual([
        { catalog_name: "lakehouse", namespace: "found", property_key: "exists", property_value: "true" }
      ])
    }))
})
