/** What a preview shows of files that the engine wrote, over any store. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as ParquetPreview from "./ParquetPreview.ts"

const engine = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 })))

let written = 0
/** The key of a file of these rows. */
const write = (query: string, options = "") =>
  Effect.scoped(Effect.gen(function*() {
    const { connect, scratchDir } = yield* QueryEngine
    const path = join(scratchDir, `${++written}.parquet`)
    yield* (yield* connect).run(`COPY (${query}) TO '${path}' (FORMAT parquet${options})`)
    const key = `t/data/${written}.parquet`
    yield* (yield* ObjectStore).put(key, yield* Effect.promise(() => readFile(path)))
    return key
  }))

const preview = (key: string, rows = 10) => ParquetPreview.ofObject(key, rows)

/** Rows of `range`: of every type, empty every third. */
const typesSql = `SELECT range AS id, CASE WHEN range % 3 < 2 THEN COLUMNS(* EXCLUDE (range)) END FROM (SELECT range,
    range % 2 = 0 AS flag, (range - 1)::INTEGER AS small, 9007199254740993 + range AS large, (range / 4)::FLOAT AS single,
    CASE range WHEN 0 THEN 'nan'::DOUBLE ELSE '-inf'::DOUBLE END AS double,
    (range - 0.05)::DECIMAL(4, 2) AS little_money, '-12345678901234567890123456789012.345678'::DECIMAL(38, 6) AS much_money, 7::DECIMAL(9, 0) AS no_scale,
    DATE '1969-12-31' + range::INTEGER AS day, TIME '23:59:59.000001' AS clock,
    TIMESTAMP '1969-12-31 23:59:59.999999' + to_microseconds(range) AS local_time, TIMESTAMPTZ '2026-11-24 14:54:46.490898+00' AS instant,
    TIMESTAMP_NS '2024-02-29 23:59:59.123456789' AS nanos, TIMESTAMP_MS '2024-02-29 23:59:59.123' AS millis,
    'Zürich' AS text, CASE range WHEN 0 THEN encode('Zürich') ELSE '\\x00\\xFF'::BLOB END AS bytes,
    '0cc175b9-c0f1-b6a8-31c3-99e269772661'::UUID AS key, '{"a": 1}'::JSON AS json, 18446744073709551615::UBIGINT AS unsigned,
    {'lat': 0.5, 'names': ['a', NULL]} AS place, [{'at': DATE '2024-01-01', 'b': '\\xFE'::BLOB}, NULL] AS visits,
    MAP {'x': [1::DECIMAL(4, 1)], 'none': NULL} AS marks, MAP {5: 'five'} AS numbers, MAP {'\\xFF'::BLOB: 1} AS odd, []::INTEGER[] AS nothing
  FROM range(4))`

const common = {
  clock: "23:59:59.000001",
  instant: "2026-11-24T14:54:46.490898Z",
  nanos: "2024-02-29T23:59:59.123456789",
  millis: "2024-02-29T23:59:59.123",
  much_money: "-12345678901234567890123456789012.345678",
  no_scale: "7",
  text: "Zürich",
  key: "0cc175b9-c0f1-b6a8-31c3-99e269772661",
  json: `{"a": 1}`,
  unsigned: 18446744073709551615n,
  place: { lat: "0.5", names: ["a", null] },
  visits: [{ at: "2024-01-01", b: "0xfe" }, null],
  marks: { x: ["1.0"], none: null },
  numbers: { 5: "five" },
  odd: { "0xff": 1 },
  nothing: []
}

const filled = [
  {
    ...common,
    id: 0n,
    flag: true,
    small: -1,
    large: 9007199254740993n,
    single: 0,
    double: "NaN",
    little_money: "-0.05",
    day: "1969-12-31",
    local_time: "1969-12-31T23:59:59.999999",
    bytes: "Zürich"
  },
  {
    ...common,
    id: 1n,
    flag: false,
    small: 0,
    large: 9007199254740994n,
    single: 0.25,
    double: "-Infinity",
    little_money: "0.95",
    day: "1970-01-01",
    local_time: "1970-01-01T00:00:00.000000",
    bytes: "0x00ff"
  }
]

const empty = { ...Object.fromEntries(Object.keys(filled[0]!).map((name) => [name, null])), id: 2n }

