/** The catalog as it is in production: PostgreSQL, and files below a folder. */
import { SqlClient } from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { join } from "node:path"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import { contract, prepared } from "./RestCatalogContract.ts"
import * as Engine from "./test/Engine.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)),
  Layer.provideMerge(TestPostgres.layer)
)

const localFiles = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse"))))

contract("PostgreSQL and local files", Layer.merge(catalog, localFiles))

layer(Tables.layer.pipe(Layer.provideMerge(Layer.merge(catalog, localFiles))), { excludeTestServices: true })("the event log", (it) => {
  it.effect("has the commits of other engines, and warns of those that removed rows", () =>
    Effect.gen(function*() {
      const { load, path, post } = yield* prepared("noted", ["t"])
      const commit = (work: Engine.Work) =>
        Effect.gen(function*() {
          const metadata = yield* load("t")
          const { status } = yield* post(path("t"), Engine.onMain(metadata, yield* Engine.snapshot(metadata, work)))
          expect(status).toBe(200)
        })
      const file = Engine.file(yield* load("t"), "x", 3n)
      yield* commit({ operation: "append", added: [file], summary: { "added-records": "3", "added-data-files": "1", "engine-name": "spark" } })
      yield* commit({ operation: "delete", removed: [file.filePath], summary: { "deleted-records": "3", "deleted-data-files": "1", "engine-name": "spark" } })
      const events = yield* (yield* SqlClient)`SELECT severity, message FROM ops.events WHERE subject = 'noted.t' ORDER BY id`
      expect(events).toEqual([
        { severity: "INFO", message: "by spark: noted.t: append, 3 rows in 1 files added" },
        { severity: "WARNING", message: "by spark: noted.t: delete, 3 rows in 1 files taken out" }
      ])
    }))
})
