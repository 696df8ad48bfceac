/** What every QueryEngine must do: a suite to run over each adapter. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, type Layer } from "effect"
import { join } from "node:path"
import { readdir } from "node:fs/promises"
import { type AppendColumn, type Connection, type HeaderValue, QueryEngine, type QueryError } from "./QueryEngine.ts"

export interface EngineLimits {
  readonly memoryLimit: string
}

const connected = <A, E, R>(use: (connection: Connection, engine: QueryEngine["Type"]) => Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.flatMap(QueryEngine, (engine) => Effect.flatMap(engine.connect, (connection) => use(connection, engine))))

/** More rows than one chunk of the engine holds, and not a multiple of it. */
const manyRows = 5001

const every = Uint8Array.from({ length: 256 }, (_, at) => at)
const nullAt = (row: number) => row % 7 === 3

/** Registers the suite. `layer` makes a new engine. */
export const queryEngineContract = (name: string, layer: (limits: EngineLimits) => Layer.Layer<QueryEngine, unknown>): void => {
  const run = <A, E>(
    title: string,
    use: (connection: Connection, engine: QueryEngine["Type"]) => Effect.Effect<A, E, QueryEngine>,
    limits: EngineLimits = { memoryLimit: "256MB" }
  ) => it.live(title, () => Effect.provide(connected(use), layer(limits)))

  describe(`QueryEngine contract: ${name}`, () => {
    run("answers rows with longs as bigint, timestamps as microseconds, and nulls", (connection) => Effect.gen(function*() {
      const rows = yield* connection.rows(`SELECT 1::INTEGER AS i, 9007199254740993::BIGINT AS l, 0.5::DOUBLE AS d, 'a''b' AS t, true AS b,
        NULL::VARCHAR AS n, TIMESTAMPTZ '2026-11-24 14:54:46.490898+00' AS tz, TIMESTAMP '1969-12-31 23:59:59.999999' AS ts,
        NULL::TIMESTAMPTZ AS no`)
      expect(rows).toEqual([{
        i: 1,
        l: 9_007_199_254_740_993n,
        d: 0.5,
        t: "a'b",
        b: true,
        n: null,
        tz: 1_795_532_086_490_898n,
        ts: -1n,
        no: null
      }])
      expect(yield* connection.rows("SELECT 1 AS a WHERE false")).toEqual([])
    }))

    run("answers a table as people read it, with every column once", (connection) => Effect.gen(function*() {
      const table = yield* connection.table(
        `SELECT 1 AS a, 2 AS a, TIMESTAMP '2026-01-02 03:04:05' AS t, '\\xC3a'::BLOB AS b, [{'k': 1}] AS nested, NULL AS n ORDER BY 1`
      )
      expect(new Set(table.columns).size).toBe(6)
      expect(table.rows).toEqual([[1, 2, "2026-01-02 03:04:05", "\\xC3a", "[{'k': 1}]", null]])
      expect(yield* connection.table("SELECT 1 AS a WHERE false")).toEqual({ columns: ["a"], rows: [] })
    }))

    run("runs several statements, whose effects stay in the connection", (connection) => Effect.gen(function*() {
      yield* connection.run("CREATE TEMP TABLE t (a INTEGER); INSERT INTO t VALUES (1), (2)")
      expect(yield* connection.rows("SELECT sum(a)::INTEGER AS sum FROM t")).toEqual([{ sum: 3 }])
      yield* connected((other) => Effect.gen(function*() {
        const error = yield* Effect.flip(other.rows("SELECT * FROM t"))
        expect(error).toMatchObject({ _tag: "QueryError" })
      }))
    }))

    run("says which statement failed, cut to a readable length", (connection) => Effect.gen(function*() {
      const short = "SELECT nothing FROM nowhere"
      const long = `SELECT nothing FROM nowhere -- ${"x".repeat(10_000)}`
      for (const call of [connection.run, connection.rows, connection.table]) {
        const failing = call as (sql: string) => Effect.Effect<unknown, QueryError>
        expect((yield* Effect.flip(failing(short))).message).toContain(`(statement: ${short})`)
      }
      const error = yield* Effect.flip(connection.rows(long))
      expect(error.reason).toContain("nowhere")
      expect(error.sql.length).toBeLessThan(400)
      expect(error.message.length).toBeLessThan(1500)
      // And the connection goes on.
      expect(yield* connection.rows("SELECT 1 AS one")).toEqual([{ one: 1 }])
    }))

    describe("readStatement", () => {
      const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
        ["SELECT 1", []],
        ["FROM s.a", ["s.a"]],
        ["SELECT * FROM s.a x, b AS y", ["b", "s.a"]],
        ["SELECT * FROM s.a JOIN b USING (x)", ["b", "s.a"]],
        ["SELECT * FROM s.a NATURAL JOIN b", ["b", "s.a"]],
        ["WITH c AS (SELECT * FROM s.a) SELECT * FROM c WHERE x IN (SELECT x FROM b)", ["b", "s.a"]],
        ["WITH c AS (SELECT * FROM s.a) SELECT * FROM c JOIN b USING (x)", ["b", "s.a"]],
        ["SELECT x FROM s.a GROUP BY 1 HAVING count(*) > (SELECT count(*) FROM b)", ["b", "s.a"]],
        ["SUMMARIZE s.a", ["s.a"]],
        ["DESCRIBE s.a", ["s.a"]]
      ]
      for (const [query, expected] of cases) {
        run(`knows those of ${query}, whether they are there or not`, (connection) => Effect.gen(function*() {
          expect([...(yield* connection.readStatement(query)).tables].sort()).toEqual(expected)
          yield* connection.run("CREATE SCHEMA s; CREATE TABLE s.a (x INTEGER); CREATE TABLE b (x INTEGER)")
          expect([...(yield* connection.readStatement(query)).tables].sort()).toEqual(expected)
        }))
      }
    })

    describe("copyParquet", () => {
      const ids = `{a: 7, t: 9, headers: {__duckdb_field_id: 11, element: {__duckdb_field_id: 12, "key": 13}}}`
      const rows = `SELECT CASE WHEN range % 10 = 0 THEN NULL ELSE range END AS a, 'row ' || lpad(range::VARCHAR, 4, '0') AS t,
        [{'key': 'k'}] AS headers FROM range(1000)`

      run("writes the rows with their field ids", (connection, { scratchDir }) => Effect.gen(function*() {
        const path = join(scratchDir, "it's.parquet")
        yield* connection.copyParquet(rows, path, ids)
        const file = `'${path.replaceAll("'", "''")}'`
        expect(yield* connection.rows(`SELECT count(*) AS rows, count(a) AS a, min(t) AS t FROM ${file}`))
          .toEqual([{ rows: 1000n, a: 900n, t: "row 0000" }])
        const schema = yield* connection.rows(`SELECT name, field_id FROM parquet_schema(${file}) WHERE field_id IS NOT NULL ORDER BY field_id`)
        expect(schema.map((row) => [row["name"], Number(row["field_id"])]))
          .toEqual([["a", 7], ["t", 9], ["headers", 11], ["element", 12], ["key", 13]])
      }))

      run("tells count, size and each column's bounds", (connection, { scratchDir }) => Effect.gen(function*() {
        const path = join(scratchDir, "stats.parquet")
        const written = yield* connection.copyParquet(rows, path, ids)
        expect(written).toMatchObject({ path, rowCount: 1000n })
        expect(written.sizeBytes).toBeGreaterThan(500n)
        expect(Array.from(written.columns.keys()).sort()).toEqual(["a", "headers.element.key", "t"])
        expect(written.columns.get("a")).toMatchObject({ nullCount: 100n, valueCount: 1000n, min: "1", max: "999" })
        expect(written.columns.get("t")).toMatchObject({ nullCount: 0n, min: "row 0000", max: "row 0999" })
        expect(written.columns.get("a")!.sizeBytes).toBeGreaterThan(0n)
      }))

      run("knows whether a column has NaN", (connection, { scratchDir }) => Effect.gen(function*() {
        const path = join(scratchDir, "nan.parquet")
        const written = yield* connection.copyParquet(
          "SELECT 1.5::DOUBLE AS plain, 'nan'::DOUBLE AS odd",
          path,
          "{plain: 1, odd: 2}"
        )
        expect(written.columns.get("plain")!.nanCount).toBe(0n)
        expect(written.columns.get("odd")!.nanCount).toBeUndefined()
      }))

      run("answers no rows for a query without rows", (connection, { scratchDir }) => Effect.gen(function*() {
        const written = yield* connection.copyParquet("SELECT 1 AS a WHERE false", join(scratchDir, "none.parquet"), "{a: 1}")
        expect(written.rowCount).toBe(0n)
      }))

      run("fails where the file cannot be written", (connection, { scratchDir }) => Effect.gen(function*() {
        const error = yield* Effect.flip(connection.copyParquet("SELECT 1 AS a", join(scratchDir, "no/such/x.parquet"), "{a: 1}"))
        expect(error).toMatchObject({ _tag: "QueryError" })
      }))
    })

    describe("append", () => {
      const texts = (row: number) => (nullAt(row) ? null : row % 5 === 0 ? "" : `row ${row} – é 漢 😀${row % 11 === 0 ? "\u0000" : ""}`)
      const blobs = (row: number) => (nullAt(row) ? null : row % 5 === 0 ? new Uint8Array(0) : every.subarray(row % 256))
      const longs = (row: number) => (nullAt(row) ? null : row % 2 === 0 ? 9_223_372_036_854_775_807n - BigInt(row) : -BigInt(row))
      const integers = (row: number) => (nullAt(row) ? null : row % 2 === 0 ? 2_147_483_647 - row : -row)
      const doubles = (row: number) => (nullAt(row) ? null : row % 2 === 0 ? row / 3 : -1e300)
      const headers = (row: number): ReadonlyArray<HeaderValue> =>
        nullAt(row) ? [] : [{ key: `k${row}`, value: null }, { key: "", value: blobs(row + 1) ?? every }]
      const columns: ReadonlyArray<AppendColumn> = [
        { type: "varchar", at: texts },
        { type: "integer", at: integers },
        { type: "double", at: doubles },
        { type: "bigint", at: longs },
        { type: "blob", at: blobs },
        { type: "headers", at: headers }
      ]
      const create = `CREATE TEMP TABLE t (s VARCHAR, i INTEGER, d DOUBLE, l BIGINT, b BLOB, h STRUCT("key" VARCHAR, "value" BLOB)[])`
      const hex = (value: Uint8Array | null) => (value === null ? null : Buffer.from(value).toString("hex").toUpperCase())

      run("brings in every value of every type over many chunks, nulls and empty ones too", (connection) => Effect.gen(function*() {
        yield* connection.run(create)
        yield* connection.append("t", manyRows, columns)
        const rows = yield* connection.rows(`SELECT hex(encode(s)) AS s, i, d, l, hex(b) AS b,
          array_to_string(list_transform(h, lambda x: hex(encode(x.key)) || '=' || coalesce(hex(x.value), 'null')), ',') AS h FROM t`)
        expect(rows).toHaveLength(manyRows)
        const different = rows.findIndex((row, at) =>
          row["s"] !== (texts(at) === null ? null : hex(Buffer.from(texts(at)!))) || row["i"] !== integers(at) ||
          row["d"] !== doubles(at) || row["l"] !== longs(at) || row["b"] !== hex(blobs(at)) ||
          row["h"] !== headers(at).map(({ key, value }) => `${hex(Buffer.from(key))}=${hex(value) ?? "null"}`).join(",")
        )
        expect(different === -1 ? undefined : rows[different]).toBeUndefined()
      }))

      run("adds to what is there, and takes no rows, too", (connection) => Effect.gen(function*() {
        yield* connection.run(create)
        yield* connection.append("t", 0, columns)
        yield* connection.append("t", 2048, columns)
        yield* connection.append("t", 1, columns)
        expect(yield* connection.rows("SELECT count(*) AS rows FROM t")).toEqual([{ rows: 2049n }])
      }))

      run("fails for a table that is not there, and leaves the connection usable", (connection) => Effect.gen(function*() {
        expect(yield* Effect.flip(connection.append("absent", 1, columns))).toMatchObject({ _tag: "QueryError" })
        yield* connection.run(create)
        yield* connection.append("t", 1, columns)
      }))
    })

    describe("a query whose fiber is interrupted", () => {
      const endless = "SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE hash(a.range) = hash(b.range) + 1"
      const limit = "15 seconds"

      run("ends, and the connection is free again", (connection, engine) => Effect.gen(function*() {
        const running = yield* Effect.fork(connection.rows(endless))
        yield* connected((other) => Effect.repeat(other.rows("SELECT 1"), { times: 20 })).pipe(Effect.provideService(QueryEngine, engine))
        yield* Fiber.interrupt(running).pipe(Effect.timeout(limit))
        expect(yield* connection.rows("SELECT 1 AS one")).toEqual([{ one: 1 }])
      }))

      run("ends also where it has hardly begun", (connection) =>
        Effect.gen(function*() {
          for (let attempt = 0; attempt < 20; attempt++) {
            const running = yield* Effect.fork(connection.rows(endless))
            yield* Effect.yieldNow()
            yield* Fiber.interrupt(running)
          }
          expect(yield* connection.rows("SELECT 1 AS one")).toEqual([{ one: 1 }])
        }).pipe(Effect.disconnect, Effect.timeout(limit)))
    })

    describe("memory", () => {
      const limits = { memoryLimit: "64MB" }

      run("beyond the limit is spilled to the scratch folder", (connection, { scratchDir }) => Effect.gen(function*() {
        // Texts that do not compress, several times the limit.
        yield* connection.run("CREATE TEMP TABLE big AS SELECT md5(range::VARCHAR) || md5((range + 1)::VARCHAR) AS text FROM range(1500000)")
        expect((yield* Effect.promise(() => readdir(scratchDir))).length).toBeGreaterThan(0)
        yield* connection.run("CREATE TEMP TABLE sorted AS SELECT text FROM big ORDER BY text")
        const parts = yield* connection.rows(`SELECT rowid // 100000 AS part, count(*) AS rows, min(text) AS least, max(text) AS greatest
          FROM sorted GROUP BY part ORDER BY part`)
        expect(parts.map((part) => part["rows"])).toEqual(new Array(15).fill(100_000n))
        parts.slice(1).forEach((part, at) => expect(String(part["least"]) > String(parts[at]!["greatest"])).toBe(true))
      }), limits)

      run("that a query cannot do without fails it, and nothing else", (connection) => Effect.gen(function*() {
        const error = yield* Effect.flip(connection.rows("SELECT len(string_agg(md5(range::VARCHAR), '')) AS length FROM range(5000000)"))
        expect(error.reason).toContain("Out of Memory")
        expect(yield* connection.rows("SELECT 1 AS one")).toEqual([{ one: 1 }])
      }), limits)
    })
  })
}
