/**
 * Writes a query's rows as one Parquet data file of a table. No reader sees the file until a commit names it; an abandoned one is an orphan that
 * its name leads back to the commit.
 */
import { Effect, Schema } from "effect"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { invariant } from "@voltlake/domain/Failure"
import type { ObjectExists, ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { Connection, QueryError } from "@voltlake/query-engine/QueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import type { DataFile } from "./DataFile.ts"
import * as FieldIdsSql from "./FieldIdsSql.ts"
import { metrics } from "./FromEngineStats.ts"
import * as RandomId from "./internal/RandomId.ts"
import * as MetricsMode from "./MetricsMode.ts"
import type { Partition } from "./PartitionSpec.ts"
import * as PartitionSpec from "./PartitionSpec.ts"
import { primitiveText } from "./SchemaJson.ts"
import { LocationForeign } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSchema, specById } from "./TableMetadata.ts"
import type { TableSchema } from "./Type.ts"
import { leaves } from "./Type.ts"

export interface DataFileRequest {
  /** May hold temporary tables that `query` reads. */
  readonly connection: Connection
  /** Its columns have the names and types of the schema; its rows are of one partition, in the order that `sortOrderId` names. */
  readonly query: string
  readonly metadata: TableMetadata
  /** The query's columns, where it leaves out some of the table's: in the file's rows these are NULL. */
  readonly schema?: TableSchema
  readonly specId: number
  /** Values in the order of the spec's fields. */
  readonly partition: Partition
  readonly sortOrderId: number
  readonly commitId: string
  /** Different for every file of the commit in this table. */
  readonly index: number
}

/** The engine has no such type: it would write files that readers of the table refuse. */
export class WriteUnsupported extends Schema.TaggedError<WriteUnsupported>()("WriteUnsupported", {
  table: Schema.String,
  column: Schema.String,
  type: Schema.String
}) {
  override get message() {
    return `${this.table} cannot be written here: column ${this.column} is of the type ${this.type}`
  }
}

export type WriteError = QueryError | ObjectExists | ObjectStoreError | LocationForeign | WriteUnsupported

/** Best effort: the scratch folder is emptied at every start. */
const removeScratch = (path: string) => Effect.ignore(Effect.tryPromise(() => rm(path, { force: true })))

/** `<table>/data/<partition path>/<commit id>-<index>.parquet` */
const dataFileLocation = (request: DataFileRequest, spec: PartitionSpec.PartitionSpec): string => {
  const { commitId, index, metadata } = request
  const path = PartitionSpec.path(spec, metadata.schemas, request.partition)
  return `${metadata.location}/data/${path === "" ? "" : `${path}/`}${commitId}-${index}.parquet`
}

const ownName = /\/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\d+\.parquet$/

/** Whether a data file of the table was written here, as its name says: such a file has field ids. */
export const isWrittenHere = (metadata: TableMetadata, location: string): boolean =>
  location.startsWith(`${metadata.location}/data/`) && ownName.test(location)

/** The file with its metrics, or undefined where the query yields no rows: then there is no file. */
export const write = Effect.fn("DataFileWriter.write")(function*(
  request: DataFileRequest
): Effect.fn.Return<DataFile | undefined, WriteError, ObjectStore | QueryEngine> {
  const { connection, metadata, specId } = request
  const store = yield* ObjectStore
  const engine = yield* QueryEngine
  const spec = specById(metadata, specId)
  invariant(spec !== undefined, `the table has a partition spec ${specId}`)
  invariant(spec.fields.length === request.partition.length, "a partition has a value for each field of its spec")
  const schema = request.schema ?? currentSchema(metadata)
  // It has byte strings of any length only.
  const fixed = leaves(schema).find(({ type }) => type.type === "fixed")
  if (fixed !== undefined) return yield* new WriteUnsupported({ table: metadata.location, column: fixed.path, type: primitiveText(fixed.type) })
  const location = dataFileLocation(request, spec)
  const key = store.keyOf(location)
  if (key === undefined) return yield* new LocationForeign({ location })
  // Tables of one commit share the commit's id, so the scratch name needs more.
  const scratch = join(engine.scratchDir, `${yield* RandomId.uuid}.parquet`)
  return yield* Effect.gen(function*() {
    const written = yield* connection.copyParquet(request.query, scratch, FieldIdsSql.render(schema))
    if (written.rowCount === 0n) return undefined
    yield* store.putFile(key, scratch)
    return {
      content: "data" as const,
      filePath: location,
      fileFormat: "PARQUET",
      specId,
      partition: request.partition,
      recordCount: written.rowCount,
      fileSizeInBytes: written.sizeBytes,
      ...metrics(schema, written, (path) => MetricsMode.of(metadata, path)),
      keyMetadata: undefined,
      splitOffsets: undefined,
      equalityIds: undefined,
      sortOrderId: request.sortOrderId
    }
  }).pipe(Effect.ensuring(removeScratch(scratch)))
})
