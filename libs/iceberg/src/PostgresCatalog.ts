/**
 * The catalog in PostgreSQL, in the layout that Iceberg's JdbcCatalog (schema version V1) and PyIceberg's SqlCatalog read and write: they open the
 * tables of the catalog `lakehouse` directly. What is ours alone lies in the schema `lake`.
 *
 * A retired commit and a swap meet at an advisory lock of the commit's id, so that a commit is either seen by who retired it, or refused.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { SqlError as SqlErrorClass } from "@effect/sql/SqlError"
import { SqlClient } from "@effect/sql/SqlClient"
import { Duration, Effect, Layer, Schedule } from "effect"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import { PostgresUrl } from "@voltlake/postgres/PostgresUrl"
import { faultOf } from "@voltlake/postgres/SqlFault"
import { CommitUnknown, transaction as inTransaction } from "@voltlake/postgres/Transaction"
import type { Properties, PropertiesChange, Swap, TableHead, TableSwap } from "./Catalog.ts"
import {
  Catalog,
  CatalogError,
  commitChannel,
  CommitConflict,
  CommitRetired,
  expiredFilesMax,
  NamespaceAlreadyExists,
  NamespaceNotEmpty,
  NamespaceNotFound,
  TableAlreadyExists,
  TableNotFound
} from "./Catalog.ts"
import * as RandomId from "./internal/RandomId.ts"
import * as PostgresTurn from "./PostgresTurn.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

/** The catalog's name, under which other engines open it. */
export const catalogName = "lakehouse"

/** Any number that no other advisory lock of the database has. */
const migrationLock = 7_302_471_001
const insertRowsMax = 1000

const statements = [
  `CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name varchar(255) NOT NULL,
    table_namespace varchar(255) NOT NULL,
    table_name varchar(255) NOT NULL,
    metadata_location varchar(1000),
    previous_metadata_location varchar(1000),
    iceberg_type varchar(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name))`,
  `CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name varchar(255) NOT NULL,
    namespace varchar(255) NOT NULL,
    property_key varchar(255) NOT NULL,
    property_value varchar(1000),
    PRIMARY KEY (catalog_name, namespace, property_key))`,
  `CREATE SCHEMA IF NOT EXISTS lake`,
  `CREATE TABLE IF NOT EXISTS lake.table_head (
    table_name text PRIMARY KEY,
    snapshot_id bigint NOT NULL,
    position jsonb,
    commit_id text NOT NULL,
    updated_at timestamptz NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS lake.table_rewind (
    table_name text NOT NULL,
    epoch int NOT NULL,
    from_position jsonb NOT NULL,
    to_position jsonb NOT NULL,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (table_name, epoch))`,
  `CREATE TABLE IF NOT EXISTS lake.unreferenced_file (location text PRIMARY KEY, since timestamptz NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS lake.retired_commit (commit_id text PRIMARY KEY)`,
  `CREATE TABLE IF NOT EXISTS lake.lease (
    id text PRIMARY KEY,
    purpose text NOT NULL,
    since timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL)`
]

/**
 * Statements that lock their table even where they find nothing to do: each process that starts would wait for the commits under way, and keep the next ones
 * waiting. So they are run only where what they make is not there.
 */
const lockingStatements = [
  // Other parts of a lake make it with their tables; a catalog alone has it too.
  { isThere: "to_regclass('ops.events') IS NOT NULL", statement: OpsEvents.tableSql },
  {
    isThere: "to_regclass('lake.unreferenced_file_since') IS NOT NULL",
    statement: "CREATE INDEX IF NOT EXISTS unreferenced_file_since ON lake.unreferenced_file (since)"
  },
  {
    // Catalogs of the first layout had no type of entry.
    isThere: "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'iceberg_tables'::regclass AND attname = 'iceberg_type' AND NOT attisdropped)",
    statement: "ALTER TABLE iceberg_tables ADD COLUMN IF NOT EXISTS iceberg_type varchar(5)"
  }
]

