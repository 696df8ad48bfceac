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
import { boundSql, sourceName, sourceSql } from "./ModelCheck.ts"
import * as ModelTable from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"

/** The model's rows are not as it says itself. Nothing was committed, and the table is as it was. */
export class ModelBroken extends Schema.TaggedError<ModelBroken>()("ModelBroken", { model: Schema.String, reason: Schema.String }) {
  override get message() {
    return `gold model ${this.model}: ${this.reason}. Its table stays as it was.`
  }
}

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

/** Lets silver's rows that matter for units of this day stand under the models' source. */
const bindSource = Effect.fnUntraced(function*({ checked: { model }, connection, silver }: Run, { firstUs, lastUs }: ModelUnits.TouchedDay, isFull: boolean) {
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
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS
    SELECT * FROM (${sourceSql(relation)}) WHERE event_us >= ${from} AND event_us < ${end}${isOfUnits}`)
})

/** Whether rows of the model keep what its header promises. */
const checkRows = Effect.fnUntraced(function*({ checked: { model }, connection }: Run, rows: string, day: string) {
  const key = model.key.map(quoted).join(", ")
  const broken = (reason: string) => new ModelBroken({ model: model.name, reason: `${reason} (${day})` })
  const [nulls] = yield* connection.rows(`SELECT count(*) AS n FROM ${rows} WHERE ${model.key.map((name) => `${quoted(name)} IS NULL`).join(" OR ")}`)
  if (nulls?.["n"] !== 0n) return yield* broken(`${nulls?.["n"]} rows have no value in a column of the key (${model.key.join(", ")})`)
  const time = `epoch_us(${quoted(model.time)})`
  const [uneven] = yield* connection.rows(`SELECT count(*) AS n FROM ${rows} WHERE ${time} <> ${ModelUnits.bucket(time, grainLength(model.grain))}`)
  if (uneven?.["n"] !== 0n) return yield* broken(`${uneven?.["n"]} rows have a ${model.time} that is not the beginning of a ${model.grain}`)
  const [repeated] = yield* connection.table(`SELECT ${key}, count(*) AS n FROM ${rows} GROUP BY ${key} HAVING count(*) > 1 LIMIT 1`).pipe(Effect.map((found) => found.rows))
  if (repeated !== undefined) return yield* broken(`its key is not unique: ${repeated.at(-1)} rows have (${model.key.join(", ")}) = (${repeated.slice(0, -1).join(", ")})`)
  for (const test of model.tests) {
    const [failed] = yield* connection.rows(`SELECT count(*) AS n FROM ${rows} WHERE NOT coalesce(${test}, false)`)
    if (failed?.["n"] !== 0n) return yield* broken(`${failed?.["n"]} rows fail its test ${test}`)
  }
})

const date = (day: number) => new Date(day * 86_400_000).toISOString().slice(0, 10)

interface ReplacedDay {
  readonly removed: ReadonlyArray<DataFile>
  readonly added: ReadonlyArray<DataFile>
  readonly rows: bigint
}

/** Computes a day's touched units, and writes the day's rows with them. */
const replaceDay = Effect.fn("GoldBatch.replaceDay")(function*(run: Run, touched: ModelUnits.TouchedDay, isFull: boolean, index: number) {
  const { checked: { columns, model }, commitId, connection, table: { metadata } } = run
  const dayUs = BigInt(touched.day) * ModelUnits.dayLength
  yield* bindSource(run, touched, isFull)
  const inDay = `epoch_us(r.${quoted(model.time)}) >= ${dayUs} AND epoch_us(r.${quoted(model.time)}) < ${dayUs + ModelUnits.dayLength}`
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${resultTable} AS
    SELECT * FROM (${boundSql(model)}) AS r WHERE r.${quoted(model.time)} IS NULL OR (${inDay}${isFull ? "" : ` AND ${ModelUnits.isTouched(model, "r")}`})`)
  yield* checkRows(run, resultTable, date(touched.day))
  const [count] = yield* connection.rows(`SELECT count(*) AS n FROM ${resultTable}`)
  const { files } = yield* Scan.plan(metadata, { filter: between(model.time, dayUs, dayUs + ModelUnits.dayLength) })
  const names = columns.map(({ name }) => quoted(name)).join(", ")
  const kept = isFull
    ? ""
    : `UNION ALL SELECT ${names} FROM ${yield* ReadSql.relation(currentSchema(metadata), metadata, files)} AS r WHERE NOT ${ModelUnits.isTouched(model, "r")}`
  const order = [model.time, ...model.key.filter((name) => name !== model.time)].map(quoted).join(", ")
  const written = yield* DataFileWriter.write({
    connection,
    query: `SELECT * FROM (SELECT ${names} FROM ${resultTable} ${kept}) ORDER BY ${order}`,
    metadata,
    specId: ModelTable.daySpecId,
    partition: [touched.day],
    sortOrderId: metadata.defaultSortOrderId,
    commitId,
    index
  })
  return {
    removed: files.map(({ file }) => file),
    added: written === undefined ? [] : [written],
    rows: BigInt(count?.["n"] as bigint)
  } satisfies ReplacedDay
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

/** One unit for each day that silver or the table has rows of. */
const allDays = Effect.fnUntraced(function*({ checked: { model }, connection, silver, table }: Run) {
  const reach = `(event_us + ${model.lookback})`
  const all = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  const { files } = yield* Scan.plan(table.metadata)
  const held = yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, files)
  const length = ModelUnits.dayLength
  const time = `epoch_us(${quoted(model.time)})`
  const rows = yield* connection.rows(`
    SELECT DISTINCT unnest(generate_series(first_us, last_us, ${length})) // ${length} AS day FROM (
      SELECT DISTINCT ${ModelUnits.bucket("event_us", length)} AS first_us, ${ModelUnits.bucket(reach, length)} AS last_us FROM (${sourceSql(all)})
      UNION SELECT DISTINCT ${ModelUnits.bucket(time, length)}, ${ModelUnits.bucket(time, length)} FROM ${held})
    ORDER BY 1`)
  return rows.map((row): ModelUnits.TouchedDay => {
    const day = Number(row["day"])
    return { day, firstUs: BigInt(day) * length, lastUs: (BigInt(day) + 1n) * length - grainLength(model.grain) }
  })
}, Effect.scoped)

