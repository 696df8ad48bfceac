/** Which delete files apply to which data files (specification: "Scan Planning"). */
import { decode } from "./BoundsBinary.ts"
import type { DataFile } from "./DataFile.ts"
import type { Partition } from "./PartitionSpec.ts"
import * as SingleValue from "./SingleValue.ts"
import type { TableMetadata } from "./TableMetadata.ts"
import { specById } from "./TableMetadata.ts"
import { string } from "./Type.ts"

/** A file and the sequence number at which its rows, or its deletes, became part of the table. */
export interface SequencedFile {
  readonly file: DataFile
  readonly sequenceNumber: bigint
}

/** The column of a position delete file that holds data files' paths (specification: "Reserved Field IDs"). */
const pathFieldId = 2_147_483_546

export const isSamePartition = (a: Partition, b: Partition): boolean =>
  a.length === b.length && a.every((value, index) => SingleValue.equals(value, b[index] ?? null))

const mayNamePath = (deletes: DataFile, path: string): boolean => {
  const bound = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : decode(string, bytes))
  const low = bound(deletes.lowerBounds.get(pathFieldId))
  const high = bound(deletes.upperBounds.get(pathFieldId))
  return (low === undefined || SingleValue.compare(low, path) <= 0) && (high === undefined || SingleValue.compare(high, path) >= 0)
}

/** Whether rows of `data` may be deleted by `deletes`, which is a delete file of the same table. */
export const applies = (metadata: TableMetadata, deletes: SequencedFile, data: SequencedFile): boolean => {
  const isOfPartition = deletes.file.specId === data.file.specId && isSamePartition(deletes.file.partition, data.file.partition)
  if (deletes.file.content === "position-deletes") {
    return isOfPartition && data.sequenceNumber <= deletes.sequenceNumber && mayNamePath(deletes.file, data.file.filePath)
  }
  // Equality deletes without a partition are for the whole table, and never for rows of the same commit.
  const isGlobal = specById(metadata, deletes.file.specId)?.fields.length === 0
  return (isGlobal || isOfPartition) && data.sequenceNumber < deletes.sequenceNumber
}