const catalogError = (operation: string, error: SqlError, outcome = faultOf(error).outcome): CatalogError => {
  const { reason, retryable } = faultOf(error)
  return new CatalogError({ operation, outcome, retryable, reason })
}

/** For a read, or one statement outside a transaction. */
const orCatalogError = (operation: string) =>
<A, E, R>(effect: Effect.Effect<A, E | SqlError, R>): Effect.Effect<A, Exclude<E, SqlError> | CatalogError, R> =>
  Effect.mapError(effect, (error) =>
    error instanceof SqlErrorClass ? catalogError(operation, error) : error as Exclude<E, SqlError>)

/** A transaction whose failure says what became of it: before COMMIT was sent nothing was applied; after, only the server's answer counts. */
const transaction = (sql: SqlClient, operation: string) =>
<A, E, R>(body: Effect.Effect<A, E | SqlError, R>): Effect.Effect<A, Exclude<E, SqlError> | CatalogError, R> =>
  inTransaction(body).pipe(
    Effect.provideService(SqlClient, sql),
    Effect.mapError((error): Exclude<E, SqlError> | CatalogError => {
      if (error instanceof SqlErrorClass) return catalogError(operation, error, "NotApplied")
      if (error instanceof CommitUnknown) {
        return new CatalogError({ operation, outcome: "Unknown", retryable: true, reason: error.reason })
      }
      return error as Exclude<E, SqlError>
    })
  ) as Effect.Effect<A, Exclude<E, SqlError> | CatalogError, R>

/** Makes what the catalog needs, where it is not there. Safe to run at every start, and by many at once. */
export const migrate: Effect.Effect<void, CatalogError, SqlClient> = Effect.flatMap(SqlClient, (sql) =>
  Effect.gen(function*() {
    yield* sql`SELECT pg_advisory_xact_lock(${migrationLock})`
    for (const statement of statements) yield* sql.unsafe(statement)
    for (const { isThere, statement } of lockingStatements) {
      const [found] = yield* sql.unsafe<{ readonly there: boolean }>(`SELECT ${isThere} AS there`)
      if (found?.there !== true) yield* sql.unsafe(statement)
    }
  }).pipe(transaction(sql, "migrate"))).pipe(Effect.withSpan("PostgresCatalog.migrate"))

const isTable = `(iceberg_type = 'TABLE' OR iceberg_type IS NULL)`

const swapTable = (sql: SqlClient, swap: TableSwap) =>
  Effect.gen(function*() {
    const { namespace, name } = swap.table
    const moved = yield* sql`
      UPDATE iceberg_tables SET metadata_location = ${swap.next}, previous_metadata_location = ${swap.expected}
      WHERE catalog_name = ${catalogName} AND table_namespace = ${namespace} AND table_name = ${name}
        AND metadata_location = ${swap.expected}
      RETURNING 1`
    if (moved.length === 1) return
    const found = yield* sql<{ readonly metadata_location: string }>`
      SELECT metadata_location FROM iceberg_tables
      WHERE catalog_name = ${catalogName} AND table_namespace = ${namespace} AND table_name = ${name}`
    return yield* new CommitConflict({
      table: TableIdentifier.render(swap.table),
      expected: swap.expected,
      found: found[0]?.metadata_location
    })
  })

/** One statement: both parts of it see the head as it was before. */
const writeHeads = (sql: SqlClient, commitId: string, tables: ReadonlyArray<TableSwap>) =>
  Effect.forEach(tables, ({ head, table }) =>
    head === undefined ? Effect.void : Effect.asVoid(sql`
      WITH found AS (SELECT coalesce(${head.found ?? null}::jsonb, '{}') AS position), noted AS (
        INSERT INTO lake.table_rewind (table_name, epoch, from_position, to_position, noted_at)
        SELECT head.table_name, (SELECT count(*) + 1 FROM lake.table_rewind AS before WHERE before.table_name = head.table_name),
          head.position, found.position, now()
        FROM lake.table_head AS head, found
        WHERE head.table_name = ${TableIdentifier.render(table)} AND EXISTS (
          SELECT 1 FROM jsonb_each_text(head.position) AS reached
          WHERE reached.value::bigint > coalesce((found.position ->> reached.key)::bigint, 0)))
      INSERT INTO lake.table_head (table_name, snapshot_id, position, commit_id, updated_at)
      VALUES (${TableIdentifier.render(table)}, ${String(head.snapshotId)}::bigint,
        ${head.position ?? null}::jsonb, ${commitId}, now())
      ON CONFLICT (table_name) DO UPDATE SET snapshot_id = excluded.snapshot_id, position = excluded.position,
        commit_id = excluded.commit_id, updated_at = excluded.updated_at`), { discard: true })

