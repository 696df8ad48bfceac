/** Rows as the table means them, over files that DuckDB wrote: columns that changed since, and deletes of both kinds. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { rename } from "node:fs/promises"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import type { DataFile } from "./DataFile.ts"
import * as DataFileWriter from "./DataFileWriter.ts"
import * as ReadSql from "./ReadSql.ts"
import type { PlannedFile } from "./Scan.ts"
import * as SchemaUpdate from "./SchemaUpdate.ts"
import type { SchemaChange } from "./SchemaUpdate.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Type from "./Type.ts"

const parts = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  Layer.mergeAll(
    LocalObjectStore.layer(join(folder, "warehouse")),
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 })
  )))

const tableAt = Effect.map(ObjectStore, (store) =>
  Metadata.make(Fixture.definition, { tableUuid: "u", location: store.location("bronze/t"), nowMs: 1 }))

const rows = (sql: string) => Effect.scoped(Effect.flatMap(QueryEngine, (engine) => Effect.flatMap(engine.connect, (connection) => connection.rows(sql))))

let written = 0
const write = (metadata: Metadata.TableMetadata, query: string) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const target = { connection, query, metadata, specId: 0, partition: [Fixture.day], sortOrderId: 0, commitId: "c", index: ++written }
    return (yield* DataFileWriter.write(target))!
  }))

/** A delete file of these columns. */
const writeDeletes = (metadata: Metadata.TableMetadata, query: string, fieldIds: string, over: Partial<DataFile>) =>
  Effect.scoped(Effect.gen(function*() {
    const engine = yield* QueryEngine
    const store = yield* ObjectStore
    const connection = yield* engine.connect
    const scratch = join(engine.scratchDir, `deletes-${++written}.parquet`)
    const file = yield* connection.copyParquet(query, scratch, fieldIds)
    const filePath = `${metadata.location}/data/deletes-${written}.parquet`
    const moved = `${scratch}.moved`
    yield* Effect.promise(() => rename(scratch, moved))
    yield* store.putFile(store.keyOf(filePath)!, moved)
    return { ...Fixture.fakeFile("d"), filePath, recordCount: file.rowCount, ...over }
  }))

const planned = (file: DataFile, ...deletes: ReadonlyArray<DataFile>): PlannedFile => ({
  file,
  sequenceNumber: 1n,
  deletes: deletes.map((one) => ({ file: one, sequenceNumber: 2n }))
})

const evolved = (metadata: Metadata.TableMetadata, changes: ReadonlyArray<SchemaChange>) =>
  Effect.map(SchemaUpdate.apply(metadata, changes), ({ lastColumnId, schema }) => {
    const next = { ...schema, schemaId: metadata.schemas.length }
    return { ...metadata, lastColumnId, schemas: [...metadata.schemas, next], currentSchemaId: next.schemaId }
  })

const read = (metadata: Metadata.TableMetadata, files: ReadonlyArray<PlannedFile>, columns: string, order: string) =>
  Effect.scoped(Effect.flatMap(ReadSql.relation(Metadata.currentSchema(metadata), metadata, files), (relation) =>
    rows(`SELECT ${columns} FROM ${relation} ORDER BY ${order}`)))

