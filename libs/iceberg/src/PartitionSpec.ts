/** How a table's rows are parted into files (specification: "Partitioning"), as plain data. */
import type { SingleValue } from "./SingleValue.ts"
import type { Transform } from "./Transform.ts"
import { resultType } from "./Transform.ts"
import type { PrimitiveType, TableSchema } from "./Type.ts"
import { int, leafById } from "./Type.ts"

export interface PartitionField {
  readonly sourceId: number
  /** Unique among all specs of the table, from 1000 on. */
  readonly fieldId: number
  readonly name: string
  readonly transform: Transform
}

/** A field of a spec that a table is to have: without an id it gets a new one. */
export type UnboundField = Omit<PartitionField, "fieldId"> & { readonly fieldId: number | undefined }

export interface PartitionSpec {
  readonly specId: number
  readonly fields: ReadonlyArray<PartitionField>
}

/** A value of a partition tuple. */
export type PartitionValue = SingleValue | null

/** Values in the order of the spec's fields. */
export type Partition = ReadonlyArray<PartitionValue>

export const unpartitioned: PartitionSpec = { specId: 0, fields: [] }

/** Below the first id of a partition field; what `last-partition-id` is while there is none. */
export const firstFieldId = 1000

export const make = (specId: number, fields: ReadonlyArray<PartitionField>): PartitionSpec => ({ specId, fields })

/** The type of each field of a spec's partition tuple. A source column that was dropped counts as int, as nothing is known of it. */
export const fieldTypes = (spec: PartitionSpec, schemas: ReadonlyArray<TableSchema>): ReadonlyArray<PrimitiveType> =>
  spec.fields.map((field) => {
    for (let index = schemas.length - 1; index >= 0; index--) {
      const leaf = leafById(schemas[index]!, field.sourceId)
      if (leaf !== undefined) return resultType(field.transform, leaf.type)
    }
    return int
  })

/** `2026-11-24` of days since 1970. */
const dayText = (days: number): string => {
  const at = new Date(days * 86_400_000)
  const year = at.getUTCFullYear()
  const two = (value: number) => String(value).padStart(2, "0")
  const yearText = year < 0 ? `-${String(-year).padStart(4, "0")}` : String(year).padStart(4, "0")
  return `${yearText}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

const valueText = (value: PartitionValue, type: PrimitiveType): string => {
  if (value === null) return "null"
  if (type.type === "date") return dayText(Number(value))
  return value instanceof Uint8Array ? hex(value) : String(value)
}

const pathTextMax = 64

/** What every store, file system and URI takes as it is. Not reversible: readers take the tuple, the path is for people. */
const pathText = (text: string) => text.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, pathTextMax)

/** Folder of a partition, `timestamp_day=2026-11-24/source=a_b`; empty without partition fields. */
export const path = (spec: PartitionSpec, schemas: ReadonlyArray<TableSchema>, partition: Partition): string => {
  const types = fieldTypes(spec, schemas)
  return spec.fields
    .map((field, index) => `${pathText(field.name)}=${pathText(valueText(partition[index] ?? null, types[index]!))}`)
    .join("/")
}
