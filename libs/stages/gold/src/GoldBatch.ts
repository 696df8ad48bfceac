/**
 * Gold by batch: brings a model's Iceberg table to silver's current snapshot. Units that silver's new rows touch are computed anew from silver's rows, day
 * by day, and take the place of what the table had of them; the rest of the table is not read. So the cost goes with what is new, not with history.
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
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import * as Expression from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import { currentSchema, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import type { Table } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { boundSql, sourceName } from "./ModelCheck.ts"
import * as ModelTable from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowCheck from "./RowCheck.ts"

/** Another run has brought the table on meanwhile. */
export class BatchSuperseded extends Schema.TaggedError<BatchSuperseded>()("BatchSuperseded", { model: Schema.String }) {
  override get message() {
    return `gold.${this.model} was brought on by another run meanwhile: this one is given up`
  }
}

export interface Built {
  /** `full`: computed anew from all of silver. `unchanged`: silver had nothing new. */
  readonly kind: "full" | "touched" | "unchanged"
  readonly source: ModelTable.Source
  readonly units: number
  readonly days: number
  readonly rows: bigint
}

interface Run {
  readonly connection: Connection
  readonly checked: ModelTable.CheckedModel
  readonly commitId: string
  readonly silver: LakeTables.Loaded
  readonly table: Table
  readonly source: ModelTable.Source
}

/** Told after each day: days done, of how many. */
export type OnDay = (done: number, of: number) => Effect.Effect<void>

const resultTable = "gold_result"

const between = (column: string, firstUs: bigint, endUs: bigint) => Expression.and(Expression.test(column, ">=", firstUs), Expression.test(column, "<", endUs))

/** Vehicles beyond this are not named one by one to the planner: bounds would rule out no file. */
const namedMax = 50

/** Days that are computed by one query. */
interface Span {
  /** In order. */
  readonly days: ReadonlyArray<number>
  /** The first and the last of the units. */
  readonly firstUs: bigint
  readonly lastUs: bigint
}

