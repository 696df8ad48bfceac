/**
 * Changes of how new files are parted and ordered (specification: "Partition Evolution", "Sorting"). Pure. Files that are there keep the spec and the
 * order that they were written by.
 */
import { Either, Schema } from "effect"
import * as Column from "./Column.ts"
import type { ColumnNotFound } from "./Column.ts"
import type { PartitionField, PartitionSpec } from "./PartitionSpec.ts"
import { primitiveText } from "./SchemaJson.ts"
import type { SortField, SortOrder } from "./SortOrder.ts"
import { unsorted } from "./SortOrder.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { currentSchema, defaultSpec } from "./TableMetadata.ts"
import * as Transform from "./Transform.ts"
import { isPrimitive } from "./Type.ts"

export type SpecChange =
  | {
    readonly change: "add"
    readonly column: string
    readonly transform: Transform.Transform
    /** `<column>_day`, `<column>_bucket_16` and the like where not given. */
    readonly name?: string
  }
  | { readonly change: "remove"; readonly field: string }
  | { readonly change: "rename"; readonly field: string; readonly name: string }

export interface SortChange {
  readonly column: string
  /** Identity where not given. */
  readonly transform?: Transform.Transform
  /** Ascending where not given. */
  readonly direction?: SortField["direction"]
  /** First in an ascending order and last in a descending one, where not given. */
  readonly nullOrder?: SortField["nullOrder"]
}

