/**
 * QueryEngine over DuckDB in this process. One database in memory, bounded by configuration; every `connect` is an independent connection to it.
 *
 * Statements of one connection run one after the other. A query whose fiber is interrupted is interrupted in the engine too.
 */
import {
  blobValue,
  DuckDBBlobValue,
  type DuckDBConnection,
  DuckDBDataChunk,
  DuckDBInstance,
  DuckDBMapValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  type DuckDBValue,
  listValue,
  structValue
} from "@duckdb/node-api"
import { Config, Duration, Effect, Either, Layer, Schema, type Scope } from "effect"
import * as fs from "node:fs/promises"
import { invariant } from "@voltlake/domain/Failure"
import type { AppendColumn, ColumnStats, Connection, HeaderValue, SqlValue, WrittenFile } from "./QueryEngine.ts"
import { QueryEngine, QueryError } from "./QueryEngine.ts"
import { literal } from "./SqlText.ts"

export interface DuckDbSettings {
  /** Memory that the engine may hold before it spills, in DuckDB's form, e.g. `256MB`. */
  readonly memoryLimit: string
  readonly threads: number
}

export const settingsConfig: Config.Config<DuckDbSettings> =
  Config.all({
    memoryLimit: Config.string("ENGINE_MEMORY_LIMIT").pipe(
      Config.validate({ message: "must be a size such as 256MB or 2GB", validation: (text) => /^\d+(\.\d+)?\s*[KMGT]i?B$/i.test(text) }),
      Config.withDefault("256MB"),
      Config.withDescription("Memory that DuckDB may hold before it spills to disk")
    ),
    threads: Config.integer("ENGINE_THREADS").pipe(
      Config.validate({ message: "must be from 1 to 256", validation: (n) => n >= 1 && n <= 256 }),
      Config.withDefault(1),
      Config.withDescription("Threads that DuckDB may use for one statement; stages run theirs side by side as it is")
    )
  })

const statementCharsMax = 300
const rowsPerChunk = 2048
const interruptEvery = Duration.millis(5)

const cut = (sql: string) => (sql.length > statementCharsMax ? `${sql.slice(0, statementCharsMax)} …` : sql)

const attempt = <A>(sql: string, call: () => Promise<A>, interrupt?: () => void): Effect.Effect<A, QueryError> =>
  Effect.async<A, QueryError>((resume) => {
    const fail = (cause: unknown) =>
      resume(
        Effect.fail(new QueryError({ sql: cut(sql), reason: cause instanceof Error ? cause.message : String(cause) }))
      )
    let settled: Promise<unknown>
    try {
      settled = call().then((value) => resume(Effect.succeed(value)), fail)
    } catch (cause) {
      return fail(cause)
    }
    // Interruption waits until the engine has let go of the statement, so that its files and tables are free again. It is asked again and again:
    // the engine forgets an interrupt that comes before the statement has begun.
    return Effect.raceFirst(
      Effect.promise(() => settled),
      Effect.interruptible(Effect.forever(Effect.zipRight(Effect.sync(() => interrupt?.()), Effect.sleep(interruptEvery))))
    )
  })

const toSqlValue = (value: DuckDBValue): SqlValue => {
  if (value === null || value === undefined) return null
  if (value instanceof DuckDBTimestampTZValue || value instanceof DuckDBTimestampValue) return value.micros
  if (typeof value === "object") return value.toString()
  return value as SqlValue
}

const toReadable = (value: DuckDBValue): SqlValue =>
  value === null || value === undefined ? null : typeof value === "object" ? value.toString() : value as SqlValue

const columnStats = (stats: DuckDBMapValue): ColumnStats => {
  const get = (name: string) => {
    const entry = stats.entries.find((candidate) => candidate.key === name)
    return entry === undefined || entry.value === null ? undefined : String(entry.value)
  }
  const long = (name: string) => BigInt(get(name) ?? "0")
  return {
    sizeBytes: long("column_size_bytes"),
    valueCount: long("num_values"),
    nullCount: long("null_count"),
    // The engine says only whether there are any; an exact count is needed by nobody, absence is.
    nanCount: get("has_nan") === "false" ? 0n : undefined,
    min: get("min"),
    max: get("max")
  }
}

