/** Another engine: it reads tables through the catalog, writes manifests itself, and says in a commit what it has done. */
import { Effect } from "effect"
import type { DataFile, ManifestEntry, ManifestFile } from "@voltlake/iceberg/DataFile"
import type { Json } from "@voltlake/iceberg/Json"
import * as ManifestAvro from "@voltlake/iceberg/ManifestAvro"
import * as ManifestMerge from "@voltlake/iceberg/ManifestMerge"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import type { Snapshot } from "@voltlake/iceberg/Snapshot"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import { currentSchema, currentSnapshot, defaultSpec, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { newTableUuid } from "@voltlake/iceberg/Tables"
import type { TableRequirement } from "@voltlake/iceberg/TableRequirement"
import type { TableUpdate } from "@voltlake/iceberg/TableUpdate"
import { encodeRequirement, encodeUpdate } from "@voltlake/iceberg/TableUpdateJson"

/** A data file that exists in name only: the catalog never looks into data files. Of a table without partitions, or of one by day. */
export const file = (metadata: TableMetadata, name: string, recordCount: bigint, content: DataFile["content"] = "data"): DataFile => ({
  content,
  filePath: `${metadata.location}/data/${name}.parquet`,
  fileFormat: "PARQUET",
  specId: metadata.defaultSpecId,
  partition: defaultSpec(metadata).fields.map(() => 20_000),
  recordCount,
  fileSizeInBytes: 100n,
  columnSizes: new Map(),
  valueCounts: new Map(),
  nullValueCounts: new Map(),
  nanValueCounts: new Map(),
  lowerBounds: new Map(),
  upperBounds: new Map(),
  keyMetadata: undefined,
  splitOffsets: undefined,
  equalityIds: undefined,
  sortOrderId: 0
})

export interface Work {
  readonly operation: string
  readonly added?: ReadonlyArray<DataFile>
  /** Paths. */
  readonly removed?: ReadonlyArray<string>
  readonly summary?: Readonly<Record<string, string>>
  readonly snapshotId?: bigint
}

/** Writes the files of a snapshot on the table's current one; it is part of no table yet. */
export const snapshot = (metadata: TableMetadata, { added = [], operation, removed = [], snapshotId, summary = {} }: Work) =>
  Effect.gen(function*() {
    const files = yield* TableFiles
    const id = yield* newTableUuid
    const parent = currentSnapshot(metadata)
    const own = snapshotId ?? BigInt(`0x${id.replaceAll("-", "").slice(0, 15)}`)
    const sequenceNumber = NewSnapshot.nextSequenceNumber(metadata)
    const write = (content: ManifestFile["content"], entries: ReadonlyArray<ManifestEntry>) =>
      Effect.gen(function*() {
        const spec = defaultSpec(metadata)
        const location = `${metadata.location}/metadata/${id}-${content}.avro`
        const context = { spec, schema: currentSchema(metadata), schemas: metadata.schemas }
        const bytes = ManifestAvro.encode({ specId: spec.specId, content, entries }, context, new Uint8Array(16))
        yield* files.putManifest({ location, bytes })
        const described = ManifestMerge.describe(location, BigInt(bytes.length), entries, spec, metadata.schemas, own)
        return { ...described, content, sequenceNumber, minSequenceNumber: sequenceNumber }
      })
    const before = parent === undefined ? [] : yield* files.manifestList(parent.manifestList)
    const entries = yield* Effect.forEach(before, (manifest) => files.manifest(manifest, metadata))
    const untouched = before.filter((_, index) => !entries[index]!.some(({ dataFile }) => removed.includes(dataFile.filePath)))
    const rewritten = entries.flat().filter((entry) => entry.status !== "deleted")
      .filter(({ dataFile }) => !untouched.some((manifest) => entries[before.indexOf(manifest)]!.some((one) => one.dataFile === dataFile)))
    const carried = ManifestMerge.existing(rewritten).map((entry): ManifestEntry =>
      removed.includes(entry.dataFile.filePath) ? { ...entry, status: "deleted", snapshotId: own } : entry)
    const data = [...carried, ...ManifestMerge.added(added.filter(({ content }) => content === "data"), own)]
    const deletes = ManifestMerge.added(added.filter(({ content }) => content !== "data"), own)
    const lists = [
      ...(data.length === 0 ? [] : [yield* write("data", data)]),
      ...(deletes.length === 0 ? [] : [yield* write("deletes", deletes)]),
      ...untouched
    ]
    const made: Snapshot = {
      snapshotId: own,
      parentSnapshotId: parent?.snapshotId,
      sequenceNumber,
      timestampMs: metadata.lastUpdatedMs + 1,
      manifestList: `${metadata.location}/metadata/snap-${id}.avro`,
      summary: { operation, ...summary },
      schemaId: metadata.currentSchemaId,
      extra: {}
    }
    yield* files.putManifestList(made.manifestList, lists, made)
    return made
  })

export const request = (requirements: ReadonlyArray<TableRequirement>, updates: ReadonlyArray<TableUpdate>): Json => ({
  requirements: requirements.map(encodeRequirement),
  updates: updates.map(encodeUpdate)
})

/** Adds a snapshot to `main`, where that is still where the engine saw it. */
export const onMain = (metadata: TableMetadata, added: Snapshot): Json => {
  const main = { snapshotId: added.snapshotId, type: "branch" as const, extra: {} }
  return request(
    [
      { type: "assert-table-uuid", uuid: metadata.tableUuid },
      { type: "assert-ref-snapshot-id", ref: "main", snapshotId: metadata.currentSnapshotId }
    ],
    [{ action: "add-snapshot", snapshot: added }, { action: "set-snapshot-ref", name: "main", reference: main }]
  )
}
