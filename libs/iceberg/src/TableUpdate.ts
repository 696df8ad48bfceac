/**
 * How a table's metadata changes, as data: the updates of Iceberg's REST catalog protocol (OpenAPI: `TableUpdate`), and what they do. Pure:
 * (metadata, updates, time) gives new metadata. Every change of a table goes through here, ours and other engines'.
 *
 * Where an update names the id {@link lastAdded}, it means the schema, spec or order that an update before it in the same list added.
 */
import { Either, Schema } from "effect"
import type { Json } from "./Json.ts"
import type { PartitionSpec, UnboundField } from "./PartitionSpec.ts"
import { firstFieldId, unpartitioned } from "./PartitionSpec.ts"
import type { Snapshot, SnapshotReference } from "./Snapshot.ts"
import { mainBranch } from "./Snapshot.ts"
import type { SortOrder } from "./SortOrder.ts"
import { unsorted } from "./SortOrder.ts"
import { isSameOrder, isSameSpec } from "./SpecUpdate.ts"
import type { SnapshotLogEntry, TableMetadata } from "./TableMetadata.ts"
import { intProperty, snapshotById } from "./TableMetadata.ts"
import type { TableSchema } from "./Type.ts"
import { fieldIds, leafById } from "./Type.ts"

export const lastAdded = -1

export type TableUpdate =
  | { readonly action: "assign-uuid"; readonly uuid: string }
  | { readonly action: "upgrade-format-version"; readonly formatVersion: number }
  /** The schema's own id does not matter: an equal schema of the table is taken, or the next id. */
  | { readonly action: "add-schema"; readonly schema: TableSchema; readonly lastColumnId: number | undefined }
  | { readonly action: "set-current-schema"; readonly schemaId: number }
  /** An equal spec of the table is taken, or the next id. */
  | { readonly action: "add-spec"; readonly fields: ReadonlyArray<UnboundField> }
  | { readonly action: "set-default-spec"; readonly specId: number }
  | { readonly action: "add-sort-order"; readonly sortOrder: SortOrder }
  | { readonly action: "set-default-sort-order"; readonly sortOrderId: number }
  | { readonly action: "add-snapshot"; readonly snapshot: Snapshot }
  | { readonly action: "remove-snapshots"; readonly snapshotIds: ReadonlyArray<bigint> }
  | { readonly action: "set-snapshot-ref"; readonly name: string; readonly reference: SnapshotReference }
  | { readonly action: "remove-snapshot-ref"; readonly name: string }
  | { readonly action: "set-location"; readonly location: string }
  | { readonly action: "set-properties"; readonly updates: Readonly<Record<string, string>> }
  | { readonly action: "remove-properties"; readonly removals: ReadonlyArray<string> }
  | { readonly action: "set-statistics" | "set-partition-statistics"; readonly snapshotId: bigint; readonly statistics: Json }
  | { readonly action: "remove-statistics" | "remove-partition-statistics"; readonly snapshotId: bigint }
  | { readonly action: "remove-partition-specs"; readonly specIds: ReadonlyArray<number> }
  | { readonly action: "remove-schemas"; readonly schemaIds: ReadonlyArray<number> }

