/**
 * Gold by batch: brings a model's Iceberg table to silver's current snapshot. Units that silver's new rows touch are computed anew from silver's rows
 * (`BatchEngine`), and take the place of what the table had of them; the rest of the table is not read. So the cost goes with what is new, not with history.
 *
 * A commit says which silver it was computed from, and requires that the table is still at the one that the run began with: a run that was held up cannot
 * undo a newer one. Where there is no such base (another model, a rewound silver, rows removed that nothing says more of) all is computed anew.
 */
import { Clock, Effect, Either, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { grainLength } from "@voltlake/domain/GoldModel"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as Expression from "@voltlake/iceberg/Expression"
import * as NewSnapshot from "@voltlake/iceberg/NewSnapshot"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import * as Snapshot from "@voltlake/iceberg/Snapshot"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import { currentSchema, currentSnapshot, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { BatchEngine } from "./BatchEngine.ts"
import { type Computed, type Day, type Run, stretches, type Wanted } from "./BatchWork.ts"
import * as ModelTable from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"

/** Another run has brought the table on meanwhile. */
export class BatchSuperseded extends Schema.TaggedError<BatchSuperseded>()("BatchSuperseded", { model: Schema.String }) {
  override get message() {
    return `gold.${this.model} was brought on by another run meanwhile: this one is given up`
  }
}

export interface Built {
  /** `full`: computed anew from all of silver. `unchanged`: silver had nothing new. `found`: an earlier try had committed it. */
  readonly kind: "full" | "touched" | "unchanged" | "found"
  readonly source: ModelTable.Source
  readonly units: number
  readonly days: number
  readonly rows: bigint
}

/** Told after each day: days done, of how many. */
export type OnDay = (done: number, of: number) => Effect.Effect<void>

const between = (column: string, firstUs: bigint, endUs: bigint) => Expression.and(Expression.test(column, ">=", firstUs), Expression.test(column, "<", endUs))

/** What silver has that the base had not: as units. `undefined` where only a computation of all will do. */
const touchedSince = Effect.fnUntraced(function*({ checked: { model }, connection, silver, source, table }: Run, base: ModelTable.Source | undefined) {
  const { removals } = silver
  if (base === undefined || base.model !== source.model || base.silverEpoch !== source.silverEpoch) return false
  if (!Position.reached(source.position, base.position)) return false
  yield* ModelUnits.begin(connection, model)
  if (base.silverRemoval !== source.silverRemoval) {
    if (removals.previous !== base.silverRemoval || removals.scope.type !== "before") return false
    const end = BigInt(Date.parse(removals.scope.time)) * 1000n + model.lookback
    const { files } = yield* Scan.plan(table.metadata, { filter: Expression.test(model.time, "<", end) })
    const held = yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, files)
    yield* ModelUnits.addRowsOf(connection, model, `(SELECT * FROM ${held} AS r WHERE epoch_us(r.${quoted(model.time)}) < ${end})`)
  }
  const ranges = Array.from(silver.progress, ([key, { position, start }]) =>
    ({ ...Position.parseKey(key), start: base.position.get(key) ?? start, end: position })).filter((range) => range.end > range.start)
  if (ranges.length > 0) {
    yield* ModelUnits.addOf(connection, model, yield* SnapshotSource.range(telemetryClean, silver.metadata, base.position, ranges))
  }
  return true
}, Effect.scoped)

/** The day of a file's rows by its partition; undefined where the file is not of one day. */
const dayReader = ({ partitionSpecs }: TableMetadata, fieldId: number) => {
  const places = new Map(partitionSpecs.map(({ fields, specId }) => [specId, fields.findIndex(({ sourceId, transform }) => sourceId === fieldId && transform.type === "day")]))
  return ({ partition, specId }: DataFile): number | undefined => {
    const value = partition[places.get(specId) ?? -1]
    return typeof value === "number" ? value : undefined
  }
}

const eventTimeId = telemetryClean.columns.find(({ name }) => name === "event_ts")!.id

/** The days that silver or the table has rows of, with how many silver has. Files say it by themselves; only of those of several days rows are read. */
const allDays = Effect.fnUntraced(function*({ checked: { model }, connection, silver, table }: Run) {
  const length = ModelUnits.dayLength
  const rowsOf = new Map<number, bigint>()
  const add = (first: bigint, last: bigint, rows: bigint) => {
    for (let day = first; day <= last; day++) rowsOf.set(Number(day), (rowsOf.get(Number(day)) ?? 0n) + rows)
  }
  const dayOf = dayReader(silver.metadata, eventTimeId)
  const { files } = yield* Scan.plan(silver.metadata)
  for (const { file } of files) {
    const day = dayOf(file)
    if (day !== undefined) add(BigInt(day), BigInt(day) + (length - 1n + model.lookback) / length, file.recordCount)
  }
  const mixed = yield* ReadSql.relation(LakeTables.schemaOf(telemetryClean), silver.metadata, files.filter(({ file }) => dayOf(file) === undefined))
  const dayIn = (instant: string) => `${ModelUnits.bucket(instant, length)} // ${length}`
  const sparse = yield* connection.rows(`SELECT ${dayIn("us")} AS first, ${dayIn(`(us + ${model.lookback})`)} AS last, count(*) AS n
    FROM (SELECT epoch_us(event_ts) AS us FROM ${mixed}) GROUP BY 1, 2`)
  for (const { first, last, n } of sparse) add(BigInt(first as bigint), BigInt(last as bigint), BigInt(n as bigint))
  const heldDayOf = dayReader(table.metadata, currentSchema(table.metadata).fields.find(({ name }) => name === model.time)!.id)
  const held = (yield* Scan.plan(table.metadata)).files
  for (const { file } of held) {
    const day = heldDayOf(file)
    if (day !== undefined) add(BigInt(day), BigInt(day), 0n)
  }
  const rest = yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, held.filter(({ file }) => heldDayOf(file) === undefined))
  const others = yield* connection.rows(`SELECT DISTINCT ${dayIn(`epoch_us(${quoted(model.time)})`)} AS day FROM ${rest}`)
  for (const { day } of others) add(BigInt(day as bigint), BigInt(day as bigint), 0n)
  return [...rowsOf].sort(([a], [b]) => a - b).map(([day, rows]): Day =>
    ({ day, firstUs: BigInt(day) * length, lastUs: BigInt(day + 1) * length - grainLength(model.grain), rows }))
}, Effect.scoped)

