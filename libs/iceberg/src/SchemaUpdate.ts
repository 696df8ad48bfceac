/**
 * Changes of a table's columns (specification: "Schema Evolution"). Pure: (metadata, changes) gives the new schema, whose columns are known by their
 * ids, so that files written before go on meaning what they meant.
 *
 * Changes are applied one after the other; each names columns as the ones before left them. An id is never used again, also of a dropped column.
 */
import { Either, Schema } from "effect"
import * as Column from "./Column.ts"
import { ColumnNotFound } from "./Column.ts"
import * as NameMapping from "./NameMapping.ts"
import { primitiveText } from "./SchemaJson.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSchema, defaultSortOrder, defaultSpec } from "./TableMetadata.ts"
import type { IcebergType, NestedField, PrimitiveType, TableSchema } from "./Type.ts"
import { isPrimitive } from "./Type.ts"

/** Where a column stands among its siblings. `before` and `after` name a sibling. */
export type Place = "first" | { readonly before: string } | { readonly after: string }

export type SchemaChange =
  | {
    readonly change: "add"
    /** The last part is the new column's name, what is before it names a struct. */
    readonly column: string
    /** Its ids do not matter: it gets new ones. */
    readonly type: IcebergType
    /** Incompatible: rows that are there have no value. */
    readonly required?: boolean
    readonly doc?: string
    readonly place?: Place
  }
  | { readonly change: "drop"; readonly column: string }
  | { readonly change: "rename"; readonly column: string; readonly name: string }
  | { readonly change: "move"; readonly column: string; readonly place: Place }
  | { readonly change: "widen"; readonly column: string; readonly type: PrimitiveType }
  /** `required: true` is incompatible: there may be rows without a value. */
  | { readonly change: "require"; readonly column: string; readonly required: boolean }
  | { readonly change: "document"; readonly column: string; readonly doc: string | undefined }
  /** Columns that together tell rows apart. */
  | { readonly change: "identify"; readonly columns: ReadonlyArray<string> }

/** There is a column of that name already. */
export class ColumnExists extends Schema.TaggedError<ColumnExists>()("ColumnExists", {
  table: Schema.String,
  column: Schema.String
}) {
  override get message() {
    return `${this.table} already has a column ${this.column}`
  }
}

/** What files and readers hold of the column does not allow the change. */
export class ColumnChangeRefused extends Schema.TaggedError<ColumnChangeRefused>()("ColumnChangeRefused", {
  table: Schema.String,
  column: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `column ${this.column} of ${this.table} cannot be changed so: ${this.reason}`
  }
}

export type SchemaUpdateError = ColumnNotFound | ColumnExists | ColumnChangeRefused

export interface SchemaUpdateOptions {
  /** Takes required columns without a value for the rows that are there, too. */
  readonly allowIncompatible?: boolean
}

export interface UpdatedSchema {
  /** Its id is for who adds it to the table. */
  readonly schema: TableSchema
  readonly lastColumnId: number
  /** Properties of the table that go with it: of a table with a name mapping, that of the new columns. */
  readonly properties: Readonly<Record<string, string>>
}

interface Draft extends Omit<UpdatedSchema, "properties"> {
  readonly metadata: TableMetadata
  readonly allowIncompatible: boolean
}

type Step<A> = Either.Either<A, SchemaUpdateError>

/** The current schema with these changes, or the first of them that cannot be. */
export const apply = (
  metadata: TableMetadata,
  changes: ReadonlyArray<SchemaChange>,
  options: SchemaUpdateOptions = {}
): Step<UpdatedSchema> => {
  const schema = currentSchema(metadata)
  const allowIncompatible = options.allowIncompatible ?? false
  let draft: Draft = { metadata, schema, lastColumnId: metadata.lastColumnId, allowIncompatible }
  for (const change of changes) {
    const next = applyOne(draft, change)
    if (Either.isLeft(next)) return Either.left(next.left)
    draft = next.right
  }
  return Either.map(checkIdentifiers(draft), () => ({
    schema: draft.schema,
    lastColumnId: draft.lastColumnId,
    properties: NameMapping.propertiesFor(metadata, schema, draft.schema)
  }))
}

