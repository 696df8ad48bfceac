/** The whole way over real parts: DuckDB writes, the local store holds, PostgreSQL commits, and DuckDB reads what a plan names. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as DataFileWriter from "./DataFileWriter.ts"
import * as PostgresCatalog from "./PostgresCatalog.ts"
import * as Scan from "./Scan.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as TableIdentifier from "./TableIdentifier.ts"
import * as Tables from "./Tables.ts"
import * as Transaction from "./Transaction.ts"
import * as Type from "./Type.ts"

const catalog = PostgresCatalog.layer.pipe(
  Layer.provideMerge(Layer.effectDiscard(PostgresCatalog.migrate)),
  Layer.provide(TestPostgres.layer)
)

const parts = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  Layer.mergeAll(
    LocalObjectStore.layer(join(folder, "warehouse")),
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 })
  )))

const lake = Tables.layer.pipe(Layer.provideMerge(Layer.mergeAll(catalog, parts)))

const writeRows = (table: Tables.Table, start: number, count: number, commitId: string) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* DataFileWriter.write({
      connection,
      query: Fixture.rowsSql(start, count),
      metadata: table.metadata,
      specId: 0,
      partition: [Fixture.day],
      sortOrderId: 1,
      commitId,
      index: 0
    })
  }))

layer(lake, { excludeTestServices: true })("a table over DuckDB, local files and PostgreSQL", (it) => {
  it.effect("shows the rows of each commit, once", () =>
    Effect.scoped(Effect.gen(function*() {
      const tables = yield* Tables.Tables
      const store = yield* ObjectStore
      const created = yield* tables.createIfAbsent(Fixture.raw, Fixture.definition)
      const times: Array<number> = []
      for (let index = 0; index < 20; index++) {
        const commitId = yield* Transaction.newCommitId
        const file = yield* writeRows(created, index * 10, 10, commitId)
        const before = performance.now()
        yield* Transaction.commit({ commitId, changes: [Fixture.adding(Fixture.raw, [file!])] })
        times.push(performance.now() - before)
      }
      if (process.env["ICEBERG_TIMES"] !== undefined) console.log(times.map((ms) => ms.toFixed(1)).join(" "))
      const { metadata } = yield* tables.load(Fixture.raw)
      const planned = yield* Scan.planFiles(metadata)
      expect(planned).toHaveLength(20)
      const paths = yield* Effect.forEach(planned, ({ file }) => store.localFile(store.keyOf(file.filePath)!))
      const connection = yield* (yield* QueryEngine).connect
      const rows = yield* connection.rows(
        `SELECT count(*) AS rows, count(DISTINCT "offset") AS offsets FROM read_parquet([${
          paths.map((path) => `'${path}'`).join(",")
        }])`
      )
      expect(rows).toEqual([{ rows: 200n, offsets: 200n }])
    })))

  it.effect("keeps metrics by which a reader skips files", () =>
    Effect.gen(function*() {
      const tables = yield* Tables.Tables
      const { metadata } = yield* tables.load(Fixture.raw)
      const planned = yield* Scan.planFiles(metadata, { afterSequence: 19n })
      expect(planned).toHaveLength(1)
      const { file } = planned[0]!
      const bounds = (path: string) => {
        const leaf = Type.leafByPath(Fixture.schema, path)!
        return [Scan.lowerBound(file, leaf), Scan.upperBound(file, leaf)]
      }
      expect(bounds("offset")).toEqual([190n, 199n])
      expect(bounds("timestamp")).toEqual([1_795_532_086_490_898n, 1_795_532_086_490_907n])
      expect(bounds("speed")).toEqual([333, 333])
      expect(bounds("total")).toEqual([500_000n, 9_500_000n])
      expect(Scan.mayHoldLong(file, 3, 200n, 300n)).toBe(false)
      expect(Scan.mayHoldLong(file, 3, 199n, 300n)).toBe(true)
    }))

  it.effect("writes no file for a query without rows", () =>
    Effect.gen(function*() {
      const tables = yield* Tables.Tables
      const table = yield* tables.load(Fixture.raw)
      expect(yield* writeRows(table, 0, 0, "nothing")).toBeUndefined()
    }))

  it.effect("writes no file with a type that the engine has not", () =>
    Effect.gen(function*() {
      const tables = yield* Tables.Tables
      const schema = Type.schema([...Fixture.schema.fields, Type.optional(20, "hashes", Type.list(21, Type.fixed(4)))])
      const table = yield* tables.createIfAbsent(TableIdentifier.make("bronze", "hashed"), { ...Fixture.definition, schema })
      expect(yield* Effect.flip(writeRows(table, 0, 1, "hashed"))).toMatchObject({ _tag: "WriteUnsupported", column: "hashes.element", type: "fixed[4]" })
    }))
})