/** Lets silver's rows that matter for units of these days stand under the models' source. */
const bindSource = Effect.fnUntraced(function*({ checked: { model }, connection, silver }: Run, { firstUs, lastUs }: Span, isFull: boolean) {
  const [from, end] = [firstUs - model.lookback, lastUs + grainLength(model.grain)]
  const own = ModelUnits.ownColumns(model)
  const isOfUnits = isFull || own.length === 0
    ? ""
    : ` AND (${own.map(quoted).join(", ")}) IN (SELECT (${own.map(quoted).join(", ")}) FROM ${ModelUnits.unitsTable} WHERE bucket_us BETWEEN ${firstUs} AND ${lastUs})`
  const vehicles = isFull || !own.includes("vehicle_id")
    ? []
    : yield* connection.rows(`SELECT DISTINCT vehicle_id FROM ${ModelUnits.unitsTable} WHERE bucket_us BETWEEN ${firstUs} AND ${lastUs} LIMIT ${namedMax + 1}`)
  const named = vehicles.length === 0 || vehicles.length > namedMax
    ? []
    : [Expression.or(...vehicles.map((row) => Expression.test("vehicle_id", "=", String(row["vehicle_id"]))))]
  const { files } = yield* Scan.plan(silver.metadata, { filter: Expression.and(between("event_ts", from, end), ...named) })
  const relation = yield* ReadSql.relation(LakeTables.schemaOf(telemetryClean), silver.metadata, files)
  const rows = ModelUnits.sourceRows(relation, `epoch_us(event_ts) >= ${from} AND epoch_us(event_ts) < ${end}${isOfUnits}`)
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${rows}`)
})

const date = (day: number) => new Date(day * 86_400_000).toISOString().slice(0, 10)

const dates = ({ days }: Span) => (days.length === 1 ? date(days[0]!) : `${date(days[0]!)} to ${date(days.at(-1)!)}`)

interface Replaced {
  readonly removed: ReadonlyArray<DataFile>
  readonly added: Array<DataFile>
  readonly rows: bigint
}

/** Computes the touched units of some days. `replaced` gets the files of the days' rows with them, one a day, as they are written. */
const replaceDays = Effect.fn("GoldBatch.replaceDays")(function*(run: Run, span: Span, isFull: boolean, replaced: Array<Replaced>, onDay: Effect.Effect<void>) {
  const { checked: { columns, model }, commitId, connection, table: { metadata } } = run
  const length = ModelUnits.dayLength
  const [fromUs, endUs] = [BigInt(span.days[0]!) * length, BigInt(span.days.at(-1)! + 1) * length]
  const time = (alias: string) => `epoch_us(${alias}.${quoted(model.time)})`
  const within = (from: bigint, end: bigint) => `${time("r")} >= ${from} AND ${time("r")} < ${end}`
  yield* bindSource(run, span, isFull)
  // Where the source is bounded already, asking each of its rows once more for the model's time costs more than the few rows that it would spare.
  const once = model.lookback === 0n ? "MATERIALIZED" : "NOT MATERIALIZED"
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${resultTable} AS WITH gold_computed AS ${once} (${boundSql(model)})
    SELECT * FROM gold_computed AS r WHERE r.${quoted(model.time)} IS NULL OR (${within(fromUs, endUs)}${isFull ? "" : ` AND ${ModelUnits.isTouched(model, "r")}`})`)
  const rows = yield* RowCheck.check(connection, run.checked, resultTable, dates(span))
  const { files } = yield* Scan.plan(metadata, { filter: between(model.time, fromUs, endUs) })
  const names = columns.map(({ name }) => quoted(name)).join(", ")
  const kept = isFull
    ? ""
    : `UNION ALL SELECT ${names} FROM ${yield* ReadSql.relation(currentSchema(metadata), metadata, files)} AS r WHERE NOT ${ModelUnits.isTouched(model, "r")}`
  const order = [model.time, ...model.key.filter((name) => name !== model.time)].map(quoted).join(", ")
  const added: Array<DataFile> = []
  replaced.push({ removed: files.map(({ file }) => file), added, rows })
  for (const day of span.days) {
    const ofDay = span.days.length === 1 ? "" : ` AS r WHERE ${within(BigInt(day) * length, BigInt(day + 1) * length)}`
    const written = yield* DataFileWriter.write({
      connection,
      query: `SELECT * FROM (SELECT ${names} FROM ${resultTable}${ofDay} ${kept}) ORDER BY ${order}`,
      metadata,
      specId: ModelTable.daySpecId,
      partition: [day],
      sortOrderId: metadata.defaultSortOrderId,
      commitId,
      index: replaced.reduce((sum, one) => sum + one.added.length, 0)
    })
    if (written !== undefined) added.push(written)
    yield* onDay
  }
}, Effect.scoped)

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
  return [...rowsOf].sort(([a], [b]) => a - b)
}, Effect.scoped)

/** So many rows of silver are computed at once, and of so many days, where days are small: a query has its price however few its rows. */
const spanRowsMax = 1_000_000n
const spanDaysMax = 32

/**
 * The days in spans. Where rows matter for longer than their own unit, each day is one of its own: such a model compares rows by their time, at a cost that
 * may go with the square of it.
 */
const spansOf = (model: ModelTable.CheckedModel["model"], all: ReadonlyArray<readonly [day: number, rows: bigint]>): ReadonlyArray<Span> => {
  const groups: Array<{ readonly days: Array<number>; rows: bigint }> = []
  for (const [day, rows] of all) {
    const last = groups.at(-1)
    if (last === undefined || model.lookback > 0n || last.rows + rows > spanRowsMax || last.days.length === spanDaysMax) groups.push({ days: [day], rows })
    else {
      last.days.push(day)
      last.rows += rows
    }
  }
  const length = ModelUnits.dayLength
  return groups.map(({ days }) => ({ days, firstUs: BigInt(days[0]!) * length, lastUs: BigInt(days.at(-1)! + 1) * length - grainLength(model.grain) }))
}

