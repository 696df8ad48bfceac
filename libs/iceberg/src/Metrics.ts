/** What is known of a file's, or a manifest's, values without reading them: ranges for `Expression`. */
import { decode } from "./BoundsBinary.ts"
import type { DataFile, ManifestFile } from "./DataFile.ts"
import type { Bound, Predicate, ValueRange } from "./Expression.ts"
import * as Expression from "./Expression.ts"
import type { Partition, PartitionSpec } from "./PartitionSpec.ts"
import { fieldTypes } from "./PartitionSpec.ts"
import type { PrimitiveType, TableSchema } from "./Type.ts"

const isFloating = ({ type }: PrimitiveType) => type === "float" || type === "double"

const bound = (type: PrimitiveType, bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : decode(type, bytes))

const columnRange = (file: FileMetrics, { column, type }: Predicate): ValueRange => {
  const { id } = column.field
  const [values, nulls, nans] = [file.valueCounts.get(id), file.nullValueCounts.get(id), file.nanValueCounts.get(id)]
  return {
    low: bound(type, file.lowerBounds.get(id)),
    high: bound(type, file.upperBounds.get(id)),
    mayBeNull: nulls !== 0n,
    mayBeNan: isFloating(type) && nans !== 0n,
    isAllNull: values !== undefined && nulls === values && values > 0n
  }
}

/** What is known of a file's columns. */
export type FileMetrics = Pick<DataFile, "valueCounts" | "nullValueCounts" | "nanValueCounts" | "lowerBounds" | "upperBounds">

/** Columns whose metrics the expression asks for. */
export const columnsOf = (expression: Bound): ReadonlySet<number> =>
  new Set("of" in expression ? expression.of.flatMap((part) => Array.from(columnsOf(part))) : [expression.column.field.id])

/** Whether a file may hold a row that the expression holds of, by its columns' metrics. */
export const fileMayHold = (expression: Bound, file: FileMetrics): boolean =>
  Expression.mayHold(expression, (predicate) => Expression.mayMatch(predicate, columnRange(file, predicate)))

/** The expression's tests on each field of a spec: made once for all of its manifests and files. */
export interface PartitionFilter {
  readonly mayHoldManifest: (manifest: ManifestFile) => boolean
  readonly mayHoldPartition: (partition: Partition) => boolean
}

export const partitionFilter = (expression: Bound, spec: PartitionSpec, schemas: ReadonlyArray<TableSchema>): PartitionFilter => {
  const types = fieldTypes(spec, schemas)
  const projected = new Map<Predicate, ReadonlyArray<{ readonly index: number; readonly test: Pick<Predicate, "op" | "values"> }>>()
  const testsOf = (predicate: Predicate) => {
    const found = projected.get(predicate)
    if (found !== undefined) return found
    const made = spec.fields.flatMap((field, index) => {
      const test = field.sourceId === predicate.column.field.id ? Expression.project(predicate, field.transform) : undefined
      return test === undefined ? [] : [{ index, test }]
    })
    projected.set(predicate, made)
    return made
  }
  const mayHold = (rangeOf: (index: number) => ValueRange) =>
    Expression.mayHold(expression, (predicate) => testsOf(predicate).every(({ index, test }) => Expression.mayMatch(test, rangeOf(index))))
  return {
    mayHoldManifest: ({ partitions }) => partitions === undefined || mayHold((index) => summaryRange(partitions[index], types[index]!)),
    mayHoldPartition: (partition) => mayHold((index) => valueRange(partition[index] ?? null))
  }
}

const summaryRange = (summary: NonNullable<ManifestFile["partitions"]>[number] | undefined, type: PrimitiveType): ValueRange => ({
  low: bound(type, summary?.lowerBound),
  high: bound(type, summary?.upperBound),
  mayBeNull: summary?.containsNull ?? true,
  mayBeNan: isFloating(type) && summary?.containsNan !== false,
  // Without bounds there are nulls and NaNs only.
  isAllNull: summary !== undefined && summary.containsNull && summary.lowerBound === undefined && summary.containsNan === false
})

const valueRange = (value: Partition[number]): ValueRange => ({
  low: value ?? undefined,
  high: value ?? undefined,
  mayBeNull: value === null,
  mayBeNan: Number.isNaN(value),
  isAllNull: value === null
})
