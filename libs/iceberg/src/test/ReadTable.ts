/** A table's files written by the engine and read again, for tests of reading. */
import { Effect, Layer } from "effect"
import { rename } from "node:fs/promises"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import type { DataFile } from "../DataFile.ts"
import * as DataFileWriter from "../DataFileWriter.ts"
import * as ReadSql from "../ReadSql.ts"
import type { PlannedFile } from "../Scan.ts"
import * as SchemaUpdate from "../SchemaUpdate.ts"
import type { SchemaChange } from "../SchemaUpdate.ts"
import * as Metadata from "../TableMetadata.ts"
import * as Fixture from "./TableFixture.ts"

export const layer = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
  Layer.mergeAll(
    LocalObjectStore.layer(join(folder, "warehouse")),
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 })
  )))

export const tableOf = (definition: Metadata.TableDefinition) =>
  Effect.map(ObjectStore, (store) => Metadata.make(definition, { tableUuid: "u", location: store.location("bronze/t"), nowMs: 1 }))

export const rows = (sql: string) =>
  Effect.scoped(Effect.flatMap(QueryEngine, (engine) => Effect.flatMap(engine.connect, (connection) => connection.rows(sql))))

let written = 0

/** A data file of the table, as stages write it. */
export const write = (metadata: Metadata.TableMetadata, query: string, partition: DataFile["partition"] = [Fixture.day]) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const commitId = "00000000-0000-4000-8000-000000000000"
    const { specId } = Metadata.defaultSpec(metadata)
    const target = { connection, query, metadata, specId, partition, sortOrderId: 0, commitId, index: ++written }
    return (yield* DataFileWriter.write(target))!
  }))

/** A file as others write it: `fieldIds` may be `{}`. */
export const writeForeign = (metadata: Metadata.TableMetadata, query: string, fieldIds: string, over: Partial<DataFile> = {}) =>
  Effect.scoped(Effect.gen(function*() {
    const engine = yield* QueryEngine
    const store = yield* ObjectStore
    const connection = yield* engine.connect
    const scratch = join(engine.scratchDir, `foreign-${++written}.parquet`)
    yield* connection.run(`COPY (${query}) TO '${scratch}' (FORMAT parquet${fieldIds === "{}" ? "" : `, FIELD_IDS ${fieldIds}`})`)
    const filePath = `${metadata.location}/data/day=2024-01-01/foreign-${written}.parquet`
    const moved = `${scratch}.moved`
    yield* Effect.promise(() => rename(scratch, moved))
    yield* store.putFile(store.keyOf(filePath)!, moved)
    return { ...Fixture.fakeFile("d"), filePath, ...over }
  }))

export const planned = (file: DataFile, ...deletes: ReadonlyArray<DataFile>): PlannedFile => ({
  file,
  sequenceNumber: 1n,
  deletes: deletes.map((one) => ({ file: one, sequenceNumber: 2n }))
})

export const evolved = (metadata: Metadata.TableMetadata, changes: ReadonlyArray<SchemaChange>) =>
  Effect.map(SchemaUpdate.apply(metadata, changes), ({ lastColumnId, properties, schema }): Metadata.TableMetadata => {
    const next = { ...schema, schemaId: metadata.schemas.length }
    return {
      ...metadata,
      lastColumnId,
      properties: { ...metadata.properties, ...properties },
      schemas: [...metadata.schemas, next],
      currentSchemaId: next.schemaId
    }
  })

export const relation = (metadata: Metadata.TableMetadata, files: ReadonlyArray<PlannedFile>) =>
  ReadSql.relation(Metadata.currentSchema(metadata), metadata, files)

export const read = (metadata: Metadata.TableMetadata, files: ReadonlyArray<PlannedFile>, columns: string, order: string) =>
  Effect.scoped(Effect.flatMap(relation(metadata, files), (from) => rows(`SELECT ${columns} FROM ${from} ORDER BY ${order}`)))
