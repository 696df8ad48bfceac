/**
 * Statements whose results come in PostgreSQL's binary format, for large `bytea` columns: in the text format each byte takes two characters,
 * which are decoded into a string and again into bytes. Parameters need none of this: the driver sends buffers as they are.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import type { CustomTypesConfig } from "pg"

/** Numbers of types in PostgreSQL's catalog (pg_type.dat). */
const parsers = new Map<number, (bytes: Buffer) => unknown>([
  [16, (bytes) => bytes[0] !== 0],
  [17, (bytes) => bytes],
  [20, (bytes) => bytes.readBigInt64BE(0)],
  [21, (bytes) => bytes.readInt16BE(0)],
  [23, (bytes) => bytes.readInt32BE(0)],
  [25, (bytes) => bytes.toString("utf8")],
  [701, (bytes) => bytes.readDoubleBE(0)]
])

const types: CustomTypesConfig = {
  getTypeParser: (id: number) => {
    const parser = parsers.get(id)
    if (parser === undefined) throw new Error(`no parser for the binary format of type ${id}`)
    return parser as (value: string | Buffer) => unknown
  }
}

type BinaryValue = boolean | Uint8Array | bigint | number | string | null

/**
 * Runs a statement whose columns are of the types boolean, bytea, int8 (as bigint), int2, int4, text and float8. `name` makes it a prepared
 * statement of its connection, so it must always stand for the same text. It is never part of a surrounding transaction: it takes a
 * connection of the pool for itself.
 */
export const binaryQuery = (
  client: SqlClient,
  statement: { readonly name: string; readonly text: string },
  values: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<ReadonlyArray<BinaryValue>>, SqlError> =>
  Effect.scoped(Effect.flatMap(client.reserve, (connection) => {
    const query = { ...statement, binary: true, rowMode: "array", types }
    // The driver takes a statement as an object too; the client's type knows only the text.
    return connection.executeRaw(query as unknown as string, values)
  })).pipe(
    Effect.map((result) => (result as { readonly rows: ReadonlyArray<ReadonlyArray<BinaryValue>> }).rows)
  )
