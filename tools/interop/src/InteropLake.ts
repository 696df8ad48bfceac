/** A lake that other engines can open: tables in a local warehouse, the catalog in a PostgreSQL of its own, with gold beside it. */
import { Effect, Layer, Redacted } from "effect"
import { join } from "node:path"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import * as Tables from "@voltlake/iceberg/Tables"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { PostgresUrl } from "@voltlake/postgres/PostgresUrl"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as StageLake from "@voltlake/testing/StageLake"
import * as Engine from "./Engine.ts"
import type { EngineName, Program } from "./Installed.ts"
import * as OwnDigest from "./OwnDigest.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)),
  Layer.provideMerge(GoldLake.postgres)
)

const parts = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  Layer.mergeAll(
    LocalObjectStore.layer(join(folder, "warehouse")),
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 }),
    Layer.succeed(StageLake.Folder, folder)
  )))

/** For a test file. */
export const layer = Tables.layer.pipe(Layer.provideMerge(Layer.mergeAll(catalog, parts, MemoryEventLog.layer)))

/** The engine, with this lake open. */
export const engine = (name: EngineName, program: Program) =>
  Effect.gen(function*() {
    const store = yield* ObjectStore
    const uri = Redacted.value(yield* PostgresUrl)
    return yield* Engine.start(name, program, { uri, warehouse: store.location("") })
  })

/** The table `namespace.name` as the catalog has it now. */
export const load = (table: string) => Effect.flatMap(Tables.Tables, (tables) => tables.load(TableIdentifier.parse(table)))

/** Its rows as we read them. */
export const read = (table: string, options: OwnDigest.ReadOptions = {}) =>
  Effect.flatMap(load(table), ({ metadata }) => OwnDigest.read(metadata, options))