/** The table cannot be parted or ordered so. `field` is the partition field's name, or the column's. */
export class PartitioningRefused extends Schema.TaggedError<PartitioningRefused>()("PartitioningRefused", {
  table: Schema.String,
  field: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.table} cannot be parted or ordered so by ${this.field}: ${this.reason}`
  }
}

export type SpecUpdateError = ColumnNotFound | PartitioningRefused

const refuse = (metadata: TableMetadata, field: string, reason: string) =>
  Either.left(new PartitioningRefused({ table: metadata.location, field, reason }))

const sameTransform = (a: Transform.Transform, b: Transform.Transform) => Transform.toText(a) === Transform.toText(b)

/** Whether two specs part alike, whatever their ids. */
export const isSameSpec = (a: PartitionSpec, b: PartitionSpec): boolean =>
  a.fields.length === b.fields.length &&
  a.fields.every((field, index) => {
    const other = b.fields[index]!
    return field.name === other.name && field.sourceId === other.sourceId && sameTransform(field.transform, other.transform)
  })

export const isSameOrder = (a: SortOrder, b: SortOrder): boolean =>
  a.fields.length === b.fields.length &&
  a.fields.every((field, index) => {
    const other = b.fields[index]!
    return field.sourceId === other.sourceId && sameTransform(field.transform, other.transform) &&
      field.direction === other.direction && field.nullOrder === other.nullOrder
  })

const source = (metadata: TableMetadata, path: string, transform: Transform.Transform) =>
  Either.flatMap(
    Column.find(currentSchema(metadata), path, metadata.location),
    (column): Either.Either<Column.Column, PartitioningRefused> => {
      const { type } = column.field
      if (!isPrimitive(type)) return refuse(metadata, path, `a ${type.type} has no single value`)
      if (Column.isRepeated(column)) return refuse(metadata, path, "it lies in a list or a map")
      if (transform.type === "unknown") return refuse(metadata, path, `the transform ${transform.text} is not known`)
      return Transform.accepts(transform, type)
        ? Either.right(column)
        : refuse(metadata, path, `${Transform.toText(transform)} takes no ${primitiveText(type)}`)
    }
  )

const defaultName = (path: string, transform: Transform.Transform): string => {
  switch (transform.type) {
    case "identity":
      return path
    case "void":
      return `${path}_null`
    case "bucket":
      return `${path}_bucket_${transform.buckets}`
    case "truncate":
      return `${path}_trunc_${transform.width}`
    case "unknown":
      return `${path}_${transform.text}`
    default:
      return `${path}_${transform.type}`
  }
}

const isOfTime = ({ type }: Transform.Transform) => type === "year" || type === "month" || type === "day" || type === "hour"

/** The id of an equal field of an earlier spec, so that its files' values go on meaning the same; otherwise a new one. */
const fieldIdFor = (metadata: TableMetadata, used: ReadonlyArray<PartitionField>, wanted: Omit<PartitionField, "fieldId">): number => {
  const earlier = metadata.partitionSpecs.flatMap((spec) => spec.fields).find((field) =>
    field.sourceId === wanted.sourceId && sameTransform(field.transform, wanted.transform) && field.name === wanted.name
  )
  return earlier?.fieldId ?? Math.max(metadata.lastPartitionId, ...used.map((field) => field.fieldId)) + 1
}

type Fields = ReadonlyArray<PartitionField>
type Step = Either.Either<Fields, SpecUpdateError>

/** A partition field may be called like a column only where it has that column's values. */
const checkName = (metadata: TableMetadata, fields: Fields, wanted: Omit<PartitionField, "fieldId">): Either.Either<void, PartitioningRefused> => {
  if (wanted.name === "") return refuse(metadata, wanted.name, "it has no name")
  if (fields.some((field) => field.name === wanted.name)) return refuse(metadata, wanted.name, "there is a partition field of that name already")
  const column = Column.all(currentSchema(metadata)).find((one) => one.path === wanted.name)
  const isItself = wanted.transform.type === "identity" && column?.field.id === wanted.sourceId
  return column === undefined || isItself ? Either.right(undefined) : refuse(metadata, wanted.name, "there is a column of that name")
}

const add = (metadata: TableMetadata, fields: Fields, change: Extract<SpecChange, { readonly change: "add" }>): Step =>
  Either.gen(function*() {
    const { column, transform } = change
    const { field } = yield* source(metadata, column, transform)
    const wanted = { sourceId: field.id, name: change.name ?? defaultName(column, transform), transform }
    const twice = fields.find((other) =>
      other.sourceId === field.id && (sameTransform(other.transform, transform) || (isOfTime(other.transform) && isOfTime(transform)))
    )
    if (twice !== undefined) return yield* refuse(metadata, wanted.name, `${twice.name} parts by the same column already`)
    yield* checkName(metadata, fields, wanted)
    return [...fields, { ...wanted, fieldId: fieldIdFor(metadata, fields, wanted) }]
  })

const applyOne = (metadata: TableMetadata, fields: Fields, change: SpecChange): Step => {
  if (change.change === "add") return add(metadata, fields, change)
  const found = fields.find((field) => field.name === change.field)
  if (found === undefined) {
    const names = fields.map((field) => field.name).join(", ")
    return refuse(metadata, change.field, names === "" ? "there are no partition fields" : `the partition fields are ${names}`)
  }
  const others = fields.filter((field) => field !== found)
  if (change.change === "remove") return Either.right(others)
  const renamed = { ...found, name: change.name }
  return Either.map(checkName(metadata, others, renamed), () => fields.map((field) => (field === found ? renamed : field)))
}

/** The default spec with these changes; one of the table's own where it has an equal one. Its id is for who adds it to the table. */
export const apply = (metadata: TableMetadata, changes: ReadonlyArray<SpecChange>): Either.Either<PartitionSpec, SpecUpdateError> => {
  const start: Step = Either.right(defaultSpec(metadata).fields)
  return Either.map(
    changes.reduce<Step>((step, change) => Either.flatMap(step, (fields) => applyOne(metadata, fields, change)), start),
    (fields) => {
      const made = { specId: Math.max(...metadata.partitionSpecs.map((spec) => spec.specId)) + 1, fields }
      return metadata.partitionSpecs.find((spec) => isSameSpec(spec, made)) ?? made
    }
  )
}

/** The order by these columns; one of the table's own where it has an equal one. No columns: unsorted. */
export const sortOrder = (metadata: TableMetadata, changes: ReadonlyArray<SortChange>): Either.Either<SortOrder, SpecUpdateError> =>
  Either.map(
    Either.all(changes.map(({ column, direction = "asc", nullOrder, transform = Transform.identity }) =>
      Either.map(source(metadata, column, transform), ({ field }): SortField => ({
        transform,
        sourceId: field.id,
        direction,
        nullOrder: nullOrder ?? (direction === "asc" ? "nulls-first" : "nulls-last")
      }))
    )),
    (fields) => {
      if (fields.length === 0) return unsorted
      const made = { orderId: Math.max(0, ...metadata.sortOrders.map((order) => order.orderId)) + 1, fields }
      return metadata.sortOrders.find((order) => isSameOrder(order, made)) ?? made
    }
  )