/** `"headers"."element"."key"` → `headers.element.key`. */
const dotted = (quoted: string) => quoted.replace(/^"|"$/g, "").replaceAll("\".\"", ".").replaceAll("\"\"", "\"")

const writtenFile = (path: string, row: Record<string, DuckDBValue>): WrittenFile => {
  const columns = new Map<string, ColumnStats>()
  const statistics = row["column_statistics"]
  if (statistics instanceof DuckDBMapValue) {
    for (const { key, value } of statistics.entries) {
      if (value instanceof DuckDBMapValue) columns.set(dotted(String(key)), columnStats(value))
    }
  }
  return {
    path,
    rowCount: BigInt(row["count"] as bigint | number),
    sizeBytes: BigInt(row["file_size_bytes"] as bigint | number),
    columns
  }
}

const headersValue = (headers: ReadonlyArray<HeaderValue>): DuckDBValue =>
  listValue(
    headers.map((header) =>
      structValue({ key: header.key, value: header.value === null ? null : blobValue(header.value) })
    )
  )

/** Writes rows `[from, from + count)` of a column straight into the chunk's vector: this runs for every value that enters the engine. */
const fill = (vector: ReturnType<DuckDBDataChunk["getColumnVector"]>, column: AppendColumn, from: number, count: number) => {
  if (column.type === "blob") {
    for (let row = 0; row < count; row++) {
      const bytes = column.at(from + row)
      vector.setItem(row, bytes === null ? null : new DuckDBBlobValue(bytes))
    }
  } else if (column.type === "headers") {
    for (let row = 0; row < count; row++) vector.setItem(row, headersValue(column.at(from + row)))
  } else {
    for (let row = 0; row < count; row++) vector.setItem(row, column.at(from + row))
  }
  vector.flush()
}

const appendSync = (
  appender: Awaited<ReturnType<DuckDBConnection["createAppender"]>>,
  rowCount: number,
  columns: ReadonlyArray<AppendColumn>
) => {
  const types = columns.map((_, index) => appender.columnType(index))
  for (let from = 0; from < rowCount; from += rowsPerChunk) {
    const count = Math.min(rowsPerChunk, rowCount - from)
    const chunk = DuckDBDataChunk.create(types, count)
    columns.forEach((column, index) => fill(chunk.getColumnVector(index), column, from, count))
    appender.appendDataChunk(chunk)
  }
  appender.closeSync()
}

const explainPrefix = /^\s*explain(\s+analyze)?\s/i

/** What `json_serialize_sql` answers: it serialises statements that read, and no others. */
const Serialized = Schema.parseJson(Schema.Union(
  Schema.Struct({ error: Schema.Literal(false), statements: Schema.Array(Schema.Unknown) }),
  Schema.Struct({ error: Schema.Literal(true), error_message: Schema.String })
))

/** Names of the tables in a serialised statement, those that it defines itself (WITH) left out. */
const tablesIn = (statements: unknown): ReadonlyArray<string> => {
  const found = new Set<string>()
  const own = new Set<string>()
  const walk = (node: unknown): void => {
    if (Array.isArray(node)) return node.forEach(walk)
    if (typeof node !== "object" || node === null) return
    const fields = node as Record<string, unknown>
    if (fields["type"] === "BASE_TABLE") {
      found.add([fields["catalog_name"], fields["schema_name"], fields["table_name"]].filter((part) => part !== "" && part !== undefined).join("."))
    }
    const defined = (fields["cte_map"] as { readonly map?: ReadonlyArray<{ readonly key: string }> } | undefined)?.map
    for (const { key } of defined ?? []) own.add(key)
    Object.values(fields).forEach(walk)
  }
  walk(statements)
  return [...found].filter((name) => !own.has(name))
}

