/**
 * The embedded default, put together: a PostgreSQL that ships with npm (or any by `POSTGRES_URL`) for log, catalog and gold, tables on the local
 * file system, DuckDB in this process. The one place beside the tests that names these adapters.
 */
import { NodeContext } from "@effect/platform-node"
import { Config, Effect, Layer, Option } from "effect"
import * as Wakeups from "@voltlake/connectors/Wakeups"
import * as PostgresEventLog from "@voltlake/event-log/PostgresEventLog"
import * as GoldTables from "@voltlake/gold/GoldTables"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import * as Migrations from "@voltlake/postgres/Migrations"
import * as Postgres from "@voltlake/postgres/Postgres"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import type { DataDir } from "./DataDir.ts"

export const postgresUrlConfig = Config.option(
  Config.redacted("POSTGRES_URL").pipe(
    Config.withDescription("postgres://user:password@host:port/database of a server to use in place of the embedded one")
  )
)

/** Every library's migrations, in the order of their needs. */
export const migrations: ReadonlyArray<Migrations.Migration> = [
  ...SessionLock.migrations,
  ...PostgresEventLog.migrations,
  ...GoldTables.migrations
]

/** The database, with all tables there. */
const database = (dataDir: DataDir) =>
  Layer.effectDiscard(Effect.zipRight(Migrations.run(migrations), PostgresCatalog.migrate)).pipe(
    Layer.provideMerge(
      Layer.unwrapEffect(
        Effect.map(postgresUrlConfig, Option.match({
          onNone: () => Postgres.embedded(dataDir.path),
          onSome: (url) => Postgres.fromUrl(url)
        }))
      )
    )
  )

/** All ports of the lake over the data directory. */
export const layer = (dataDir: DataDir) =>
  Layer.mergeAll(
    PostgresEventLog.layer,
    Wakeups.layer,
    Tables.layer.pipe(
      Layer.provideMerge(PostgresCatalog.layer),
      Layer.provideMerge(LocalObjectStore.layer(dataDir.warehouse))
    ),
    Layer.unwrapEffect(Effect.map(DuckDbQueryEngine.settingsConfig(dataDir.scratch), DuckDbQueryEngine.layer))
  ).pipe(
    Layer.provideMerge(database(dataDir)),
    Layer.provideMerge(NodeContext.layer)
  )
