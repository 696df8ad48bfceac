/**
 * The embedded default, put together: a PostgreSQL that ships with npm (or any by `POSTGRES_URL`) for log, catalog and gold, tables on the local
 * file system, DuckDB in this process. The one place beside the tests that names these adapters.
 */
import { NodeContext } from "@effect/platform-node"
import { Config, Effect, Layer, Option, type Redacted } from "effect"
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

export interface LakeSettings {
  readonly postgresUrl: Option.Option<Redacted.Redacted>
  readonly engine: DuckDbQueryEngine.DuckDbSettings
}

export const settingsConfig: Config.Config<LakeSettings> = Config.all({
  postgresUrl: postgresUrlConfig,
  engine: DuckDbQueryEngine.settingsConfig
})

const postgres = (dataDir: DataDir, url: LakeSettings["postgresUrl"]) =>
  Option.isSome(url) ? Postgres.fromUrl(url.value) : Postgres.embedded(dataDir.path)

/** The database, with all tables there. */
const database = (dataDir: DataDir, { postgresUrl }: LakeSettings) =>
  Layer.effectDiscard(Effect.zipRight(Migrations.run(migrations), PostgresCatalog.migrate)).pipe(
    Layer.provideMerge(postgres(dataDir, postgresUrl))
  )

/** All ports of the lake over the data directory. */
export const layer = (dataDir: DataDir, settings: LakeSettings) =>
  Layer.mergeAll(
    PostgresEventLog.layer,
    Wakeups.layer,
    Tables.layer.pipe(
      Layer.provideMerge(PostgresCatalog.layer),
      Layer.provideMerge(LocalObjectStore.layer(dataDir.warehouse))
    ),
    DuckDbQueryEngine.layer(dataDir.scratch, settings.engine)
  ).pipe(
    Layer.provideMerge(database(dataDir, settings)),
    Layer.provideMerge(NodeContext.layer)
  )
