/** What a manifest list says of the partitions in a manifest (specification: "Manifest Lists", `field_summary`). */
import { decode, encode } from "./BoundsBinary.ts"
import type { ManifestEntry, ManifestFile, PartitionFieldSummary } from "./DataFile.ts"
import type { Partition, PartitionSpec } from "./PartitionSpec.ts"
import { fieldTypes } from "./PartitionSpec.ts"
import type { SingleValue } from "./SingleValue.ts"
import { compare } from "./SingleValue.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { specById } from "./TableMetadata.ts"
import type { TableSchema } from "./Type.ts"

export const summarize = (
  entries: ReadonlyArray<ManifestEntry>,
  spec: PartitionSpec,
  schemas: ReadonlyArray<TableSchema>
): ReadonlyArray<PartitionFieldSummary> =>
  fieldTypes(spec, schemas).map((type, index) => {
    const values = entries.map((entry) => entry.dataFile.partition[index] ?? null)
    const present = values.filter((value) => value !== null && !Number.isNaN(value)) as ReadonlyArray<SingleValue>
    const low = extreme(present, -1)
    const high = extreme(present, 1)
    return {
      containsNull: values.includes(null),
      containsNan: values.some((value) => Number.isNaN(value)),
      lowerBound: low === undefined ? undefined : encode(type, low),
      upperBound: high === undefined ? undefined : encode(type, high)
    }
  })

const extreme = (values: ReadonlyArray<SingleValue>, sign: -1 | 1): SingleValue | undefined =>
  values.reduce<SingleValue | undefined>(
    (best, value) => (best === undefined || compare(value, best) * sign > 0 ? value : best),
    undefined
  )

/** Whether the manifest may hold files of this partition, which is one of its spec. */
export const mayHold = (manifest: ManifestFile, partition: Partition, metadata: TableMetadata): boolean => {
  const spec = specById(metadata, manifest.partitionSpecId)
  if (spec === undefined || manifest.partitions === undefined) return true
  const types = fieldTypes(spec, metadata.schemas)
  return manifest.partitions.every((summary, index) => {
    const value = partition[index] ?? null
    const type = types[index]
    if (value === null) return summary.containsNull
    if (type === undefined || Number.isNaN(value)) return true
    const low = summary.lowerBound === undefined ? undefined : decode(type, summary.lowerBound)
    const high = summary.upperBound === undefined ? undefined : decode(type, summary.upperBound)
    return (low === undefined || compare(low, value) <= 0) && (high === undefined || compare(high, value) >= 0)
  })
}
