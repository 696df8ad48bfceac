/** `voltlake tables …`: what the lake's Iceberg tables are, and what an operator changes in them. */
import { Console, Effect, Option, Schema } from "effect"
import { lakeTables, qualifiedName, telemetryClean } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as Column from "@voltlake/iceberg/Column"
import * as Expression from "@voltlake/iceberg/Expression"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import * as Scan from "@voltlake/iceberg/Scan"
import { primitiveText } from "@voltlake/iceberg/SchemaJson"
import { commitId, type Snapshot } from "@voltlake/iceberg/Snapshot"
import type { SingleValue } from "@voltlake/iceberg/SingleValue"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { currentSchema, currentSnapshot, specById, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { isPrimitive } from "@voltlake/iceberg/Type"
import * as Acknowledge from "@voltlake/maintenance/Acknowledge"
import * as RecoverPosition from "@voltlake/maintenance/RecoverPosition"
import * as Register from "@voltlake/maintenance/Register"
import * as Rollback from "@voltlake/maintenance/Rollback"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

interface Common {
  readonly dataDir: string
  readonly json: boolean
}

export interface OfTable extends Common {
  /** `bronze.telemetry_raw` */
  readonly table: string
}

export class ConditionInvalid extends Schema.TaggedError<ConditionInvalid>()("ConditionInvalid", { condition: Schema.String, reason: Schema.String }) {
  override get message() {
    return `condition "${this.condition}": ${this.reason}`
  }
}

export class NotOurTable extends Schema.TaggedError<NotOurTable>()("NotOurTable", { table: Schema.String }) {
  override get message() {
    return `${this.table} is none of the lake's own tables: ${lakeTables.map(qualifiedName).join(", ")}`
  }
}

export const use = <A, E, R>(dataDir: string, command: (opened: Lake.Opened) => Effect.Effect<A, E, R>) =>
  Lake.use(dataDir, (opened) => Effect.zipRight(LakeSetup.ensure(opened.settings.ingest), command(opened)))

export const load = (table: string) => Effect.flatMap(Tables, (tables) => tables.load(TableIdentifier.parse(table)))

const time = (ms: number) => new Date(ms).toISOString()

/** JSON as it is, or the rows as a table of these columns. */
const print = <A extends Record<string, Output.Cell>>(json: boolean, columns: ReadonlyArray<keyof A & string>, rows: ReadonlyArray<A>) =>
  json ? Output.json(rows) : Output.table(columns, rows.map((row) => columns.map((column) => row[column] ?? null)))

const total = (snapshot: Snapshot | undefined, key: string): number | null => {
  const text = snapshot?.summary[key]
  return text === undefined ? null : Number(text)
}

const overview = ({ identifier, metadata }: Effect.Effect.Success<ReturnType<typeof load>>) => {
  const current = currentSnapshot(metadata)
  return {
    table: TableIdentifier.render(identifier),
    rows: total(current, "total-records"),
    files: total(current, "total-data-files"),
    bytes: total(current, "total-files-size"),
    snapshots: metadata.snapshots.length,
    updated: time(metadata.lastUpdatedMs)
  }
}

const details = (metadata: TableMetadata, metadataLocation: string) => ({
  location: metadata.location,
  metadata: metadataLocation,
  uuid: metadata.tableUuid,
  columns: Column.all(currentSchema(metadata)).map(({ field, path }) => ({
    id: field.id,
    name: path,
    type: isPrimitive(field.type) ? primitiveText(field.type) : field.type.type,
    required: field.required
  })),
  partitions: metadata.partitionSpecs.map(({ fields, specId }) => ({
    specId,
    isDefault: specId === metadata.defaultSpecId,
    fields: fields.map((field) => field.name)
  })),
  references: Object.entries(metadata.refs).map(([name, { snapshotId, type }]) => ({ name, type, snapshotId })),
  properties: metadata.properties
})

/** All tables, or one in full. */
export const show = ({ dataDir, json, table }: Common & { readonly table: Option.Option<string> }) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      if (Option.isNone(table)) {
        const names = yield* (yield* Catalog).list
        const rows = yield* Effect.forEach(names, (name) => Effect.map(load(TableIdentifier.render(name)), overview))
        return yield* print(json, ["table", "rows", "files", "bytes", "snapshots", "updated"], rows)
      }
      const loaded = yield* load(table.value)
      const { columns, partitions, properties, references, ...rest } = details(loaded.metadata, loaded.metadataLocation)
      if (json) return yield* Output.json({ ...overview(loaded), ...rest, columns, partitions, references, properties })
      yield* Output.table(["", ""], [...Object.entries(overview(loaded)), ...Object.entries(rest), ...Object.entries(properties)])
      yield* Output.table(["id", "column", "type", "required"], columns.map(({ id, name, required, type }) => [id, name, type, required]))
      yield* Output.table(["spec", "default", "fields"], partitions.map(({ fields, isDefault, specId }) => [specId, isDefault, fields.join(", ")]))
      yield* Output.table(["reference", "type", "snapshot"], references.map(({ name, snapshotId, type }) => [name, type, snapshotId]))
    }))