/** The update does not fit the table: it names what is not there, or would lose what is needed. */
export class UpdateRefused extends Schema.TaggedError<UpdateRefused>()("UpdateRefused", {
  table: Schema.String,
  action: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.action} does not fit ${this.table}: ${this.reason}`
  }
}

export const previousVersionsMaxProperty = "write.metadata.previous-versions-max"
export const previousVersionsMaxDefault = 100

export interface UpdateTime {
  readonly nowMs: number
  /** Where the metadata was read from: it joins the metadata log. */
  readonly metadataLocation: string
}

/** Metadata, and the metadata files that its log no longer names. */
export interface Updated {
  readonly metadata: TableMetadata
  readonly unreferenced: ReadonlyArray<string>
}

/** Metadata under way, with what the updates so far have added. */
interface Draft {
  readonly metadata: TableMetadata
  readonly lastSchemaId: number | undefined
  readonly lastSpecId: number | undefined
  readonly lastOrderId: number | undefined
  readonly addedSnapshots: ReadonlyArray<Snapshot>
  /** The time of updates that have none of their own. */
  readonly updatedMs: number
}

type Step = Either.Either<Draft, UpdateRefused>

/** All of the updates, in order, or the first that does not fit. */
export const apply = (
  metadata: TableMetadata,
  updates: ReadonlyArray<TableUpdate>,
  at: UpdateTime
): Either.Either<Updated, UpdateRefused> =>
  Either.map(applyAll(metadata, updates, Math.max(at.nowMs, metadata.lastUpdatedMs + 1)), (draft) => {
    const log = appendedLog(draft.metadata, at.metadataLocation, metadata.lastUpdatedMs)
    return { metadata: { ...draft.metadata, metadataLog: log.kept }, unreferenced: log.cut }
  })

/** A new table from updates alone, as a client sends them that creates one. */
export const create = (
  updates: ReadonlyArray<TableUpdate>,
  at: { readonly tableUuid: string; readonly location: string; readonly nowMs: number }
): Either.Either<TableMetadata, UpdateRefused> => {
  const blank: TableMetadata = {
    formatVersion: 2,
    tableUuid: at.tableUuid,
    location: at.location,
    lastSequenceNumber: 0n,
    lastUpdatedMs: at.nowMs,
    lastColumnId: 0,
    schemas: [],
    currentSchemaId: lastAdded,
    partitionSpecs: [],
    defaultSpecId: lastAdded,
    lastPartitionId: firstFieldId - 1,
    sortOrders: [unsorted],
    defaultSortOrderId: unsorted.orderId,
    properties: {},
    currentSnapshotId: undefined,
    snapshots: [],
    snapshotLog: [],
    metadataLog: [],
    refs: {},
    statistics: [],
    partitionStatistics: [],
    extra: {}
  }
  return Either.flatMap(applyAll(blank, updates, at.nowMs), ({ metadata }) => {
    if (metadata.currentSchemaId < 0) return refuse(metadata, "set-current-schema", "a table has a schema")
    if (metadata.defaultSpecId >= 0) return Either.right(metadata)
    return Either.right({ ...metadata, partitionSpecs: [unpartitioned, ...metadata.partitionSpecs], defaultSpecId: 0 })
  })
}

const applyAll = (metadata: TableMetadata, updates: ReadonlyArray<TableUpdate>, updatedMs: number): Step => {
  const none = { lastSchemaId: undefined, lastSpecId: undefined, lastOrderId: undefined, addedSnapshots: [] }
  const start: Step = Either.right({ metadata, ...none, updatedMs })
  return Either.map(
    updates.reduce<Step>((step, update) => Either.flatMap(step, (draft) => applyOne(draft, update)), start),
    (draft) => {
      const newest = draft.addedSnapshots.at(-1)
      const lastUpdatedMs = newest === undefined ? updatedMs : Math.max(newest.timestampMs, metadata.lastUpdatedMs)
      return withMetadata(draft, { lastUpdatedMs, snapshotLog: withoutPassed(draft) })
    }
  )
}

const refuse = (metadata: TableMetadata, action: TableUpdate["action"], reason: string) =>
  Either.left(new UpdateRefused({ table: metadata.location, action, reason }))

const withMetadata = (draft: Draft, change: Partial<TableMetadata>): Draft => ({
  ...draft,
  metadata: { ...draft.metadata, ...change }
})

const without = <A>(record: Readonly<Record<string, A>>, keys: ReadonlyArray<string>): Readonly<Record<string, A>> =>
  Object.fromEntries(Object.entries(record).filter(([key]) => !keys.includes(key)))

const nextId = (ids: ReadonlyArray<number>) => Math.max(-1, ...ids) + 1

const applyOne = (draft: Draft, update: TableUpdate): Step => {
  const { metadata } = draft
  const refused = (reason: string) => refuse(metadata, update.action, reason)
  const changed = (change: Partial<TableMetadata>): Step => Either.right(withMetadata(draft, change))
  switch (update.action) {
    case "assign-uuid":
      return update.uuid === metadata.tableUuid || metadata.schemas.length === 0
        ? changed({ tableUuid: update.uuid })
        : refused(`the table's uuid is ${metadata.tableUuid}`)
    case "upgrade-format-version":
      return update.formatVersion === 2 ? Either.right(draft) : refused(`version ${update.formatVersion} is not written`)
    case "add-schema":
      return addSchema(draft, update.schema, update.lastColumnId)
    case "set-current-schema":
      return setId(draft, update.action, update.schemaId, draft.lastSchemaId, metadata.schemas.map((schema) => schema.schemaId), (id) => ({
        currentSchemaId: id
      }))
    case "add-spec":
      return addSpec(draft, update.fields)
    case "set-default-spec":
      return setId(draft, update.action, update.specId, draft.lastSpecId, metadata.partitionSpecs.map((spec) => spec.specId), (id) => ({
        defaultSpecId: id
      }))
    case "add-sort-order":
      return addSortOrder(draft, update.sortOrder)
    case "set-default-sort-order":
      return setId(draft, update.action, update.sortOrderId, draft.lastOrderId, metadata.sortOrders.map((order) => order.orderId), (id) => ({
        defaultSortOrderId: id
      }))
    case "add-snapshot":
      return addSnapshot(draft, update.snapshot)
    case "remove-snapshots":
      return removeSnapshots(draft, update.snapshotIds)
    case "set-snapshot-ref":
      return setReference(draft, update.name, update.reference)
    case "remove-snapshot-ref":
      return changed({
        refs: without(metadata.refs, [update.name]),
        ...(update.name === mainBranch ? { currentSnapshotId: undefined, snapshotLog: [] } : {})
      })
    case "set-location":
      return update.location === "" ? refused("the location is empty") : changed({ location: update.location.replace(/\/+$/, "") })
    case "set-properties":
      return changed({ properties: { ...metadata.properties, ...update.updates } })
    case "remove-properties":
      return changed({ properties: without(metadata.properties, update.removals) })
    case "set-statistics":
      return changed({ statistics: [...statisticsWithout(metadata.statistics, update.snapshotId), update.statistics] })
    case "remove-statistics":
      return changed({ statistics: statisticsWithout(metadata.statistics, update.snapshotId) })
    case "set-partition-statistics":
      return changed({
        partitionStatistics: [...statisticsWithout(metadata.partitionStatistics, update.snapshotId), update.statistics]
      })
    case "remove-partition-statistics":
      return changed({ partitionStatistics: statisticsWithout(metadata.partitionStatistics, update.snapshotId) })
    case "remove-partition-specs":
      return update.specIds.includes(metadata.defaultSpecId)
        ? refused("the default spec is needed")
        : changed({ partitionSpecs: metadata.partitionSpecs.filter((spec) => !update.specIds.includes(spec.specId)) })
    case "remove-schemas":
      return update.schemaIds.includes(metadata.currentSchemaId)
        ? refused("the current schema is needed")
        : changed({ schemas: metadata.schemas.filter((schema) => !update.schemaIds.includes(schema.schemaId)) })
  }
}

