/** Rows as the table means them, over files that DuckDB wrote: columns that changed since, and deletes of both kinds. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type * as Metadata from "./TableMetadata.ts"
import { evolved, layer as parts, planned, read, relation, tableOf, write, writeForeign as writeDeletes } from "./test/ReadTable.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Type from "./Type.ts"

const tableAt = tableOf(Fixture.definition)

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
      expect(yield* Effect.flip(read(metadata, [planned({ ...file, filePath: "s3://elsewhere/a.parquet" })], "*", "1"))).toMatchObject({
        _tag: "LocationForeign"
      })
    }))

  it.effect("looks into no file that was written here, and into others before it takes their columns for absent", () =>
    Effect.gen(function*() {
      const metadata = yield* tableAt
      const store = yield* ObjectStore
      const file = yield* write(metadata, Fixture.rowsSql(0, 1))
      yield* store.put(store.keyOf(file.filePath)!, new TextEncoder().encode("no Parquet at all"))
      expect(yield* Effect.scoped(relation(metadata, [planned(file)]))).toContain("read_parquet")
      const foreign = { ...file, filePath: `${metadata.location}/data/part-0.parquet` }
      yield* store.put(store.keyOf(foreign.filePath)!, new TextEncoder().encode("no Parquet at all"))
      const error = yield* Effect.flip(read(metadata, [planned(foreign)], "*", "1"))
      expect(error).toMatchObject({ _tag: "ParquetUnreadable", location: foreign.filePath, reason: expect.stringContaining("PAR1") })
    }))
})
