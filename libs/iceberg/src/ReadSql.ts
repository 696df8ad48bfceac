/**
 * DuckDB's SQL for the rows of planned files, as the table means them: columns by their field ids (renamed, reordered, widened, added since: NULL), and
 * without what delete files delete (specification: "Column Projection", "Delete Formats").
 *
 * Not done: columns within structs are found by name, since the engine finds only top-level columns by id; where one was renamed, or has the name of
 * one that was dropped, the read is refused.
 * Files without field ids are not read.
 */
import { Effect, Schema, type Scope } from "effect"
import { ObjectStore, type ObjectNotFound, type ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import * as Column from "./Column.ts"
import type { DataFile } from "./DataFile.ts"
import type { SequencedFile } from "./DeleteFiles.ts"
import type { PlannedFile } from "./Scan.ts"
import { LocationForeign } from "./TableFiles.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import type { IcebergType, NestedField, TableSchema } from "./Type.ts"

/** A file or a column of the table is of a kind that is not read: what came of it would be wrong. */
export class ReadUnsupported extends Schema.TaggedError<ReadUnsupported>()("ReadUnsupported", {
  table: Schema.String,
  subject: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.table} cannot be read here: ${this.subject} ${this.reason}`
  }
}

export type ReadError = ObjectNotFound | ObjectStoreError | LocationForeign | ReadUnsupported

/** DuckDB's name of a type. */
const engineType = (type: IcebergType): string => {
  switch (type.type) {
    case "boolean":
    case "double":
    case "float":
    case "date":
    case "time":
    case "timestamp":
    case "timestamptz":
    case "uuid":
      return type.type.toUpperCase()
    case "int":
      return "INTEGER"
    case "long":
      return "BIGINT"
    case "string":
      return "VARCHAR"
    case "binary":
    case "fixed":
      return "BLOB"
    case "decimal":
      return `DECIMAL(${type.precision}, ${type.scale})`
    case "list":
      return `${engineType(type.element)}[]`
    case "map":
      return `MAP(${engineType(type.key)}, ${engineType(type.value)})`
    case "struct":
      return `STRUCT(${type.fields.map((field) => `${quoted(field.name)} ${engineType(field.type)}`).join(", ")})`
  }
}

type ReadColumn = Pick<NestedField, "id" | "name" | "type">

const schemaText = (columns: ReadonlyArray<ReadColumn>): string => {
  const one = ({ id, name, type }: ReadColumn) => `${id}: {name: ${literal(name)}, type: ${literal(engineType(type))}, default_value: NULL}`
  return `MAP {${columns.map(one).join(", ")}}`
}

const scan = (paths: ReadonlyArray<string>, columns: ReadonlyArray<ReadColumn>, more = ""): string =>
  `read_parquet([${paths.map(literal).join(", ")}], schema = ${schemaText(columns)}${more})`

/** Columns of a file of position deletes (specification: "Reserved Field IDs"). */
const positionColumns: ReadonlyArray<ReadColumn> = [
  { id: 2_147_483_546, name: "file_path", type: { type: "string" } },
  { id: 2_147_483_545, name: "pos", type: { type: "long" } }
]

/** Beside the table's own columns, so under names that no table has. */
const fileColumn = "voltlake file"
const equalityColumn = (id: number) => `voltlake equality ${id}`

/** A file where the engine finds it. */
interface LocalFile {
  readonly location: string
  readonly path: string
}

/** Data files of which the same delete files delete. */
interface Group {
  readonly files: ReadonlyArray<PlannedFile>
  readonly deletes: ReadonlyArray<SequencedFile>
}

const groups = (files: ReadonlyArray<PlannedFile>): ReadonlyArray<Group> => {
  const made = new Map<string, { readonly files: Array<PlannedFile>; readonly deletes: ReadonlyArray<SequencedFile> }>()
  for (const planned of files) {
    const key = planned.deletes.map(({ file }) => file.filePath).sort().join("\n")
    const known = made.get(key)
    if (known === undefined) made.set(key, { files: [planned], deletes: planned.deletes })
    else known.files.push(planned)
  }
  return Array.from(made.values())
}

const localFile = Effect.fnUntraced(function*(metadata: TableMetadata, { fileFormat, filePath: location }: DataFile) {
  if (fileFormat.toUpperCase() !== "PARQUET") {
    return yield* new ReadUnsupported({ table: metadata.location, subject: location, reason: `is of the format ${fileFormat}` })
  }
  const store = yield* ObjectStore
  const key = store.keyOf(location)
  if (key === undefined) return yield* new LocationForeign({ location })
  return { location, path: yield* store.localFile(key) } satisfies LocalFile
})

const readsAtOnce = 8

const localFiles = (metadata: TableMetadata, files: ReadonlyArray<SequencedFile>) =>
  Effect.forEach(files, ({ file }) => localFile(metadata, file), { concurrency: readsAtOnce })

/** Rows of `data` that none of these files of position deletes names. */
const withoutPositions = (paths: ReadonlyArray<string>): string =>
  `NOT EXISTS (SELECT 1 FROM ${scan(paths, positionColumns)} AS gone
    WHERE gone.file_path = data.location AND gone.pos = data.file_row_number)`

/** Rows that equal none of the file's in these columns; NULL equals NULL. */
const withoutEqual = (path: string, columns: ReadonlyArray<ReadColumn>): string =>
  `NOT EXISTS (SELECT 1 FROM ${scan([path], columns)} AS gone
    WHERE ${columns.map(({ name }) => `gone.${quoted(name)} IS NOT DISTINCT FROM data.${quoted(name)}`).join(" AND ")})`

const equalityColumns = (metadata: TableMetadata, schema: TableSchema, ids: ReadonlyArray<number>) =>
  Effect.forEach(ids, (id) => {
    // A column may be gone from the schema, and its deletes still hold.
    const field = [schema, ...metadata.schemas.toReversed()].flatMap((one) => one.fields).find((one) => one.id === id)
    return field === undefined
      ? Effect.fail(new ReadUnsupported({ table: metadata.location, subject: `column ${id}`, reason: "is nested, and rows are deleted by it" }))
      : Effect.succeed({ id, name: equalityColumn(id), type: field.type })
  })

/** A SELECT of the columns from files of which rows are deleted. */
const withDeletes = Effect.fnUntraced(function*(schema: TableSchema, metadata: TableMetadata, { deletes, files }: Group) {
  const local = yield* localFiles(metadata, files)
  const positions = yield* localFiles(metadata, deletes.filter(({ file }) => file.content === "position-deletes"))
  const conditions: Array<string> = positions.length === 0 ? [] : [withoutPositions(positions.map(({ path }) => path))]
  const ids = new Set<number>()
  for (const { file } of deletes.filter((one) => one.file.content === "equality-deletes")) {
    const columns = yield* equalityColumns(metadata, schema, file.equalityIds ?? [])
    columns.forEach(({ id }) => ids.add(id))
    conditions.push(withoutEqual((yield* localFile(metadata, file)).path, columns))
  }
  const shown = schema.fields.map(({ id, name }) => `${quoted(ids.has(id) ? equalityColumn(id) : name)} AS ${quoted(name)}`).join(", ")
  const extra = yield* equalityColumns(metadata, schema, Array.from(ids))
  const columns = [...schema.fields.filter(({ id }) => !ids.has(id)), ...extra]
  const options = `, filename = ${literal(fileColumn)}, file_row_number = true`
  const names = local.map(({ location, path }) => `(${literal(path)}, ${literal(location)})`).join(", ")
  return `SELECT ${shown} FROM (
    SELECT rows.*, names.location FROM ${scan(local.map(({ path }) => path), columns, options)} AS rows
    JOIN (VALUES ${names}) AS names (path, location) ON rows.${quoted(fileColumn)} = names.path
  ) AS data WHERE ${conditions.join(" AND ")}`
})

/** The engine finds columns within structs by name: a name that files may have must be the schema's, and mean the same column. */
const checkNested = (schema: TableSchema, metadata: TableMetadata) => {
  const nested = (of: TableSchema) => Column.all(of).filter((column) => column.parents.length > 0)
  const place = ({ field, parents }: Column.Column) => `${parents.at(-1)!.id} ${field.name.toLowerCase()}`
  const now = nested(schema)
  const names = new Map(now.map((column) => [column.field.id, column.field.name]))
  const ids = new Map(now.map((column) => [place(column), column.field.id]))
  const unreadable = (column: Column.Column, reason: string) =>
    Effect.fail(new ReadUnsupported({ table: metadata.location, subject: `column ${column.path}`, reason }))
  for (const column of metadata.schemas.flatMap(nested)) {
    if (names.has(column.field.id) && names.get(column.field.id) !== column.field.name) return unreadable(column, "was renamed inside another")
    if ((ids.get(place(column)) ?? column.field.id) !== column.field.id) return unreadable(column, "is another than the one that had its name inside another")
  }
  return Effect.void
}

/** A relation (for FROM) with the schema's columns. Its files are at hand for as long as the scope is open. */
export const relation = Effect.fn("ReadSql.relation")(function*(
  schema: TableSchema,
  metadata: TableMetadata,
  files: ReadonlyArray<PlannedFile>
): Effect.fn.Return<string, ReadError, ObjectStore | Scope.Scope> {
  yield* checkNested(schema, metadata)
  const selects = yield* Effect.forEach(groups(files), (group) => {
    if (group.deletes.length > 0) return withDeletes(schema, metadata, group)
    return Effect.map(localFiles(metadata, group.files), (local) => {
      const names = schema.fields.map(({ name }) => quoted(name)).join(", ")
      return `SELECT ${names} FROM ${scan(local.map(({ path }) => path), schema.fields)}`
    })
  })
  if (selects.length > 0) return `(${selects.join(" UNION ALL ")})`
  const none = schema.fields.map(({ name, type }) => `NULL::${engineType(type)} AS ${quoted(name)}`).join(", ")
  return `(SELECT ${none} WHERE false)`
})