const makeConnection = (connection: DuckDBConnection): Connection => {
  const interrupt = () => connection.interrupt()
  const read = (sql: string) => attempt(sql, () => connection.runAndReadAll(sql), interrupt)
  return {
    run: (sql) => attempt(sql, () => connection.run(sql), interrupt).pipe(Effect.asVoid),
    rows: (sql) =>
      read(sql).pipe(
        Effect.map((reader) =>
          reader.getRowObjects().map((row) =>
            Object.fromEntries(Object.entries(row).map(([name, value]) => [name, toSqlValue(value)]))
          )
        )
      ),
    table: (sql) =>
      read(sql).pipe(
        Effect.map((reader) => ({
          columns: reader.deduplicatedColumnNames(),
          rows: reader.getRows().map((row) => row.map(toReadable))
        }))
      ),
    copyParquet: (query, path, fieldIds) => {
      const sql = `COPY (${query}) TO ${literal(path)} ` +
        // Level 1: fresh files are small and soon compacted; it halves the time of level 3 for the same size or a fifth more.
        `(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, FIELD_IDS ${fieldIds}, RETURN_STATS)`
      return read(sql).pipe(
        Effect.map((reader) => {
          const row = reader.getRowObjects()[0]
          invariant(row !== undefined, "COPY … RETURN_STATS answers one row for one file")
          return writtenFile(path, row)
        })
      )
    },
    append: (table, rowCount, columns) =>
      attempt(`append to ${table}`, () => connection.createAppender(table)).pipe(
        Effect.flatMap((appender) =>
          Effect.try({
            try: () => appendSync(appender, rowCount, columns),
            catch: (cause) =>
              new QueryError({ sql: `append to ${table}`, reason: cause instanceof Error ? cause.message : String(cause) })
          })
        )
      ),
    readStatement: (sql) =>
      read(`SELECT json_serialize_sql(${literal(sql.replace(explainPrefix, ""))})::VARCHAR AS serialized`).pipe(
        Effect.flatMap((reader) => {
          const parsed = Schema.decodeUnknownEither(Serialized)(reader.getRowObjects()[0]?.["serialized"])
          if (Either.isLeft(parsed)) return new QueryError({ sql: cut(sql), reason: parsed.left.message })
          const { right } = parsed
          if (right.error) return new QueryError({ sql: cut(sql), reason: right.error_message })
          return right.statements.length === 1
            ? Effect.succeed({ tables: tablesIn(right.statements), tree: right.statements[0] })
            : new QueryError({ sql: cut(sql), reason: `one statement is wanted, these are ${right.statements.length}` })
        })
      )
  }
}

const make = (scratchDir: string, settings: DuckDbSettings): Effect.Effect<typeof QueryEngine.Service, QueryError, Scope.Scope> =>
  Effect.gen(function*() {
    yield* Effect.tryPromise({
      try: () => fs.mkdir(scratchDir, { recursive: true }),
      catch: (cause) => new QueryError({ sql: "mkdir", reason: String(cause) })
    })
    const instance = yield* Effect.acquireRelease(
      attempt("open", () =>
        DuckDBInstance.create(":memory:", {
          memory_limit: settings.memoryLimit,
          threads: String(settings.threads),
          temp_directory: scratchDir,
          autoinstall_known_extensions: "false",
          autoload_known_extensions: "false"
        })),
      (opened) => Effect.sync(() => opened.closeSync())
    )
    // Days and minutes are those of UTC, wherever the machine stands.
    yield* Effect.acquireUseRelease(
      attempt("connect", () => instance.connect()),
      (connection) => attempt("SET GLOBAL TimeZone", () => connection.run("SET GLOBAL TimeZone = 'UTC'")),
      (connection) => Effect.sync(() => connection.closeSync())
    )
    return {
      scratchDir,
      connect: Effect.acquireRelease(
        attempt("connect", () => instance.connect()),
        (connection) => Effect.sync(() => connection.closeSync())
      ).pipe(Effect.map(makeConnection))
    }
  })

/** `scratchDir` is the folder for spilled data and for files under way; it is made where missing. */
export const layer = (scratchDir: string, settings: DuckDbSettings): Layer.Layer<QueryEngine, QueryError> =>
  Layer.scoped(QueryEngine, make(scratchDir, settings))