const chunks = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(items.length / insertRowsMax) }, (_, index) =>
    items.slice(index * insertRowsMax, (index + 1) * insertRowsMax))

const writeUnreferenced = (sql: SqlClient, locations: ReadonlyArray<string>) =>
  Effect.forEach(chunks(locations), (chunk) =>
    sql`
      INSERT INTO lake.unreferenced_file (location, since)
      SELECT location, now()
      FROM (VALUES ${sql.csv(chunk.map((location) => sql`(${location}::text)`))}) AS gone (location)
      ON CONFLICT (location) DO NOTHING`, { discard: true })

const swapAll = (sql: SqlClient, { commitId, event, tables, unreferenced }: Swap) =>
  Effect.gen(function*() {
    const sorted = [...tables].sort((a, b) => TableIdentifier.order(a.table, b.table))
    yield* sql`SELECT pg_advisory_xact_lock_shared(hashtextextended(${commitId}, 0))`
    const retired = yield* sql`SELECT 1 FROM lake.retired_commit WHERE commit_id = ${commitId}`
    if (retired.length > 0) return yield* new CommitRetired({ commitId })
    for (const swap of sorted) yield* swapTable(sql, swap)
    yield* writeHeads(sql, commitId, sorted)
    yield* writeUnreferenced(sql, unreferenced)
    const names = sorted.map(({ table }) => TableIdentifier.render(table)).join(",")
    // With the event by one statement: each is a round trip of every commit.
    yield* event === undefined
      ? sql`SELECT pg_notify(${commitChannel}, ${names})`
      : OpsEvents.add({ kind: OpsEvents.commitKind, ...event }, { channel: commitChannel, payload: names })
  }).pipe(transaction(sql, "swap"), Effect.provideService(SqlClient, sql))

const createTable = (sql: SqlClient, table: TableIdentifier.TableIdentifier, metadataLocation: string) =>
  sql`
    INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, iceberg_type)
    VALUES (${catalogName}, ${table.namespace}, ${table.name}, ${metadataLocation}, 'TABLE')
    ON CONFLICT DO NOTHING RETURNING 1`.pipe(
    orCatalogError("createTable"),
    Effect.filterOrFail(
      (rows) => rows.length === 1,
      () => new TableAlreadyExists({ table: TableIdentifier.render(table) })
    ),
    Effect.asVoid
  )

/** Says that a namespace is there which has no properties; other writers of the layout leave it too. */
const existsKey = "exists"

/** Changes of one namespace follow each other. */
const lockNamespace = (sql: SqlClient, namespace: string) =>
  sql`SELECT pg_advisory_xact_lock(hashtextextended(${`namespace ${namespace}`}, 0))`

const namespaceProperties = (sql: SqlClient, namespace: string) =>
  Effect.gen(function*() {
    const rows = yield* sql<{ readonly key: string | null; readonly value: string | null }>`
      SELECT property_key AS key, property_value AS value FROM iceberg_namespace_properties
      WHERE catalog_name = ${catalogName} AND namespace = ${namespace}
      UNION ALL SELECT NULL, NULL FROM iceberg_tables WHERE catalog_name = ${catalogName} AND table_namespace = ${namespace}`
    if (rows.length === 0) return yield* new NamespaceNotFound({ namespace })
    const own = rows.filter((row) => row.key !== null && row.key !== existsKey)
    return Object.fromEntries(own.map(({ key, value }) => [key!, value ?? ""])) as Properties
  })