const applyOne = (draft: Draft, change: SchemaChange): Step<Draft> => {
  switch (change.change) {
    case "add":
      return add(draft, change)
    case "drop":
      return drop(draft, change.column)
    case "rename":
      return rename(draft, change.column, change.name)
    case "move":
      return Either.flatMap(changeable(draft, change.column), (column) => moved(draft, column, change.place))
    case "widen":
      return widen(draft, change.column, change.type)
    case "require":
      return require(draft, change.column, change.required)
    case "document":
      return Either.map(find(draft, change.column), (column) => withField(draft, { ...column.field, doc: change.doc }))
    case "identify":
      return Either.map(Either.all(change.columns.map((column) => find(draft, column))), (columns) => ({
        ...draft,
        schema: { ...draft.schema, identifierFieldIds: columns.map((column) => column.field.id).sort((a, b) => a - b) }
      }))
  }
}

const tableOf = (draft: Draft) => draft.metadata.location

const find = (draft: Draft, path: string) => Column.find(draft.schema, path, tableOf(draft))

const refuse = (draft: Draft, column: string, reason: string) =>
  Either.left(new ColumnChangeRefused({ table: tableOf(draft), column, reason }))

const lastPart = (path: string) => path.slice(path.lastIndexOf(".") + 1)
const parentPath = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf(".")))

/** A column that may change: not within a map's key, by which engines find entries. */
const changeable = (draft: Draft, path: string): Step<Column.Column> =>
  Either.flatMap(find(draft, path), (column) =>
    column.parents.some((parent, index) => {
      const inner = column.parents[index + 1] ?? column.field
      return parent.type.type === "map" && parent.type.keyId === inner.id
    })
      ? refuse(draft, path, "it belongs to the key of a map")
      : Either.right(column))

/** Like {@link changeable}, and of a struct: elements, keys and values have neither names nor places of their own. */
const named = (draft: Draft, path: string): Step<Column.Column> =>
  Either.flatMap(changeable(draft, path), (column) => {
    const parent = column.parents.at(-1)
    return parent === undefined || parent.type.type === "struct"
      ? Either.right(column)
      : refuse(draft, path, `it is what a ${parent.type.type} holds`)
  })

const withFields = (draft: Draft, fields: ReadonlyArray<NestedField>): Draft => ({
  ...draft,
  schema: { ...draft.schema, fields }
})

const withField = (draft: Draft, changed: NestedField): Draft => {
  const visit = (field: NestedField): NestedField =>
    field.id === changed.id ? changed : { ...field, type: Column.mapChildren(field.type, visit) }
  return withFields(draft, draft.schema.fields.map(visit))
}

/** Changes the columns of one struct; of the table itself where there is no parent. */
const withSiblings = (
  draft: Draft,
  parent: NestedField | undefined,
  change: (fields: ReadonlyArray<NestedField>) => ReadonlyArray<NestedField>
): Draft => {
  if (parent === undefined) return withFields(draft, change(draft.schema.fields))
  const type = parent.type
  return type.type === "struct" ? withField(draft, { ...parent, type: { ...type, fields: change(type.fields) } }) : draft
}

const siblings = (draft: Draft, parent: NestedField | undefined): ReadonlyArray<NestedField> => {
  if (parent === undefined) return draft.schema.fields
  return parent.type.type === "struct" ? parent.type.fields : []
}

/** New ids for a type: a level's fields first, then what is in them, as Iceberg's own writers number them. */
const freshIds = (type: IcebergType, next: () => number): IcebergType => {
  const numbered = Column.mapChildren(type, (field) => ({ ...field, id: next() }))
  return Column.mapChildren(numbered, (field) => ({ ...field, type: freshIds(field.type, next) }))
}

const add = (draft: Draft, change: Extract<SchemaChange, { readonly change: "add" }>): Step<Draft> =>
  Either.gen(function*() {
    const { column } = change
    const required = change.required ?? false
    const name = lastPart(column)
    const above = parentPath(column)
    const parent = above === "" ? undefined : (yield* changeable(draft, above)).field
    if (parent !== undefined && parent.type.type !== "struct") {
      return yield* refuse(draft, column, `${above} is a ${parent.type.type}, not a struct`)
    }
    if (name === "") return yield* refuse(draft, column, "it has no name")
    if (siblings(draft, parent).some((field) => field.name === name)) {
      return yield* Either.left(new ColumnExists({ table: tableOf(draft), column }))
    }
    if (required && !draft.allowIncompatible) {
      return yield* refuse(draft, column, "rows that are there have no value for a required column")
    }
    let last = draft.lastColumnId
    const id = ++last
    const type = freshIds(change.type, () => ++last)
    const field: NestedField = { id, name, required, type, doc: change.doc }
    const added = withSiblings({ ...draft, lastColumnId: last }, parent, (fields) => [...fields, field])
    return change.place === undefined ? added : yield* moved(added, yield* find(added, column), change.place)
  })

