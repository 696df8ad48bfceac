/**
 * `voltlake sql`: one statement over the lake's tables, reading only. Bronze and silver are read from their current snapshots; gold's tables are
 * fetched from PostgreSQL when the statement names them. The statement can reach no files but the tables'.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Schema } from "effect"
import type { DataDir } from "@voltlake/adapters/DataDir"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { lakeTables, qualifiedName } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

/** Where PostgreSQL has what is `gold.<name>` here, if it has it. */
const goldSource = Effect.fnUntraced(function*(name: string) {
  const sql = yield* PgClient.PgClient
  const table = name === "gold.vehicle_latest" ? "vehicle_latest" : name.replace(".", "_")
  const found = yield* sql`SELECT 1 FROM information_schema.tables WHERE table_schema = 'public' AND table_name = ${table}`
  return found.length === 0 ? undefined : table
})

export class NotReadOnly extends Schema.TaggedError<NotReadOnly>()("NotReadOnly", { sql: Schema.String, reason: Schema.String }) {
  override get message() {
    return `only one statement that reads can be run (SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN of these): ${this.reason}, in: ${
      this.sql.slice(0, 80)
    }`
  }
}

const pgTypes: Readonly<Record<string, string>> = {
  text: "VARCHAR",
  bigint: "BIGINT",
  integer: "INTEGER",
  boolean: "BOOLEAN",
  numeric: "DECIMAL(38, 6)",
  "double precision": "DOUBLE",
  "timestamp without time zone": "TIMESTAMP",
  "timestamp with time zone": "TIMESTAMPTZ",
  interval: "VARCHAR"
}

/** Copies a table of PostgreSQL into the engine: as one JSON text for some thousand rows each, so that values keep their digits. */
const fetchGold = Effect.fnUntraced(function*(connection: Connection, name: string, source: string) {
  const sql = yield* PgClient.PgClient
  const columns = yield* sql<{ readonly name: string; readonly type: string }>`
    SELECT column_name AS name, data_type AS type FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = ${source} ORDER BY ordinal_position`
  const texts = yield* sql<{ readonly texts: string }>`
    SELECT json_agg(row_to_json(t))::text AS texts
    FROM (SELECT *, (row_number() OVER () - 1) / 10000 AS slice FROM ${sql(source)}) t GROUP BY slice`
  const shape = columns.map((column) => `"${column.name}" ${pgTypes[column.type] ?? "VARCHAR"}`)
  yield* connection.run(`CREATE TABLE ${name} (${shape.join(", ")})`)
  yield* connection.run(`CREATE TEMP TABLE gold_texts (texts VARCHAR)`)
  yield* connection.append("gold_texts", texts.length, [{ type: "varchar", at: (row) => texts[row]!.texts }])
  const fields = columns.map((column) => `(row ->> '${column.name}')::${pgTypes[column.type] ?? "VARCHAR"}`)
  yield* connection.run(
    `INSERT INTO ${name} SELECT ${fields.join(", ")} FROM (SELECT unnest(from_json(texts, '["JSON"]')) AS row FROM gold_texts);
     DROP TABLE gold_texts`
  )
})

const prepare = Effect.fnUntraced(function*(connection: Connection, query: string, { cache, warehouse }: DataDir) {
  const { tables } = yield* connection.readStatement(query).pipe(
    Effect.mapError((error) => new NotReadOnly({ sql: query, reason: error.reason }))
  )
  const named = new Set(tables.map((name) => name.toLowerCase()))
  yield* connection.run("CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA gold")
  for (const contract of lakeTables) {
    const { metadata } = yield* LakeTables.load(contract)
    // The files of a table that the statement does not speak of need not come here from the store.
    const isMeant = query.toLowerCase().includes(contract.name)
    const rows = isMeant ? SnapshotSource.all(contract, metadata) : SnapshotSource.none(contract, metadata)
    yield* connection.run(`CREATE VIEW ${qualifiedName(contract)} AS FROM ${yield* rows}`)
  }
  for (const name of Array.from(named).filter((one) => /^gold\.[a-z0-9_]+$/.test(one))) {
    const source = yield* goldSource(name)
    if (source !== undefined) yield* fetchGold(connection, name, source)
  }
  yield* connection.run(
    `SET allowed_directories = [${literal(`${warehouse}/`)}, ${literal(`${cache}/objects/`)}]; SET enable_external_access = false; SET lock_configuration = true`
  )
})

const show = Effect.fnUntraced(function*(options: SqlOptions, { dataDir, settings }: Lake.Opened) {
  const connection = yield* (yield* QueryEngine).connect
  yield* LakeSetup.ensure(settings.ingest)
  yield* (yield* Catalog).lease("voltlake sql")
  yield* prepare(connection, options.query, dataDir)
  const { columns, rows } = yield* connection.table(options.query)
  if (options.json) return yield* Output.json(rows.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index] ?? null]))))
  yield* Output.table(columns, rows)
})

export interface SqlOptions {
  readonly query: string
  readonly dataDir: string
  readonly json: boolean
}

export const run = (options: SqlOptions) =>
  Lake.use(options.dataDir, (opened) => Effect.scoped(show(options, opened)))
