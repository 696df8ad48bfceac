import { Effect, Layer } from "effect"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as CatalogContract from "./CatalogContract.ts"
import * as CommitContract from "./CommitContract.ts"
import * as PostgresCatalog from "./PostgresCatalog.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(Effect.zipRight(PostgresCatalog.migrate, PostgresCatalog.migrate))),
  Layer.provide(TestPostgres.layer)
)

const localFiles = Layer.unwrapScoped(
  Effect.map(TestPostgres.temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse")))
)

CatalogContract.contract("PostgresCatalog", catalog)
CommitContract.contract("PostgreSQL and local files", Layer.merge(catalog, localFiles))