/** Whether each of the table's files is of one day, so that days can be replaced as files. */
const isOfSingleDays = Effect.fnUntraced(function*({ checked: { model }, table: { metadata } }: Run) {
  const dayOf = dayReader(metadata, currentSchema(metadata).fields.find(({ name }) => name === model.time)!.id)
  return (yield* Scan.plan(metadata)).files.every(({ file }) => dayOf(file) !== undefined)
})

/** The table's files of the wanted days. */
const filesOfDays = Effect.fnUntraced(function*({ checked: { model } }: Run, { days }: Wanted, metadata: TableMetadata) {
  const length = ModelUnits.dayLength
  const within = stretches(days.map(({ day }) => day)).map(([first, end]) => between(model.time, BigInt(first) * length, BigInt(end) * length))
  return (yield* Scan.plan(metadata, { filter: Expression.or(...within) })).files.map(({ file }) => file)
})

const commitOnce = (
  { checked: { model }, commitId, source, table, written }: Run,
  base: ModelTable.Source | undefined,
  removed: ReadonlyArray<DataFile>,
  readAt: bigint
) => {
  const added = written
  return Transaction.commit<Action.RewriteStale | BatchSuperseded>({
    commitId,
    changes: [{
      table: ModelTable.identifier(model),
      actions: [removed.length === 0 ? Action.append(added) : Action.overwrite({ removed, added, readAt })],
      summary: (metadata: TableMetadata) => {
        const now = ModelTable.sourceOf(metadata)
        const isSame = now === undefined || base === undefined ? now === base : ModelTable.equals(now, base)
        return isSame && metadata.tableUuid === table.metadata.tableUuid
          ? Either.right(ModelTable.summary(source))
          : Either.left(new BatchSuperseded({ model: model.name }))
      }
    }]
  })
}

/** Merging of the table's files came in between: so often it is tried again. */
const triesMax = 5

/** Whole days take the place of what the table has of them now: where its files were merged meanwhile, of the merged ones. */
const commit = Effect.fnUntraced(function*(run: Run, base: ModelTable.Source | undefined, wanted: Wanted, { removed }: Computed) {
  const attempt = (metadata: TableMetadata) =>
    Effect.flatMap(removed === "days" ? filesOfDays(run, wanted, metadata) : Effect.succeed(removed), (files) =>
      commitOnce(run, base, files, currentSnapshot(metadata)?.sequenceNumber ?? 0n))
  const again = Effect.flatMap(Tables, (tables) => Effect.flatMap(tables.load(run.table.identifier), ({ metadata }) => attempt(metadata)))
  yield* Effect.catchIf(attempt(run.table.metadata), (error) => error._tag === "RewriteStale" && removed === "days", () =>
    Effect.retry(again, { while: (error) => error._tag === "RewriteStale", times: triesMax }))
})