const writeProperties = (sql: SqlClient, namespace: string, properties: Properties) =>
  Effect.forEach(Object.entries(properties), ([key, value]) =>
    sql`
      INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)
      VALUES (${catalogName}, ${namespace}, ${key}, ${value})
      ON CONFLICT (catalog_name, namespace, property_key) DO UPDATE SET property_value = excluded.property_value`, { discard: true })

const newNamespace = (sql: SqlClient, namespace: string, properties: Properties) =>
  Effect.gen(function*() {
    yield* lockNamespace(sql, namespace)
    const isNew = yield* Effect.isFailure(namespaceProperties(sql, namespace))
    if (!isNew) return yield* new NamespaceAlreadyExists({ namespace })
    yield* writeProperties(sql, namespace, { ...properties, [existsKey]: "true" })
  }).pipe(transaction(sql, "newNamespace"))

const changeNamespace = (sql: SqlClient, namespace: string, { removals, updates }: PropertiesChange) =>
  Effect.gen(function*() {
    yield* lockNamespace(sql, namespace)
    const before = yield* namespaceProperties(sql, namespace)
    yield* Effect.forEach(removals.filter((key) => key !== existsKey), (key) =>
      sql`
        DELETE FROM iceberg_namespace_properties
        WHERE catalog_name = ${catalogName} AND namespace = ${namespace} AND property_key = ${key}`, { discard: true })
    // What is left must still say that the namespace is there.
    yield* writeProperties(sql, namespace, { ...updates, [existsKey]: "true" })
    return before
  }).pipe(transaction(sql, "changeNamespace"))

const dropNamespace = (sql: SqlClient, namespace: string) =>
  Effect.gen(function*() {
    yield* lockNamespace(sql, namespace)
    yield* namespaceProperties(sql, namespace)
    const tables = yield* sql`
      SELECT 1 FROM iceberg_tables WHERE catalog_name = ${catalogName} AND table_namespace = ${namespace} LIMIT 1`
    if (tables.length > 0) return yield* new NamespaceNotEmpty({ namespace })
    yield* sql`DELETE FROM iceberg_namespace_properties WHERE catalog_name = ${catalogName} AND namespace = ${namespace}`
  }).pipe(transaction(sql, "dropNamespace"))

const dropTable = (sql: SqlClient, table: TableIdentifier.TableIdentifier, unreferenced: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const name = TableIdentifier.render(table)
    const dropped = yield* sql`
      DELETE FROM iceberg_tables
      WHERE catalog_name = ${catalogName} AND table_namespace = ${table.namespace} AND table_name = ${table.name} AND ${sql.unsafe(isTable)}
      RETURNING 1`
    if (dropped.length === 0) return yield* new TableNotFound({ table: name })
    yield* sql`DELETE FROM lake.table_head WHERE table_name = ${name}`
    yield* sql`DELETE FROM lake.table_rewind WHERE table_name = ${name}`
    yield* writeUnreferenced(sql, unreferenced)
  }).pipe(transaction(sql, "dropTable"))

const renameTable = (sql: SqlClient, from: TableIdentifier.TableIdentifier, to: TableIdentifier.TableIdentifier) =>
  Effect.gen(function*() {
    const [old, name] = [TableIdentifier.render(from), TableIdentifier.render(to)]
    // Copied, not updated: a name that is taken is then no error of the database.
    const copied = yield* sql`
      INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, previous_metadata_location, iceberg_type)
      SELECT catalog_name, ${to.namespace}, ${to.name}, metadata_location, previous_metadata_location, iceberg_type FROM iceberg_tables
      WHERE catalog_name = ${catalogName} AND table_namespace = ${from.namespace} AND table_name = ${from.name} AND ${sql.unsafe(isTable)}
      FOR UPDATE ON CONFLICT DO NOTHING RETURNING 1`
    if (copied.length === 0) {
      yield* metadataLocation(sql, from)
      return yield* new TableAlreadyExists({ table: name })
    }
    yield* sql`
      DELETE FROM iceberg_tables
      WHERE catalog_name = ${catalogName} AND table_namespace = ${from.namespace} AND table_name = ${from.name}`
    yield* sql`UPDATE lake.table_head SET table_name = ${name} WHERE table_name = ${old}`
    yield* sql`UPDATE lake.table_rewind SET table_name = ${name} WHERE table_name = ${old}`
  }).pipe(transaction(sql, "renameTable"))

