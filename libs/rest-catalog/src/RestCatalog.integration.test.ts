/** The catalog as it is in production: PostgreSQL, and files below a folder. */
import { Effect, Layer } from "effect"
import { join } from "node:path"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import { contract } from "./RestCatalogContract.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)),
  Layer.provideMerge(TestPostgres.layer)
)

const localFiles = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse"))))

contract("PostgreSQL and local files", Layer.merge(catalog, localFiles))