/** Every snapshot that is kept, oldest first. */
export const snapshots = ({ dataDir, json, table }: OfTable) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const { metadata } = yield* load(table)
      const names = (id: bigint) => Object.entries(metadata.refs).filter(([, { snapshotId }]) => snapshotId === id).map(([name]) => name).join(" ")
      yield* print(json, ["snapshot", "time", "operation", "addedRows", "rows", "files", "references", "commit"], metadata.snapshots.map((snapshot) => ({
        snapshot: String(snapshot.snapshotId),
        time: time(snapshot.timestampMs),
        operation: snapshot.summary["operation"] ?? null,
        addedRows: total(snapshot, "added-records"),
        rows: total(snapshot, "total-records"),
        files: total(snapshot, "total-data-files"),
        references: names(snapshot.snapshotId),
        commit: commitId(snapshot) ?? null
      })))
    }))

/** When which snapshot was the current one. */
export const history = ({ dataDir, json, table }: OfTable) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const { metadata } = yield* load(table)
      yield* print(json, ["since", "snapshot"], metadata.snapshotLog.map(({ snapshotId, timestampMs }) => ({
        since: time(timestampMs),
        snapshot: String(snapshotId)
      })))
    }))

export const partitionText = (metadata: TableMetadata, { file }: Scan.PlannedFile) => {
  const spec = specById(metadata, file.specId)
  return spec === undefined ? "" : PartitionSpec.path(spec, metadata.schemas, file.partition)
}

export const chosen = (snapshot: Option.Option<bigint>): Scan.ScanOptions => ({ snapshot: Option.getOrUndefined(snapshot) })

/** The data files of a snapshot. */
export const files = ({ dataDir, json, snapshot, table }: OfTable & { readonly snapshot: Option.Option<bigint> }) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const { metadata } = yield* load(table)
      const planned = yield* Scan.plan(metadata, chosen(snapshot))
      yield* print(json, ["path", "partition", "rows", "bytes", "sequence", "deletes"], planned.files.map((one) => ({
        path: one.file.filePath,
        partition: partitionText(metadata, one),
        rows: one.file.recordCount,
        bytes: one.file.fileSizeInBytes,
        sequence: one.sequenceNumber,
        deletes: one.deletes.length
      })))
    }))

/** What a condition's right side is for a column of this type; undefined where it is none. */
const valueOf = (text: string, type: string): SingleValue | undefined => {
  switch (type) {
    case "int":
      return /^-?\d+$/.test(text) ? Number(text) : undefined
    case "long":
      return /^-?\d+$/.test(text) ? BigInt(text) : undefined
    case "float":
    case "double":
      return Number.isNaN(Number(text)) ? undefined : Number(text)
    case "boolean":
      return text === "true" ? true : text === "false" ? false : undefined
    case "date":
      return Number.isNaN(Date.parse(text)) ? undefined : Math.floor(Date.parse(text) / 86_400_000)
    case "timestamp":
    case "timestamptz":
      return Number.isNaN(Date.parse(text)) ? undefined : BigInt(Date.parse(text)) * 1000n
    case "string":
      return text
    default:
      return undefined
  }
}

const operators = ["<=", ">=", "!=", "=", "<", ">"] as const

/** `event_ts >= 2026-11-24T00:00:00Z` */
const parseCondition = Effect.fnUntraced(function*(condition: string, metadata: TableMetadata, table: string) {
  const operator = operators.find((one) => condition.includes(one))
  if (operator === undefined) return yield* new ConditionInvalid({ condition, reason: `it has none of ${operators.join(" ")}` })
  const [name, ...rest] = condition.split(operator)
  const text = rest.join(operator).trim()
  const { field, path } = yield* Column.find(currentSchema(metadata), name!.trim(), table)
  const type = isPrimitive(field.type) ? primitiveText(field.type) : field.type.type
  const value = valueOf(text, type)
  if (value === undefined) return yield* new ConditionInvalid({ condition, reason: `"${text}" is no ${type}` })
  return Expression.test(path, operator, value)
})

export interface ExplainOptions extends OfTable {
  /** All must hold. */
  readonly where: ReadonlyArray<string>
  readonly snapshot: Option.Option<bigint>
}