const setId = (
  draft: Draft,
  action: TableUpdate["action"],
  wanted: number,
  added: number | undefined,
  known: ReadonlyArray<number>,
  change: (id: number) => Partial<TableMetadata>
): Step => {
  const id = wanted === lastAdded ? added : wanted
  if (id === undefined) return refuse(draft.metadata, action, "nothing was added before it")
  if (!known.includes(id)) return refuse(draft.metadata, action, `there is none with the id ${id}`)
  return Either.right(withMetadata(draft, change(id)))
}

const columnsText = (schema: TableSchema) => JSON.stringify([schema.fields, schema.identifierFieldIds])

const addSchema = (draft: Draft, schema: TableSchema, lastColumnId: number | undefined): Step => {
  const { metadata } = draft
  const ids = fieldIds(schema)
  if (new Set(ids).size !== ids.length) return refuse(metadata, "add-schema", "two columns have one id")
  if (lastColumnId !== undefined && lastColumnId < metadata.lastColumnId) {
    return refuse(metadata, "add-schema", `the last column id would fall from ${metadata.lastColumnId} to ${lastColumnId}`)
  }
  const wanted = columnsText(schema)
  const equal = metadata.schemas.find((one) => columnsText(one) === wanted)
  const schemaId = equal?.schemaId ?? nextId(metadata.schemas.map((one) => one.schemaId))
  return Either.right({
    ...withMetadata(draft, {
      lastColumnId: Math.max(metadata.lastColumnId, lastColumnId ?? 0, ...ids),
      schemas: equal === undefined ? [...metadata.schemas, { ...schema, schemaId }] : metadata.schemas
    }),
    lastSchemaId: schemaId
  })
}