const moved = (draft: Draft, column: Column.Column, place: Place): Step<Draft> => {
  const parent = column.parents.at(-1)
  const others = siblings(draft, parent).filter((field) => field.id !== column.field.id)
  const beside = place === "first" ? undefined : "before" in place ? place.before : place.after
  const index = beside === undefined ? 0 : others.findIndex((field) => field.name === beside)
  if (beside !== undefined && index < 0) {
    const known = others.map((field) => field.name)
    return Either.left(new ColumnNotFound({ table: tableOf(draft), column: beside, known }))
  }
  const at = place !== "first" && "after" in place ? index + 1 : index
  return Either.map(named(draft, column.path), () =>
    withSiblings(draft, parent, () => [...others.slice(0, at), column.field, ...others.slice(at)]))
}

const idsWithin = (field: NestedField): ReadonlySet<number> =>
  new Set(Column.all({ schemaId: 0, fields: [field], identifierFieldIds: [] }).map((column) => column.field.id))

const usedBy = ({ metadata, schema }: Draft, ids: ReadonlySet<number>): string | undefined => {
  const partition = defaultSpec(metadata).fields.find((field) => field.transform.type !== "void" && ids.has(field.sourceId))
  if (partition !== undefined) return `the partition field ${partition.name} is made of it`
  if (defaultSortOrder(metadata).fields.some((field) => ids.has(field.sourceId))) return "the table's order rests on it"
  return schema.identifierFieldIds.some((id) => ids.has(id)) ? "it identifies rows" : undefined
}

const drop = (draft: Draft, path: string): Step<Draft> =>
  Either.flatMap(named(draft, path), ({ field, parents }) => {
    const use = usedBy(draft, idsWithin(field))
    if (use !== undefined) return refuse(draft, path, use)
    // Parquet has no groups without columns, nor files.
    if (siblings(draft, parents.at(-1)).length === 1) return refuse(draft, path, "nothing would be left beside it")
    return Either.right(withSiblings(draft, parents.at(-1), (fields) => fields.filter((other) => other.id !== field.id)))
  })

const rename = (draft: Draft, path: string, name: string): Step<Draft> =>
  Either.flatMap(named(draft, path), (column): Step<Draft> => {
    const others = siblings(draft, column.parents.at(-1)).filter((field) => field.id !== column.field.id)
    const above = parentPath(path)
    if (name === "") return refuse(draft, path, "the new name is empty")
    if (others.some((field) => field.name === name)) {
      return Either.left(new ColumnExists({ table: tableOf(draft), column: above === "" ? name : `${above}.${name}` }))
    }
    return Either.right(withField(draft, { ...column.field, name }))
  })

const isWider = (from: PrimitiveType, to: PrimitiveType): boolean => {
  if (from.type === "decimal" && to.type === "decimal") return to.scale === from.scale && to.precision >= from.precision && to.precision <= 38
  if (from.type === "fixed" && to.type === "fixed") return from.length === to.length
  return from.type === to.type || (from.type === "int" && to.type === "long") || (from.type === "float" && to.type === "double")
}

const widen = (draft: Draft, path: string, to: PrimitiveType): Step<Draft> =>
  Either.flatMap(changeable(draft, path), ({ field }) => {
    const from = field.type
    if (!isPrimitive(from)) return refuse(draft, path, `a ${from.type} has no wider type`)
    if (!isWider(from, to)) return refuse(draft, path, `${primitiveText(from)} cannot become ${primitiveText(to)}`)
    return Either.right(withField(draft, { ...field, type: to }))
  })

const require = (draft: Draft, path: string, required: boolean): Step<Draft> =>
  Either.flatMap(changeable(draft, path), ({ field }) =>
    required && !field.required && !draft.allowIncompatible
      ? refuse(draft, path, "rows that are there may have no value for a required column")
      : Either.right(withField(draft, { ...field, required })))

/** Specification: "Identifier Field IDs". */
const checkIdentifiers = (draft: Draft): Step<void> => {
  for (const id of draft.schema.identifierFieldIds) {
    const column = Column.byId(draft.schema, id)
    if (column === undefined) return refuse(draft, String(id), "a column that is not there cannot identify rows")
    const { field, parents, path } = column
    const isFit = isPrimitive(field.type) && field.type.type !== "float" && field.type.type !== "double"
    if (!isFit) return refuse(draft, path, `a ${field.type.type} cannot identify rows`)
    if (Column.isRepeated(column)) return refuse(draft, path, "a column in a list or a map cannot identify rows")
    if (![...parents, field].every((one) => one.required)) return refuse(draft, path, "an optional column cannot identify rows")
  }
  return Either.right(undefined)
}
