/**
 * DuckDB's SQL for the rows of planned files, as the table means them: columns by their field ids (renamed, reordered, widened, added since: NULL), and
 * without what delete files delete (specification: "Column Projection", "Delete Formats").
 *
 * The engine finds top-level columns by id, and what is within them by name. So where a column within another was renamed, or has the name of one that
 * was dropped, the footers of the files are read, and the columns of each layout are put together by {@link ProjectSql}. So it is with files that have
 * no ids, which the table's name mapping gives them (`NameMapping`): wherever there is one, and for all files that others wrote, since the engine would
 * take what has no ids for NULL. Files of ours in a table without such a past are read without a look at their footers.
 *
 * Not done: rows deleted by the value of a nested column.
 */
import { Effect, Either, Schema, type Scope } from "effect"
import { ObjectStore, type ObjectNotFound, type ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import * as Column from "./Column.ts"
import type { DataFile } from "./DataFile.ts"
import { isWrittenHere } from "./DataFileWriter.ts"
import type { SequencedFile } from "./DeleteFiles.ts"
import { engineType, nothing, valueSql } from "./EngineType.ts"
import * as FileSchema from "./FileSchema.ts"
import * as NameMapping from "./NameMapping.ts"
import * as ParquetFooter from "./ParquetFooter.ts"
import type { PartitionValue } from "./PartitionSpec.ts"
import type { ReadColumn } from "./ProjectSql.ts"
import * as ProjectSql from "./ProjectSql.ts"
import type { PlannedFile } from "./Scan.ts"
import { LocationForeign } from "./TableFiles.ts"
import { specById, type TableMetadata } from "./TableMetadata.ts"
import type { TableSchema } from "./Type.ts"
import { children, isPrimitive } from "./Type.ts"

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

export type ReadError =
  | ObjectNotFound
  | ObjectStoreError
  | LocationForeign
  | ReadUnsupported
  | NameMapping.NameMappingInvalid
  | ParquetFooter.ParquetUnreadable

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
const partitionColumn = (id: number) => `voltlake partition ${id}`

/** How the files of a read are looked at. */
interface Reading {
  readonly schema: TableSchema
  readonly metadata: TableMetadata
  readonly mapping: NameMapping.NameMapping | undefined
  /** Whether the engine would find columns within others by wrong names. */
  readonly byFooters: boolean
}

/** A file where the engine finds it. */
interface LocalFile {
  readonly location: string
  readonly path: string
  /** Undefined where the engine finds the table's columns in it by itself. */
  readonly columns: FileSchema.FileSchema | undefined
  /** By the id of a column by which the table was partitioned as it is: the value of every row of the file. */
  readonly partition: ReadonlyMap<number, PartitionValue>
}

/** Data files of which the same delete files delete. */
interface Group {
  readonly files: ReadonlyArray<PlannedFile>
  readonly deletes: ReadonlyArray<SequencedFile>
}

const grouped = <A>(all: ReadonlyArray<A>, key: (one: A) => string): ReadonlyArray<ReadonlyArray<A>> => {
  const made = new Map<string, Array<A>>()
  for (const one of all) {
    const known = made.get(key(one))
    if (known === undefined) made.set(key(one), [one])
    else known.push(one)
  }
  return Array.from(made.values())
}

const groups = (files: ReadonlyArray<PlannedFile>): ReadonlyArray<Group> =>
  grouped(files, ({ deletes }) => deletes.map(({ file }) => file.filePath).sort().join("\n"))
    .map((alike) => ({ files: alike, deletes: alike[0]!.deletes }))

const unsupported = ({ metadata }: Reading, subject: string, reason: string) => new ReadUnsupported({ table: metadata.location, subject, reason })

const remedy = `has no Iceberg field ids, and the table has no property ${NameMapping.property} that says which of its columns is which: ` +
  "set the property (other engines do as they add such files), or have an engine that knows the columns write the file anew"

const partitionOf = ({ metadata }: Reading, { partition, specId }: DataFile): LocalFile["partition"] =>
  new Map((specById(metadata, specId)?.fields ?? []).flatMap(({ sourceId, transform }, at) =>
    transform.type === "identity" ? [[sourceId, partition[at] ?? null] as const] : []))

/** The file's columns with their ids; undefined where the engine finds the table's by itself. */
const columnsOf = Effect.fnUntraced(function*(reading: Reading, path: string, file: DataFile) {
  const { byFooters, mapping, metadata } = reading
  if (!byFooters && mapping === undefined && isWrittenHere(metadata, file.filePath)) return undefined
  const columns = FileSchema.ofFooter(yield* ParquetFooter.ofLocalFile(path, file.filePath))
  if (FileSchema.hasIds(columns)) return columns
  return mapping === undefined ? yield* unsupported(reading, file.filePath, remedy) : NameMapping.apply(columns, mapping)
})

const localFile = Effect.fnUntraced(function*(reading: Reading, file: DataFile) {
  const { fileFormat, filePath: location } = file
  if (fileFormat.toUpperCase() !== "PARQUET") return yield* unsupported(reading, location, `is of the format ${fileFormat}`)
  const store = yield* ObjectStore
  const key = store.keyOf(location)
  if (key === undefined) return yield* new LocationForeign({ location })
  const path = yield* store.localFile(key)
  // Position deletes have columns of their own.
  if (file.content === "position-deletes") return { location, path, columns: undefined, partition: new Map() } satisfies LocalFile
  return { location, path, partition: partitionOf(reading, file), columns: yield* columnsOf(reading, path, file) } satisfies LocalFile
})

const readsAtOnce = 8

const localFiles = (reading: Reading, files: ReadonlyArray<SequencedFile>) =>
  Effect.forEach(files, ({ file }) => localFile(reading, file), { concurrency: readsAtOnce })

const values = (rows: ReadonlyArray<ReadonlyArray<string>>) => `(VALUES ${rows.map((row) => `(${row.join(", ")})`).join(", ")})`

/** A relation with the wanted columns of files of one layout; `withPlaces`: and of each row its file and its place there. */
const ofLayout = (
  reading: Reading,
  files: ReadonlyArray<LocalFile>,
  wanted: ReadonlyArray<ReadColumn>,
  withPlaces: boolean
): Either.Either<string, ReadUnsupported> => {
  const places = withPlaces ? `, filename = ${literal(fileColumn)}, file_row_number = true` : ""
  const paths = files.map(({ path }) => path)
  const { columns, partition } = files[0]!
  if (columns === undefined) return Either.right(scan(paths, wanted, places))
  const all = new Map(Column.all({ schemaId: 0, identifierFieldIds: [], fields: wanted.map((one) => ({ ...one, required: false, doc: undefined })) })
    .map(({ field }) => [field.id, field.type]))
  const constants = new Set<number>()
  const absent = (id: number) => {
    if (!partition.has(id)) return undefined
    constants.add(id)
    return `parts.${quoted(partitionColumn(id))}`
  }
  return Either.mapBoth(ProjectSql.columns(wanted, columns, absent), {
    onLeft: ({ column, reason }) => unsupported(reading, `column ${column} of ${files[0]!.location}`, reason),
    onRight: (shown) => {
      const more = withPlaces ? [`rows.${quoted(fileColumn)}`, "rows.file_row_number"] : []
      const named = withPlaces || constants.size === 0 ? places : `, filename = ${literal(fileColumn)}`
      const from = `read_parquet([${paths.map(literal).join(", ")}], hive_partitioning = false${named}) AS rows`
      if (constants.size === 0) return `(SELECT ${[...shown, ...more].join(", ")} FROM ${from})`
      const ids = Array.from(constants)
      const value = (file: LocalFile, id: number) => {
        const type = all.get(id)!
        return isPrimitive(type) ? valueSql(type, file.partition.get(id) ?? null) : nothing(type)
      }
      const parts = values(files.map((file) => [literal(file.path), ...ids.map((id) => value(file, id))]))
      return `(SELECT ${[...shown, ...more].join(", ")} FROM ${from}
        JOIN ${parts} AS parts (path, ${ids.map((id) => quoted(partitionColumn(id))).join(", ")}) ON rows.${quoted(fileColumn)} = parts.path)`
    }
  })
}

const layoutKey = ({ columns, partition }: LocalFile) =>
  columns === undefined ? "" : `${Array.from(partition.keys()).join()} ${FileSchema.key(columns)}`

/** Like {@link ofLayout}, of files of any layouts. */
const ofFiles = (reading: Reading, files: ReadonlyArray<LocalFile>, wanted: ReadonlyArray<ReadColumn>, withPlaces = false) => {
  const names = [...wanted.map(({ name }) => name), ...(withPlaces ? [fileColumn, "file_row_number"] : [])].map(quoted).join(", ")
  return Either.map(
    Either.all(grouped(files, layoutKey).map((alike) => ofLayout(reading, alike, wanted, withPlaces))),
    (layouts) => layouts.length === 1 ? layouts[0]! : `(${layouts.map((one) => `SELECT ${names} FROM ${one}`).join(" UNION ALL ")})`
  )
}

/** Rows of `data` that none of these files of position deletes names. */
const withoutPositions = (paths: ReadonlyArray<string>): string =>
  `NOT EXISTS (SELECT 1 FROM ${scan(paths, positionColumns)} AS gone
    WHERE gone.file_path = data.location AND gone.pos = data.file_row_number)`

/** Rows that equal none of the file's in these columns; NULL equals NULL. */
const withoutEqual = (reading: Reading, file: LocalFile, columns: ReadonlyArray<ReadColumn>) =>
  Either.map(ofFiles(reading, [file], columns), (relation) =>
    `NOT EXISTS (SELECT 1 FROM ${relation} AS gone
    WHERE ${columns.map(({ name }) => `gone.${quoted(name)} IS NOT DISTINCT FROM data.${quoted(name)}`).join(" AND ")})`)

const equalityColumns = (reading: Reading, ids: ReadonlyArray<number>) =>
  Effect.forEach(ids, (id) => {
    // A column may be gone from the schema, and its deletes still hold.
    const field = [reading.schema, ...reading.metadata.schemas.toReversed()].flatMap((one) => one.fields).find((one) => one.id === id)
    return field === undefined
      ? Effect.fail(unsupported(reading, `column ${id}`, "is nested, and rows are deleted by it"))
      : Effect.succeed({ id, name: equalityColumn(id), type: field.type })
  })

/** A SELECT of the columns from files of which rows are deleted. */
const withDeletes = Effect.fnUntraced(function*(reading: Reading, { deletes, files }: Group) {
  const { schema } = reading
  const local = yield* localFiles(reading, files)
  const positions = yield* localFiles(reading, deletes.filter(({ file }) => file.content === "position-deletes"))
  const conditions: Array<string> = positions.length === 0 ? [] : [withoutPositions(positions.map(({ path }) => path))]
  const ids = new Set<number>()
  for (const { file } of deletes.filter((one) => one.file.content === "equality-deletes")) {
    const columns = yield* equalityColumns(reading, file.equalityIds ?? [])
    columns.forEach(({ id }) => ids.add(id))
    conditions.push(yield* withoutEqual(reading, yield* localFile(reading, file), columns))
  }
  const shown = schema.fields.map(({ id, name }) => `${quoted(ids.has(id) ? equalityColumn(id) : name)} AS ${quoted(name)}`).join(", ")
  const extra = yield* equalityColumns(reading, Array.from(ids))
  const columns = [...schema.fields.filter(({ id }) => !ids.has(id)), ...extra]
  const names = values(local.map(({ location, path }) => [literal(path), literal(location)]))
  return `SELECT ${shown} FROM (
    SELECT rows.*, names.location FROM ${yield* ofFiles(reading, local, columns, true)} AS rows
    JOIN ${names} AS names (path, location) ON rows.${quoted(fileColumn)} = names.path
  ) AS data WHERE ${conditions.join(" AND ")}`
})

/**
 * The engine finds columns within structs by name: whether a name that files may have is not the schema's, or means another column. Nor does it take a
 * struct for another with which it has no column in common.
 */
const namesDiffer = (schema: TableSchema, metadata: TableMetadata): boolean => {
  const nested = (of: TableSchema) => Column.all(of).filter((column) => column.parents.length > 0)
  const place = ({ field, parents }: Column.Column) => `${parents.at(-1)!.id} ${field.name.toLowerCase()}`
  const now = nested(schema)
  const names = new Map(now.map((column) => [column.field.id, column.field.name]))
  const ids = new Map(now.map((column) => [place(column), column.field.id]))
  const inside = new Map(Column.all(schema).map(({ field }) => [field.id, children(field.type).map(({ id }) => id)]))
  const isStrange = ({ field }: Column.Column) => {
    const [was, is] = [children(field.type), inside.get(field.id) ?? []]
    return was.length > 0 && is.length > 0 && !was.some(({ id }) => is.includes(id))
  }
  return metadata.schemas.flatMap(Column.all).some(isStrange) || metadata.schemas.flatMap(nested).some((column) =>
    (names.get(column.field.id) ?? column.field.name) !== column.field.name ||
    (ids.get(place(column)) ?? column.field.id) !== column.field.id
  )
}

/** A relation (for FROM) with the schema's columns. Its files are at hand for as long as the scope is open. */
export const relation = Effect.fn("ReadSql.relation")(function*(
  schema: TableSchema,
  metadata: TableMetadata,
  files: ReadonlyArray<PlannedFile>
): Effect.fn.Return<string, ReadError, ObjectStore | Scope.Scope> {
  const reading: Reading = { schema, metadata, mapping: yield* NameMapping.of(metadata), byFooters: namesDiffer(schema, metadata) }
  const hollow = Column.all(schema).find(({ field }) => field.type.type === "struct" && field.type.fields.length === 0)
  if (hollow !== undefined) return yield* unsupported(reading, `column ${hollow.path}`, "is a struct without columns, which the engine does not have")
  const selects = yield* Effect.forEach(groups(files), (group) => {
    if (group.deletes.length > 0) return withDeletes(reading, group)
    const names = schema.fields.map(({ name }) => quoted(name)).join(", ")
    return Effect.map(
      Effect.flatMap(localFiles(reading, group.files), (local) => ofFiles(reading, local, schema.fields)),
      (rows) => `SELECT ${names} FROM ${rows}`
    )
  })
  if (selects.length > 0) return `(${selects.join(" UNION ALL ")})`
  const none = schema.fields.map(({ name, type }) => `${nothing(type)} AS ${quoted(name)}`).join(", ")
  return `(SELECT ${none} WHERE false)`
})