/** Registers the suite. */
export const parquetPreviewContract = (name: string, store: Layer.Layer<ObjectStore, unknown>): void =>
  layer(Layer.merge(engine, store), { excludeTestServices: true })(`preview of a file ${name}`, (it) => {
    it.effect.each(["uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4_raw"])("shows values of every type as they are, of %s", (codec) =>
      Effect.gen(function*() {
        const key = yield* write(typesSql, `, COMPRESSION ${codec}`)
        const { columns, facts, rows } = yield* preview(key, 3)
        expect(rows).toEqual([...filled, empty])
        expect([...columns].sort()).toEqual(Object.keys(empty).sort())
        expect(facts).toMatchObject({ rows: 4, rowGroups: 1, createdBy: expect.stringContaining("DuckDB") })
        const { columns: [id, flag], bytes, footerBytes } = facts
        expect(id).toMatchObject({ column: "id", type: "INT64", nulls: 0, codec: codec.toUpperCase() })
        expect(flag).toMatchObject({ column: "flag", type: "BOOLEAN", nulls: 1 })
        expect(facts.columns.find(({ column }) => column === "visits.list.element.at")).toMatchObject({ type: "INT32 DATE" })
        expect(facts.columns.map(({ bytes: some }) => some).reduce((a, b) => a + b, footerBytes)).toBeLessThan(bytes)
      }))

    it.effect("fetches no more than the footer and the row groups of the rows", () =>
      Effect.gen(function*() {
        const key = yield* write(
          "SELECT range AS id, md5(range::VARCHAR) AS text FROM range(200_000)",
          ", ROW_GROUP_SIZE 2048, FIELD_IDS {id: 7, text: 9}"
        )
        const plain = yield* ObjectStore
        let fetched = 0
        const counting = ObjectStore.of({
          ...plain,
          range: (of, start, end) => Effect.tap(plain.range(of, start, end), (bytes) => Effect.sync(() => (fetched += bytes.length)))
        })
        const found = yield* Effect.provideService(preview(key, 2050), ObjectStore, counting)
        expect(found.rows.map(({ id }) => id)).toEqual(Array.from({ length: 2050 }, (_, at) => BigInt(at)))
        expect(found.facts.columns.map(({ column, id }) => [column, id])).toEqual([["id", 7], ["text", 9]])
        const { sizeBytes } = yield* plain.head(key)
        expect([found.facts.rows, found.facts.rowGroups, found.facts.bytes]).toEqual([200_000, 98, sizeBytes])
        expect(fetched).toBeLessThan(sizeBytes / 10)
      }))

    it.effect("shows all rows of a short file, none of an empty one, and only facts where none are asked for", () =>
      Effect.gen(function*() {
        const short = yield* write("SELECT range AS id FROM range(3)")
        expect((yield* preview(short)).rows).toEqual([{ id: 0n }, { id: 1n }, { id: 2n }])
        expect(yield* preview(short, 0)).toMatchObject({ rows: [], facts: { rows: 3 } })
        expect(yield* preview(yield* write("SELECT 1 AS id, [2] AS l WHERE false"))).toMatchObject({ rows: [], columns: ["id", "l"], facts: { rows: 0 } })
      }))

    it.effect("says why a file cannot be shown", () =>
      Effect.gen(function*() {
        const store = yield* ObjectStore
        expect(yield* Effect.flip(preview("t/none.parquet"))).toMatchObject({ _tag: "ObjectNotFound", location: store.location("t/none.parquet") })
        for (const [body, reason] of [["", "it has 0 bytes"], ["no Parquet at all", "PAR1"]] as const) {
          yield* store.put("t/bad.parquet", new TextEncoder().encode(body))
          const error = yield* Effect.flip(preview("t/bad.parquet"))
          expect(error).toMatchObject({ _tag: "ParquetUnreadable", location: store.location("t/bad.parquet"), reason: expect.stringContaining(reason) })
        }
        const whole = yield* store.get(yield* write("SELECT range AS id FROM range(3)", ", COMPRESSION zstd"))
        yield* store.put("t/bad.parquet", whole.map((byte, at) => (at > 4 && at < 40 ? 255 : byte)))
        expect(yield* Effect.flip(preview("t/bad.parquet"))).toMatchObject({ _tag: "ParquetUnreadable" })
      }))
  })
