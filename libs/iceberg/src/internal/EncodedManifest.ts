/** Manifests of ours as bytes, before they are written. */
import { Effect } from "effect"
import { invariant } from "@voltlake/domain/Failure"
import type { ManifestEntry, ManifestFile } from "../DataFile.ts"
import * as ManifestAvro from "../ManifestAvro.ts"
import * as ManifestMerge from "../ManifestMerge.ts"
import type { EncodedManifest } from "../TableFiles.ts"
import type { TableMetadata } from "../TableMetadata.ts"
import * as Metadata from "../TableMetadata.ts"
import * as RandomId from "./RandomId.ts"

export interface EncodedEntries extends EncodedManifest {
  readonly description: ManifestMerge.ManifestDescription
  /** The least data sequence number of live entries that have one. */
  readonly minSequenceNumber: bigint | undefined
}

export interface ManifestOwner {
  readonly commitId: string
  readonly snapshotId: bigint
}

export const fileName = (commitId: string, id: string, suffix: string) => `${commitId}-${id}-${suffix}.avro`

const least = (entries: ReadonlyArray<ManifestEntry>): bigint | undefined =>
  entries.reduce<bigint | undefined>((so, { sequenceNumber, status }) => {
    if (status === "deleted" || sequenceNumber === undefined) return so
    return so === undefined || sequenceNumber < so ? sequenceNumber : so
  }, undefined)

/** A manifest of data files of one spec. */
export const encode = Effect.fnUntraced(function*(
  owner: ManifestOwner,
  entries: ReadonlyArray<ManifestEntry>,
  metadata: TableMetadata,
  specId: number
): Effect.fn.Return<EncodedEntries> {
  const spec = Metadata.specById(metadata, specId)
  invariant(spec !== undefined, `the table has a partition spec ${specId}`)
  const location = `${metadata.location}/metadata/${fileName(owner.commitId, yield* RandomId.uuid, `m${specId}`)}`
  const context = { spec, schema: Metadata.currentSchema(metadata), schemas: metadata.schemas }
  const bytes = ManifestAvro.encode({ specId, content: "data", entries }, context, yield* RandomId.bytes16)
  const length = BigInt(bytes.length)
  const description = ManifestMerge.describe(location, length, entries, spec, metadata.schemas, owner.snapshotId)
  return { location, bytes, description, minSequenceNumber: least(entries) }
})

/** As the list of a snapshot with this sequence number has it. */
export const listed = ({ description, minSequenceNumber }: EncodedEntries, sequenceNumber: bigint): ManifestFile => ({
  ...description,
  sequenceNumber,
  minSequenceNumber: minSequenceNumber ?? sequenceNumber
})