/** Renewed well before it counts as lost. */
const leaseRenewEvery = Duration.seconds(15)
const leaseLostSeconds = 60

const lease = (sql: SqlClient, purpose: string) =>
  Effect.gen(function*() {
    const id = yield* RandomId.uuid
    yield* Effect.acquireRelease(
      sql`
        WITH lost AS (DELETE FROM lake.lease WHERE renewed_at < now() - ${leaseLostSeconds}::int * interval '1 second')
        INSERT INTO lake.lease (id, purpose, since, renewed_at) VALUES (${id}, ${purpose}, now(), now())`.pipe(orCatalogError("lease")),
      () => Effect.ignore(sql`DELETE FROM lake.lease WHERE id = ${id}`)
    )
    // One that could not be renewed is tried again: until it is lost nothing happens.
    yield* Effect.ignore(sql`UPDATE lake.lease SET renewed_at = now() WHERE id = ${id}`).pipe(
      Effect.repeat(Schedule.spaced(leaseRenewEvery)),
      Effect.forkScoped
    )
  })

const metadataLocation = (sql: SqlClient, table: TableIdentifier.TableIdentifier) =>
  sql<{ readonly metadata_location: string }>`
    SELECT metadata_location FROM iceberg_tables
    WHERE catalog_name = ${catalogName} AND table_namespace = ${table.namespace} AND table_name = ${table.name}
      AND ${sql.unsafe(isTable)}`.pipe(
    orCatalogError("metadataLocation"),
    Effect.flatMap(([row]) =>
      row === undefined
        ? Effect.fail(new TableNotFound({ table: TableIdentifier.render(table) }))
        : Effect.succeed(row.metadata_location)
    )
  )

const heads = (sql: SqlClient) =>
  sql<{
    readonly table_name: string
    readonly snapshot_id: string
    readonly position: string | null
    readonly commit_id: string
  }>`SELECT table_name, snapshot_id::text, position::text, commit_id FROM lake.table_head`.pipe(
    orCatalogError("heads"),
    Effect.map((rows) =>
      rows.map((row): TableHead => ({
        table: TableIdentifier.parse(row.table_name),
        snapshotId: BigInt(row.snapshot_id),
        position: row.position ?? undefined,
        commitId: row.commit_id
      }))
    )
  )

const retire = (sql: SqlClient, commitIds: ReadonlyArray<string>) =>
  Effect.forEach([...commitIds].sort(), (commitId) =>
    sql`SELECT pg_advisory_xact_lock(hashtextextended(${commitId}, 0))`.pipe(
      Effect.zipRight(sql`INSERT INTO lake.retired_commit (commit_id) VALUES (${commitId}) ON CONFLICT DO NOTHING`),
      transaction(sql, "retire")
    ), { discard: true })