/** What a reader with these conditions would read, and why it need not read the rest. */
export const explain = ({ dataDir, json, snapshot, table, where }: ExplainOptions) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const { metadata } = yield* load(table)
      const conditions = yield* Effect.forEach(where, (condition) => parseCondition(condition, metadata, table))
      const plan = yield* Scan.plan(metadata, { ...chosen(snapshot), filter: Expression.and(...conditions) })
      const { explanation } = plan
      const sum = (of: (planned: Scan.PlannedFile) => bigint) => plan.files.reduce((all, planned) => all + of(planned), 0n)
      const reads = { files: plan.files.length, rows: sum(({ file }) => file.recordCount), bytes: sum(({ file }) => file.fileSizeInBytes) }
      if (json) return yield* Output.json({ table, snapshot: plan.snapshot?.snapshotId ?? null, where, ...explanation, reads })
      const { filesSkipped, manifestsSkipped } = explanation
      yield* Output.table(["", "there are", "skipped by age", "by partition", "by column bounds", "read"], [
        [
          "manifests", explanation.manifests, manifestsSkipped.age, manifestsSkipped.partition, 0,
          explanation.manifests - manifestsSkipped.age - manifestsSkipped.partition
        ],
        ["files in them", explanation.files, filesSkipped.age, filesSkipped.partition, filesSkipped["column bounds"], reads.files]
      ])
      yield* Console.log(`${reads.rows} rows at most, ${reads.bytes} bytes, ${explanation.deleteFiles} delete files`)
    }))

export interface TagOptions extends OfTable {
  readonly name: string
  readonly snapshot: Option.Option<bigint>
  readonly remove: boolean
}

/** Names a snapshot, which no expiry takes then, or takes the name away. */
export const tag = ({ dataDir, json, name, remove, snapshot, table }: TagOptions) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const action = remove
        ? Action.removeReference(name)
        : Action.setReference({ name, type: "tag", ...(Option.isSome(snapshot) ? { snapshotId: snapshot.value } : {}) })
      const { tables } = yield* Transaction.commit({
        commitId: yield* Transaction.newCommitId,
        changes: [{ table: TableIdentifier.parse(table), actions: [action] }]
      })
      const at = tables[0]?.metadata.refs[name]?.snapshotId
      if (json) return yield* Output.json({ table, tag: name, snapshot: at === undefined ? null : String(at) })
      yield* Console.log(at === undefined ? `${table} has no tag ${name} any more` : `tag ${name} of ${table} names snapshot ${at}`)
    }))

/** Rebuilds a lost catalog. Does not make the tables first, as the other commands do. */
export const register = ({ dataDir, json }: Common) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const registered = yield* Register.register()
      if (json) return yield* Output.json(registered)
      if (registered.length === 0) return yield* Console.log("the catalog knows every table that is there")
      for (const { metadataLocation, table } of registered) yield* Console.log(`${table} is registered as ${metadataLocation}`)
    }))

const ownContract = (table: string) => {
  const contract = lakeTables.find((one) => qualifiedName(one) === table)
  return contract === undefined ? Effect.fail(new NotOurTable({ table })) : Effect.succeed(contract)
}

export const recoverPosition = ({ dataDir, json, table }: OfTable) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const progress = yield* RecoverPosition.recover(yield* ownContract(table))
      const rows = Array.from(progress, ([partition, { duplicates, position, rejected, rows: count, skipped }]) => ({
        partition, position, rows: count, rejected, duplicates, skipped
      }))
      yield* print(json, ["partition", "position", "rows", "rejected", "duplicates", "skipped"], rows)
    }))

export const acknowledge = ({ dataDir, json, rows, table }: OfTable & { readonly rows: number }) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const removed = yield* Acknowledge.run(yield* ownContract(table), BigInt(rows))
      if (json) return yield* Output.json({ table, removed })
      yield* Console.log(`${removed} rows of ${table} count as removed from now on${table === qualifiedName(telemetryClean) ? "; gold is filled again without them" : ""}`)
    }))

export interface RollbackOptions extends OfTable {
  readonly to: bigint
  readonly acceptLoss: boolean
}

export const rollback = ({ acceptLoss, dataDir, json, table, to }: RollbackOptions) =>
  use(dataDir, ({ settings }) =>
    Effect.gen(function*() {
      const contract = yield* ownContract(table)
      const done = yield* Rollback.rollback({ contract, snapshotId: to, topic: settings.ingest.topic, acceptLoss })
      if (json) return yield* Output.json(done.map((one) => ({ ...one, from: String(one.from), to: String(one.to) })))
      for (const one of done) {
        yield* Console.log(`${one.table} is at snapshot ${one.to} again; ${one.offsets} offsets are read again from there`)
      }
    }))
