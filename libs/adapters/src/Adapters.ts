/**
 * Which adapters stand behind the ports, by the settings. The one place beside the tests that names them.
 *
 * By default a lake is embedded: a PostgreSQL that ships with npm for log, catalog and gold, tables on the local file system. Each of the three goes
 * to a server of its own where the environment names one: `KAFKA_BOOTSTRAP_SERVERS`, `WAREHOUSE=s3://…`, `POSTGRES_URL`. DuckDB is in every process.
 *
 * The clients of Kafka and S3 are loaded where they are used, since loading them takes longer than most commands.
 */
import { NodeContext } from "@effect/platform-node"
import { Config, ConfigError, Effect, Either, Layer, Option, type Redacted } from "effect"
import { join } from "node:path"
import * as Wakeups from "@voltlake/connectors/Wakeups"
import * as KafkaSettings from "@voltlake/event-log/KafkaSettings"
import * as PostgresEventLog from "@voltlake/event-log/PostgresEventLog"
import * as GoldTables from "@voltlake/gold/GoldTables"
import * as PostgresCatalog from "@voltlake/iceberg/PostgresCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import type { StoreUnusable } from "@voltlake/object-store/LocalObjectStore"
import type { ObjectStore, ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import * as S3Settings from "@voltlake/object-store/S3Settings"
import * as RunTables from "@voltlake/orchestration/RunTables"
import * as Membership from "@voltlake/postgres/Membership"
import * as Migrations from "@voltlake/postgres/Migrations"
import * as Postgres from "@voltlake/postgres/Postgres"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import type { DataDir } from "./DataDir.ts"

export const postgresUrlConfig = Config.option(
  Config.redacted("POSTGRES_URL").pipe(
    Config.withDescription("postgres://user:password@host:port/database of a server to use in place of the embedded one")
  )
)

export const warehouseConfig: Config.Config<Option.Option<S3Settings.S3Warehouse>> = Config.option(
  Config.mapOrFail(
    Config.nonEmptyString("WAREHOUSE").pipe(
      Config.withDescription("s3://bucket/prefix below which tables lie. Without it they lie in the data directory")
    ),
    (location) => Either.mapLeft(S3Settings.parseWarehouse(location), (fault) => ConfigError.InvalidData(["WAREHOUSE"], fault))
  )
)

/** Every library's migrations, in the order of their needs. */
export const migrations: ReadonlyArray<Migrations.Migration> = [
  ...SessionLock.migrations,
  ...Membership.migrations,
  ...PostgresEventLog.migrations,
  ...GoldTables.migrations,
  ...OpsEvents.migrations,
  ...RunTables.migrations
]

interface S3 {
  readonly warehouse: S3Settings.S3Warehouse
  readonly settings: S3Settings.S3Settings
}

export interface AdapterSettings {
  readonly postgresUrl: Option.Option<Redacted.Redacted>
  readonly kafka: Option.Option<KafkaSettings.KafkaSettings>
  readonly s3: Option.Option<S3>
  readonly engine: DuckDbQueryEngine.DuckDbSettings
}

const s3Config: Config.Config<Option.Option<S3>> = Config.all({ warehouse: warehouseConfig, settings: S3Settings.settingsConfig }).pipe(
  Config.map(({ settings, warehouse }) => Option.map(warehouse, (found) => ({ warehouse: found, settings })))
)

/** Settings of S3 are only looked at where tables lie there: others' use of the same names is none of ours. */
export const settingsConfig: Effect.Effect<Config.Config<AdapterSettings>, ConfigError.ConfigError> = Effect.map(
  Config.option(Config.string("WAREHOUSE")),
  (warehouse) =>
    Config.all({
      postgresUrl: postgresUrlConfig,
      kafka: KafkaSettings.settingsConfig,
      s3: Option.isSome(warehouse) ? s3Config : Config.succeed(Option.none<S3>()),
      engine: DuckDbQueryEngine.settingsConfig
    })
)

const postgres = (dataDir: DataDir, url: AdapterSettings["postgresUrl"]) =>
  Option.isSome(url) ? Postgres.fromUrl(url.value) : Postgres.embedded(dataDir.path)

/** The database, with all tables there. */
const database = (dataDir: DataDir, { postgresUrl }: AdapterSettings) =>
  Layer.effectDiscard(Effect.zipRight(Migrations.run(migrations), PostgresCatalog.migrate)).pipe(
    Layer.provideMerge(postgres(dataDir, postgresUrl))
  )

const kafkaLog = (settings: KafkaSettings.KafkaSettings) =>
  Layer.unwrapEffect(Effect.map(Effect.promise(() => import("@voltlake/event-log/KafkaEventLog")), ({ layer: kafka }) => kafka(settings)))

const s3Store = ({ settings, warehouse }: S3, dataDir: DataDir) =>
  Layer.unwrapEffect(Effect.map(
    Effect.promise(() => import("@voltlake/object-store/S3ObjectStore")),
    ({ layer: s3 }) => s3(warehouse, join(dataDir.cache, "objects"), settings)
  ))

const objectStore = (dataDir: DataDir, { s3 }: AdapterSettings): Layer.Layer<ObjectStore, StoreUnusable | ObjectStoreError> =>
  Option.isSome(s3) ? s3Store(s3.value, dataDir) : LocalObjectStore.layer(dataDir.warehouse)

const eventLog = ({ kafka }: AdapterSettings) => (Option.isSome(kafka) ? kafkaLog(kafka.value) : PostgresEventLog.layer)

/** All ports of the lake. */
export const layer = (dataDir: DataDir, settings: AdapterSettings) =>
  Layer.mergeAll(
    eventLog(settings),
    Wakeups.layer,
    Tables.layer.pipe(
      Layer.provideMerge(PostgresCatalog.layer),
      Layer.provideMerge(objectStore(dataDir, settings))
    ),
    DuckDbQueryEngine.layer(dataDir.scratch, settings.engine)
  ).pipe(
    Layer.provideMerge(database(dataDir, settings)),
    Layer.provideMerge(NodeContext.layer)
  )