layer(parts, { excludeTestServices: true })("rows of planned files", (it) => {
  it.effect("finds columns by their ids: renamed, reordered, widened, added and dropped ones", () =>
    Effect.gen(function*() {
      const before = yield* tableAt
      const old = yield* write(before, Fixture.rowsSql(0, 2))
      const after = yield* evolved(before, [
        { change: "rename", column: "speed", name: "speed_mph" },
        { change: "widen", column: "partition", type: Type.long },
        { change: "drop", column: "total" },
        { change: "add", column: "total", type: Type.string },
        { change: "add", column: "gear", type: Type.list(1, Type.int), place: "first" },
        { change: "move", column: "speed_mph", place: "first" }
      ])
      const young = yield* write(after, `SELECT 1.5::DOUBLE AS speed_mph, [7]::INTEGER[] AS gear, topic, 5000000000::BIGINT AS partition, "offset" + 2 AS "offset",
        timestamp, value, headers, signals, 'new' AS total FROM (${Fixture.rowsSql(0, 1)})`)
      const found = yield* read(after, [planned(old), planned(young)], `speed_mph, gear::VARCHAR AS gear, "partition", "offset", total, headers[1].key AS k`, `"offset"`)
      expect(found).toEqual([
        { speed_mph: 333, gear: null, partition: 0n, offset: 0n, total: null, k: "a" },
        { speed_mph: 333, gear: null, partition: 0n, offset: 1n, total: null, k: "a" },
        { speed_mph: 1.5, gear: "[7]", partition: 5000000000n, offset: 2n, total: "new", k: "a" }
      ])
      expect(yield* read(after, [], "*", "1")).toEqual([])
    }))

  it.effect("leaves out rows by their place in a file and by equality, also of a column that is gone", () =>
    Effect.gen(function*() {
      const metadata = yield* tableAt
      const one = yield* write(metadata, Fixture.rowsSql(0, 10))
      const two = yield* write(metadata, Fixture.rowsSql(10, 10))
      const positions = yield* writeDeletes(
        metadata,
        `SELECT * FROM (VALUES ('${one.filePath}', 0::BIGINT), ('${one.filePath}', 3::BIGINT), ('${two.filePath}', 9::BIGINT)) AS t (file_path, pos)`,
        "{file_path: 2147483546, pos: 2147483545}",
        { content: "position-deletes" }
      )
      const offsets = yield* writeDeletes(metadata, `SELECT * FROM (VALUES (5::BIGINT), (12::BIGINT)) AS t ("offset")`, "{\"offset\": 3}", {
        content: "equality-deletes",
        equalityIds: [3]
      })
      const both = yield* writeDeletes(
        metadata,
        `SELECT 'telemetry_raw' AS topic, 7.5::DECIMAL(38, 6) AS total`,
        "{topic: 1, total: 14}",
        { content: "equality-deletes", equalityIds: [1, 14] }
      )
      const files = [planned(one, positions, offsets, both), planned(two, offsets)]
      const offsetsOf = (of: Metadata.TableMetadata) =>
        Effect.map(read(of, files, `"offset"`, `"offset"`), (found) => found.map((row) => Number(row["offset"])))
      const left = [1, 2, 4, 6, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19]
      expect(yield* offsetsOf(metadata)).toEqual(left)
      expect(yield* offsetsOf(yield* evolved(metadata, [{ change: "drop", column: "total" }]))).toEqual(left)
    }))

  it.effect("takes NULL for equal to NULL", () =>
    Effect.gen(function*() {
      const metadata = yield* tableAt
      const file = yield* write(metadata, `SELECT * REPLACE (CASE WHEN "offset" = 1 THEN NULL ELSE speed END AS speed) FROM (${Fixture.rowsSql(0, 3)})`)
      const deletes = yield* writeDeletes(metadata, "SELECT NULL::DOUBLE AS speed", "{speed: 13}", { content: "equality-deletes", equalityIds: [13] })
      expect(yield* read(metadata, [planned(file, deletes)], `"offset"`, `"offset"`)).toEqual([{ offset: 0n }, { offset: 2n }])
    }))

  it.effect("refuses what it would read wrongly", () =>
    Effect.gen(function*() {
      const metadata = yield* tableAt
      const file = Fixture.fakeFile("a")
      const orc = yield* Effect.flip(read(metadata, [planned({ ...file, fileFormat: "ORC" })], "*", "1"))
      expect(orc).toMatchObject({ _tag: "ReadUnsupported", subject: file.filePath, reason: "is of the format ORC" })
      const renamed = yield* evolved(metadata, [{ change: "rename", column: "headers.element.key", name: "k" }])
      expect(yield* Effect.flip(read(renamed, [], "*", "1"))).toMatchObject({ _tag: "ReadUnsupported", subject: "column headers.element.key" })
      const replaced = yield* evolved(yield* evolved(metadata, [{ change: "drop", column: "headers.element.value" }]), [
        { change: "add", column: "headers.element.value", type: Type.string }
      ])
      expect(yield* Effect.flip(read(replaced, [], "*", "1"))).toMatchObject({ _tag: "ReadUnsupported", subject: "column headers.element.value" })
      expect(yield* Effect.flip(read(metadata, [planned({ ...file, filePath: "s3://elsewhere/a.parquet" })], "*", "1"))).toMatchObject({
        _tag: "LocationForeign"
      })
    }))
})
