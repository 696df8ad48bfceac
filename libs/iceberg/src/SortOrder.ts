/** The order of rows inside a file (specification: "Sorting"), as plain data. Order 0 is unsorted. */
import type { Transform } from "./Transform.ts"

export interface SortField {
  readonly transform: Transform
  readonly sourceId: number
  readonly direction: "asc" | "desc"
  readonly nullOrder: "nulls-first" | "nulls-last"
}

export interface SortOrder {
  readonly orderId: number
  readonly fields: ReadonlyArray<SortField>
}

export const unsorted: SortOrder = { orderId: 0, fields: [] }

/** Ascending by these columns, nulls first. */
export const ascending = (orderId: number, sourceIds: ReadonlyArray<number>): SortOrder => ({
  orderId,
  fields: sourceIds.map((sourceId) => ({
    transform: { type: "identity" },
    sourceId,
    direction: "asc",
    nullOrder: "nulls-first"
  }))
})