export const make: Effect.Effect<typeof Catalog.Service, never, SqlClient | PostgresUrl> = Effect.map(Effect.all([SqlClient, PostgresUrl]), ([sql, url]) =>
  Catalog.of({
    createNamespace: Effect.fn("PostgresCatalog.createNamespace")((namespace: string) =>
      sql`
        INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)
        VALUES (${catalogName}, ${namespace}, 'exists', 'true') ON CONFLICT DO NOTHING`.pipe(
        orCatalogError("createNamespace"),
        Effect.asVoid
      )
    ),
    namespaces: sql<{ readonly namespace: string }>`
      SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ${catalogName}
      UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ${catalogName} ORDER BY 1`.pipe(
      orCatalogError("namespaces"),
      Effect.map((rows) => rows.map((row) => row.namespace))
    ),
    newNamespace: Effect.fn("PostgresCatalog.newNamespace")((namespace: string, properties: Properties) =>
      newNamespace(sql, namespace, properties)
    ),
    namespaceProperties: Effect.fn("PostgresCatalog.namespaceProperties")((namespace: string) =>
      namespaceProperties(sql, namespace).pipe(orCatalogError("namespaceProperties"))
    ),
    changeNamespace: Effect.fn("PostgresCatalog.changeNamespace")((namespace: string, change: PropertiesChange) =>
      changeNamespace(sql, namespace, change)
    ),
    dropNamespace: Effect.fn("PostgresCatalog.dropNamespace")((namespace: string) => dropNamespace(sql, namespace)),
    dropTable: Effect.fn("PostgresCatalog.dropTable")((table: TableIdentifier.TableIdentifier, unreferenced: ReadonlyArray<string>) =>
      dropTable(sql, table, unreferenced)
    ),
    renameTable: Effect.fn("PostgresCatalog.renameTable")((from: TableIdentifier.TableIdentifier, to: TableIdentifier.TableIdentifier) =>
      renameTable(sql, from, to)
    ),
    list: sql<{ readonly namespace: string; readonly name: string }>`
      SELECT table_namespace AS namespace, table_name AS name FROM iceberg_tables
      WHERE catalog_name = ${catalogName} AND ${sql.unsafe(isTable)}
      ORDER BY table_namespace COLLATE "C", table_name COLLATE "C"`.pipe(orCatalogError("list")),
    metadataLocation: Effect.fn("PostgresCatalog.metadataLocation")((table: TableIdentifier.TableIdentifier) =>
      metadataLocation(sql, table)
    ),
    createTable: Effect.fn("PostgresCatalog.createTable")((table: TableIdentifier.TableIdentifier, location: string) =>
      createTable(sql, table, location)
    ),
    swap: Effect.fn("PostgresCatalog.swap")((swap: Swap) => swapAll(sql, swap)),
    turn: PostgresTurn.make(sql, url),
    heads: heads(sql),
    epoch: Effect.fn("PostgresCatalog.epoch")((table: TableIdentifier.TableIdentifier) =>
      sql<{ readonly epoch: number }>`
        SELECT count(*)::int AS epoch FROM lake.table_rewind WHERE table_name = ${TableIdentifier.render(table)}`.pipe(
        orCatalogError("epoch"),
        Effect.map((rows) => rows[0]?.epoch ?? 0)
      )
    ),
    retire: Effect.fn("PostgresCatalog.retire")((commitIds: ReadonlyArray<string>) => retire(sql, commitIds)),
    lease: Effect.fn("PostgresCatalog.lease")((purpose: string) => lease(sql, purpose)),
    expiredFiles: Effect.fn("PostgresCatalog.expiredFiles")((ageMs: number) =>
      sql<{ readonly location: string }>`
        SELECT location FROM lake.unreferenced_file WHERE since <= now() - ${ageMs}::bigint * interval '1 millisecond'
          AND since < ALL (SELECT lease.since FROM lake.lease WHERE renewed_at > now() - ${leaseLostSeconds}::int * interval '1 second')
        ORDER BY since LIMIT ${expiredFilesMax}`.pipe(
        orCatalogError("expiredFiles"),
        Effect.map((rows) => rows.map((row) => row.location))
      )
    ),
    unreference: Effect.fn("PostgresCatalog.unreference")((locations: ReadonlyArray<string>) =>
      writeUnreferenced(sql, locations).pipe(orCatalogError("unreference"))
    ),
    forgetFiles: Effect.fn("PostgresCatalog.forgetFiles")((locations: ReadonlyArray<string>) =>
      Effect.forEach(chunks(locations), (chunk) =>
        sql`DELETE FROM lake.unreferenced_file WHERE location IN ${sql.in(chunk)}`, { discard: true }).pipe(
          orCatalogError("forgetFiles")
        )
    )
  }))

/** Needs a database in which {@link migrate} has run. */
export const layer: Layer.Layer<Catalog, never, SqlClient | PostgresUrl> = Layer.effect(Catalog, make)
