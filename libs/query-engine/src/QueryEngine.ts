/**
 * The port for SQL over columns: decoding, checking, deduplicating, sorting, Parquet. Rows stay inside the engine.
 */
import { Context, type Effect, Schema, type Scope } from "effect"

/** A statement failed. `sql` is cut to a readable length. */
export class QueryError extends Schema.TaggedError<QueryError>()("QueryError", { sql: Schema.String, reason: Schema.String }) {
  override get message() {
    return `${this.reason.trim()} (statement: ${this.sql})`
  }
}

export type SqlValue = string | number | bigint | boolean | null

export interface HeaderValue {
  readonly key: string
  readonly value: Uint8Array | null
}

/** A column that JavaScript appends: its type, which is that of the table's column, and the value of a row. */
export type AppendColumn =
  | { readonly type: "varchar"; readonly at: (row: number) => string | null }
  | { readonly type: "integer" | "double"; readonly at: (row: number) => number | null }
  | { readonly type: "bigint"; readonly at: (row: number) => bigint | null }
  | { readonly type: "blob"; readonly at: (row: number) => Uint8Array | null }
  /** `STRUCT("key" VARCHAR, "value" BLOB)[]` */
  | { readonly type: "headers"; readonly at: (row: number) => ReadonlyArray<HeaderValue> }

/** What `COPY … TO` says of the Parquet file it wrote. Bounds are the engine's text forms. */
export interface WrittenFile {
  readonly path: string
  readonly rowCount: bigint
  readonly sizeBytes: bigint
  /** By dotted column name, e.g. `headers.element.key`. */
  readonly columns: ReadonlyMap<string, ColumnStats>
}

export interface ColumnStats {
  readonly sizeBytes: bigint
  readonly valueCount: bigint
  readonly nullCount: bigint
  readonly nanCount: bigint | undefined
  readonly min: string | undefined
  readonly max: string | undefined
}

export interface QueryTable {
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<SqlValue>>
}

export interface Connection {
  /** Runs one or more statements without a result. */
  readonly run: (sql: string) => Effect.Effect<void, QueryError>
  /** Runs a query and brings its rows to JavaScript: for small results only. Longs come as bigint, timestamps as bigint microseconds. */
  readonly rows: (sql: string) => Effect.Effect<ReadonlyArray<Readonly<Record<string, SqlValue>>>, QueryError>
  /** Runs a query and brings its result as people read it: timestamps, blobs and nested values as text. For small results only. */
  readonly table: (sql: string) => Effect.Effect<QueryTable, QueryError>
  /** `COPY (query) TO path` as Parquet with field ids; `options` are further COPY options. */
  readonly copyParquet: (query: string, path: string, fieldIds: string) => Effect.Effect<WrittenFile, QueryError>
  /** Appends rows to a table, by chunks. Its columns are these, in this order. */
  readonly append: (table: string, rowCount: number, columns: ReadonlyArray<AppendColumn>) => Effect.Effect<void, QueryError>
  /**
   * Looks at a statement without running it. Fails unless it is one statement that only reads (EXPLAIN of one counts), by the engine's own parser.
   * `tables` are the names that it reads, qualified where it qualifies them, whether they are there or not. `tree` is what the parser made of it.
   */
  readonly readStatement: (sql: string) => Effect.Effect<{ readonly tables: ReadonlyArray<string>; readonly tree: unknown }, QueryError>
}

/** Guarantees: memory and threads are bounded by configuration; what exceeds them is spilled to the temporary folder. Connections are independent. */
export class QueryEngine extends Context.Tag("@voltlake/query-engine/QueryEngine")<QueryEngine, {
  readonly connect: Effect.Effect<Connection, QueryError, Scope.Scope>
  /** A folder for files under way, on the disk of the object store where that is local. */
  readonly scratchDir: string
}>() {}