const hasColumn = (metadata: TableMetadata, id: number) => metadata.schemas.some((schema) => leafById(schema, id) !== undefined)

const addSpec = (draft: Draft, fields: ReadonlyArray<UnboundField>): Step => {
  const { metadata } = draft
  const lost = fields.find((field) => !hasColumn(metadata, field.sourceId))
  if (lost !== undefined) return refuse(metadata, "add-spec", `${lost.name} is made of column ${lost.sourceId}, which is not there`)
  if (new Set(fields.map((field) => field.name)).size !== fields.length) return refuse(metadata, "add-spec", "two fields have one name")
  let lastPartitionId = Math.max(metadata.lastPartitionId, ...fields.map((field) => field.fieldId ?? 0))
  const specId = nextId(metadata.partitionSpecs.map((one) => one.specId))
  const spec: PartitionSpec = { specId, fields: fields.map((field) => ({ ...field, fieldId: field.fieldId ?? ++lastPartitionId })) }
  const equal = metadata.partitionSpecs.find((one) => isSameSpec(one, spec))
  if (equal !== undefined) return Either.right({ ...draft, lastSpecId: equal.specId })
  return Either.right({
    ...withMetadata(draft, { lastPartitionId, partitionSpecs: [...metadata.partitionSpecs, spec] }),
    lastSpecId: specId
  })
}

const addSortOrder = (draft: Draft, order: SortOrder): Step => {
  const { metadata } = draft
  const lost = order.fields.find((field) => !hasColumn(metadata, field.sourceId))
  if (lost !== undefined) return refuse(metadata, "add-sort-order", `there is no column ${lost.sourceId}`)
  const equal = [unsorted, ...metadata.sortOrders].find((one) => isSameOrder(one, order))
  const orderId = equal?.orderId ?? Math.max(0, ...metadata.sortOrders.map((one) => one.orderId)) + 1
  const isKnown = metadata.sortOrders.some((one) => one.orderId === orderId)
  return Either.right({
    ...withMetadata(draft, { sortOrders: isKnown ? metadata.sortOrders : [...metadata.sortOrders, { ...order, orderId }] }),
    lastOrderId: orderId
  })
}

const addSnapshot = (draft: Draft, snapshot: Snapshot): Step => {
  const { metadata } = draft
  const { parentSnapshotId, schemaId, sequenceNumber, snapshotId } = snapshot
  const refused = (reason: string) => refuse(metadata, "add-snapshot", reason)
  if (snapshotById(metadata, snapshotId) !== undefined) return refused(`there is a snapshot ${snapshotId} already`)
  if (parentSnapshotId !== undefined && sequenceNumber <= metadata.lastSequenceNumber) {
    return refused(`the sequence number ${sequenceNumber} is not after ${metadata.lastSequenceNumber}`)
  }
  if (schemaId !== undefined && !metadata.schemas.some((schema) => schema.schemaId === schemaId)) {
    return refused(`there is no schema ${schemaId}`)
  }
  return Either.right({
    ...withMetadata(draft, {
      lastSequenceNumber: sequenceNumber > metadata.lastSequenceNumber ? sequenceNumber : metadata.lastSequenceNumber,
      snapshots: [...metadata.snapshots, snapshot]
    }),
    addedSnapshots: [...draft.addedSnapshots, snapshot]
  })
}