const commit = (
  { checked: { model }, commitId, source, table }: Run,
  base: ModelTable.Source | undefined,
  replaced: ReadonlyArray<ReplacedDay>,
  readAt: bigint
) => {
  const removed = replaced.flatMap((day) => day.removed)
  const added = replaced.flatMap((day) => day.added)
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
  const days = isFull ? yield* allDays(run) : yield* ModelUnits.days(connection)
  const [units] = isFull ? [] : yield* connection.rows(`SELECT count(*) AS n FROM ${ModelUnits.unitsTable}`)
  const replaced: Array<ReplacedDay> = []
  const discard = Effect.flatMap(TableFiles, (files) => files.discard(replaced.flatMap(({ added }) => added.map((file) => file.filePath))))
  yield* Effect.gen(function*() {
    for (const [index, day] of days.entries()) {
      replaced.push(yield* replaceDay(run, day, isFull, index))
      yield* onDay(index + 1, days.length)
    }
    const { snapshot } = yield* Scan.plan(table.metadata, { filter: Expression.not(Expression.everything) })
    yield* commit(run, base, replaced, snapshot?.sequenceNumber ?? 0n)
  }).pipe(Effect.tapError((error) => error._tag === "CatalogError" && error.outcome === "Unknown" ? Effect.void : discard))
  return {
    kind: isFull ? "full" : "touched",
    source,
    units: Number(units?.["n"] ?? 0n),
    days: days.length,
    rows: replaced.reduce((sum, { rows }) => sum + rows, 0n)
  } satisfies Built
})

/** Brings the model's table to silver as it is now. Memory is the engine's, and a day's files at a time. */
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
