/** The statistics of a manifest's entry, straight from its bytes: they are nine tenths of it, and mostly not looked at. */
import type { DataFile } from "../DataFile.ts"
import * as AvroWalk from "./AvroWalk.ts"

export type Statistics = Pick<DataFile, "columnSizes" | "valueCounts" | "nullValueCounts" | "nanValueCounts" | "lowerBounds" | "upperBounds">

const names = {
  column_sizes: "columnSizes",
  value_counts: "valueCounts",
  null_value_counts: "nullValueCounts",
  nan_value_counts: "nanValueCounts",
  lower_bounds: "lowerBounds",
  upper_bounds: "upperBounds"
} as const

/** Whether the field of a data file's record, by its name in the specification, is one of them. */
export const isOf = (name: string): name is keyof typeof names => Object.hasOwn(names, name)

const isBounds = (name: keyof typeof names) => name === "lower_bounds" || name === "upper_bounds"

const none = () => ({
  columnSizes: new Map<number, bigint>(),
  valueCounts: new Map<number, bigint>(),
  nullValueCounts: new Map<number, bigint>(),
  nanValueCounts: new Map<number, bigint>(),
  lowerBounds: new Map<number, Uint8Array>(),
  upperBounds: new Map<number, Uint8Array>()
})

/**
 * Reads those of one entry, all or of some columns. `schema` is the entry's, its fields named as in the specification. Bounds are copied: otherwise one
 * that is kept would keep the whole manifest.
 */
export const reader = (schema: unknown): (block: Buffer, position: number, fieldIds?: ReadonlySet<number>) => Statistics => {
  let found = none()
  let wanted: ReadonlySet<number> | undefined
  const statistic: AvroWalk.FieldStep = (name, type) =>
    !isOf(name) ? undefined : AvroWalk.pairs(type, (key, cursor, skipValue) => {
      if (wanted !== undefined && !wanted.has(key)) skipValue(cursor)
      else if (isBounds(name)) (found[names[name]] as Map<number, Uint8Array>).set(key, Buffer.from(AvroWalk.readBytes(cursor)))
      else (found[names[name]] as Map<number, bigint>).set(key, AvroWalk.readLong(cursor))
    })
  const entry = AvroWalk.record(schema, (name, type) => (name === "data_file" ? AvroWalk.record(type, statistic) : undefined))
  return (block, position, fieldIds) => {
    found = none()
    wanted = fieldIds
    entry({ bytes: block, at: position })
    return found
  }
}