const setReference = (draft: Draft, name: string, reference: SnapshotReference): Step => {
  const { metadata } = draft
  const { snapshotId, type } = reference
  const snapshot = snapshotById(metadata, snapshotId)
  if (snapshot === undefined) return refuse(metadata, "set-snapshot-ref", `there is no snapshot ${snapshotId}`)
  if (name === mainBranch && type !== "branch") return refuse(metadata, "set-snapshot-ref", "main is a branch")
  const refs = { ...metadata.refs, [name]: reference }
  if (name !== mainBranch || metadata.currentSnapshotId === snapshotId) return Either.right(withMetadata(draft, { refs }))
  const isNew = draft.addedSnapshots.includes(snapshot)
  const entry = { snapshotId, timestampMs: isNew ? snapshot.timestampMs : draft.updatedMs }
  return Either.right(withMetadata(draft, { refs, currentSnapshotId: snapshotId, snapshotLog: [...metadata.snapshotLog, entry] }))
}

const removeSnapshots = (draft: Draft, snapshotIds: ReadonlyArray<bigint>): Step => {
  const { metadata } = draft
  const ids = new Set(snapshotIds)
  const refused = (reason: string) => refuse(metadata, "remove-snapshots", reason)
  const named = Object.entries(metadata.refs).find(([, reference]) => ids.has(reference.snapshotId))
  if (named !== undefined) return refused(`snapshot ${named[1].snapshotId} is named by ${named[0]}`)
  if (metadata.currentSnapshotId !== undefined && ids.has(metadata.currentSnapshotId)) {
    return refused(`snapshot ${metadata.currentSnapshotId} is the current one`)
  }
  const left = (statistics: ReadonlyArray<Json>) => snapshotIds.reduce(statisticsWithout, statistics)
  return Either.right(withMetadata(draft, {
    snapshots: metadata.snapshots.filter((snapshot) => !ids.has(snapshot.snapshotId)),
    snapshotLog: logWithout(metadata.snapshotLog, ids),
    statistics: left(metadata.statistics),
    partitionStatistics: left(metadata.partitionStatistics)
  }))
}

/** The log from its last gap on: an entry before a dropped snapshot would claim a time that was another's. */
const logWithout = (log: ReadonlyArray<SnapshotLogEntry>, dropped: ReadonlySet<bigint>): typeof log => {
  const lastGap = log.findLastIndex((entry) => dropped.has(entry.snapshotId))
  return log.slice(lastGap + 1)
}

/** A snapshot that was current only between two updates of one list never was for anybody. */
const withoutPassed = ({ addedSnapshots, metadata }: Draft): TableMetadata["snapshotLog"] => {
  const passed = new Set(addedSnapshots.map((snapshot) => snapshot.snapshotId))
  if (metadata.currentSnapshotId !== undefined) passed.delete(metadata.currentSnapshotId)
  return passed.size === 0 ? metadata.snapshotLog : metadata.snapshotLog.filter((entry) => !passed.has(entry.snapshotId))
}

const statisticsWithout = (all: ReadonlyArray<Json>, snapshotId: bigint): ReadonlyArray<Json> =>
  all.filter((statistics) => {
    if (typeof statistics !== "object" || statistics === null || !("snapshot-id" in statistics)) return true
    const id = statistics["snapshot-id"]
    return !((typeof id === "number" || typeof id === "bigint") && BigInt(id) === snapshotId)
  })

const appendedLog = (metadata: TableMetadata, metadataFile: string, timestampMs: number) => {
  const all = [...metadata.metadataLog, { metadataFile, timestampMs }]
  const keep = Math.max(1, intProperty(metadata, previousVersionsMaxProperty, previousVersionsMaxDefault))
  return { kept: all.slice(-keep), cut: all.slice(0, -keep).map((entry) => entry.metadataFile) }
}