/** Silver with its epoch: one that changes while silver is loaded may be of either side of it. */
const loadSilver = Effect.gen(function*() {
  const epoch = (yield* Catalog).epoch(LakeTables.identifier(telemetryClean))
  while (true) {
    const before = yield* epoch
    const silver = yield* LakeTables.load(telemetryClean)
    if ((yield* epoch) === before) return { silver, silverEpoch: before }
  }
})

/** Of whoever builds: the id of its commit, and those of earlier tries of which nobody knows what came of them. */
export interface CommitIds {
  readonly commitId: string
  readonly earlierCommitIds: ReadonlyArray<string>
}

const attempt = Effect.fnUntraced(function*(
  checked: ModelTable.CheckedModel,
  connection: Connection,
  onDay: OnDay,
  { commitId, earlierCommitIds }: CommitIds
) {
  const table = yield* ModelTable.ensure(checked)
  const { silver, silverEpoch } = yield* loadSilver
  const source = new ModelTable.Source({
    model: ModelTable.modelHash(checked.model),
    silverEpoch,
    silverRemoval: silver.removals.id,
    position: Progress.position(silver.progress)
  })
  const written: Array<DataFile> = []
  const run: Run = { connection, checked, commitId, silver, table, source, written }
  const base = ModelTable.sourceOf(table.metadata)
  if (base !== undefined && ModelTable.equals(base, source)) {
    const last = NewSnapshot.nearestOwn(table.metadata)
    const isFound = last !== undefined && earlierCommitIds.includes(Snapshot.commitId(last) ?? "")
    return { kind: isFound ? "found" : "unchanged", source, units: 0, days: 0, rows: 0n } satisfies Built
  }
  const engine = yield* BatchEngine
  const isFull = !(yield* touchedSince(run, base)) || (engine.isByDay && !(yield* isOfSingleDays(run)))
  const days = isFull ? yield* allDays(run) : (yield* ModelUnits.days(connection)).map((one): Day => ({ ...one, rows: 0n }))
  const [units] = isFull ? [] : yield* connection.rows(`SELECT count(*) AS n FROM ${ModelUnits.unitsTable}`)
  let done = 0
  const wanted: Wanted = { isFull, days, onDay: Effect.suspend(() => onDay(++done, days.length)) }
  const discard = Effect.flatMap(TableFiles, (files) => Effect.suspend(() => files.discard(written.map(({ filePath }) => filePath))))
  const computed = yield* engine.compute(run, wanted).pipe(
    Effect.tap((found) => commit(run, base, wanted, found)),
    Effect.tapError((error) => error._tag === "CatalogError" && error.outcome === "Unknown" ? Effect.void : discard)
  )
  return { kind: isFull ? "full" : "touched", source, units: Number(units?.["n"] ?? 0n), days: days.length, rows: computed.rows } satisfies Built
}, Effect.scoped)

/** Brings the model's table to silver as it is now. */
export const build = Effect.fn("GoldBatch.build")(function*(
  checked: ModelTable.CheckedModel,
  onDay: OnDay = () => Effect.void,
  ids: CommitIds | undefined = undefined
) {
  const connection = yield* (yield* QueryEngine).connect
  const beganMs = yield* Clock.currentTimeMillis
  // What is read may not be cleaned away meanwhile.
  yield* (yield* Catalog).lease(`gold.${checked.model.name}`)
  const newIds = Effect.map(Transaction.newCommitId, (commitId): CommitIds => ({ commitId, earlierCommitIds: ids?.earlierCommitIds ?? [] }))
  // Files bear the commit's id: what is computed once more has another.
  const again = Effect.flatMap(newIds, (fresh) => attempt(checked, connection, onDay, fresh))
  const isStale = (error: { readonly _tag: string }) => error._tag === "RewriteStale"
  const built = yield* attempt(checked, connection, onDay, ids ?? (yield* newIds)).pipe(
    Effect.catchIf(isStale, () => Effect.retry(again, { while: isStale, times: triesMax - 1 }))
  )
  const { source: _, ...facts } = built
  yield* Effect.logDebug("built a gold table").pipe(Effect.annotateLogs({ model: checked.model.name, ms: (yield* Clock.currentTimeMillis) - beganMs, ...facts }))
  return built
}, Effect.scoped)