const commit = (
  { checked: { model }, commitId, source, table }: Run,
  base: ModelTable.Source | undefined,
  replaced: ReadonlyArray<Replaced>,
  readAt: bigint
) => {
  const removed = replaced.flatMap((one) => one.removed)
  const added = replaced.flatMap((one) => one.added)
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

/** Silver with its epoch: one that changes while silver is loaded may be of either side of it. */
const loadSilver = Effect.gen(function*() {
  const epoch = (yield* Catalog).epoch(LakeTables.identifier(telemetryClean))
  while (true) {
    const before = yield* epoch
    const silver = yield* LakeTables.load(telemetryClean)
    if ((yield* epoch) === before) return { silver, silverEpoch: before }
  }
})

const attempt = Effect.fnUntraced(function*(checked: ModelTable.CheckedModel, connection: Connection, onDay: OnDay) {
  const table = yield* ModelTable.ensure(checked)
  const { silver, silverEpoch } = yield* loadSilver
  const source = new ModelTable.Source({
    model: ModelTable.modelHash(checked.model),
    silverEpoch,
    silverRemoval: silver.removals.id,
    position: Progress.position(silver.progress)
  })
  const run: Run = { connection, checked, commitId: yield* Transaction.newCommitId, silver, table, source }
  const base = ModelTable.sourceOf(table.metadata)
  if (base !== undefined && ModelTable.equals(base, source)) return { kind: "unchanged", source, units: 0, days: 0, rows: 0n } satisfies Built
  const isFull = !(yield* touchedSince(run, base))
  const spans = isFull
    ? spansOf(checked.model, yield* allDays(run))
    : (yield* ModelUnits.days(connection)).map(({ day, ...units }): Span => ({ days: [day], ...units }))
  const days = spans.reduce((sum, span) => sum + span.days.length, 0)
  const [units] = isFull ? [] : yield* connection.rows(`SELECT count(*) AS n FROM ${ModelUnits.unitsTable}`)
  const replaced: Array<Replaced> = []
  let done = 0
  const told = Effect.suspend(() => onDay(++done, days))
  const discard = Effect.flatMap(TableFiles, (files) => files.discard(replaced.flatMap(({ added }) => added.map((file) => file.filePath))))
  yield* Effect.gen(function*() {
    for (const span of spans) yield* replaceDays(run, span, isFull, replaced, told)
    const { snapshot } = yield* Scan.plan(table.metadata, { filter: Expression.not(Expression.everything) })
    yield* commit(run, base, replaced, snapshot?.sequenceNumber ?? 0n)
  }).pipe(Effect.tapError((error) => error._tag === "CatalogError" && error.outcome === "Unknown" ? Effect.void : discard))
  return {
    kind: isFull ? "full" : "touched",
    source,
    units: Number(units?.["n"] ?? 0n),
    days,
    rows: replaced.reduce((sum, { rows }) => sum + rows, 0n)
  } satisfies Built
})

/** Brings the model's table to silver as it is now. Memory is the engine's, and a day's files at a time, or those of a few small days. */
export const build = Effect.fn("GoldBatch.build")(function*(checked: ModelTable.CheckedModel, onDay: OnDay = () => Effect.void) {
  const connection = yield* (yield* QueryEngine).connect
  const beganMs = yield* Clock.currentTimeMillis
  // What is read may not be cleaned away meanwhile.
  yield* (yield* Catalog).lease(`gold.${checked.model.name}`)
  const built = yield* attempt(checked, connection, onDay).pipe(
    Effect.retry({ while: (error) => error._tag === "RewriteStale", times: triesMax })
  )
  const { source: _, ...facts } = built
  yield* Effect.logDebug("built a gold table").pipe(Effect.annotateLogs({ model: checked.model.name, ms: (yield* Clock.currentTimeMillis) - beganMs, ...facts }))
  return built
}, Effect.scoped)
