/**
 * Gold by batch in this process: days are computed one by one, or some small ones together, by DuckDB, of the rows of silver that matter for them. Where only
 * some units of a day are wanted, the table's other rows of the day are written anew beside them.
 */
import { Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { grainLength } from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import * as Expression from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import { type Computed, datesOf, type Day, type Run, type Wanted } from "./BatchWork.ts"
import { boundSql, sourceName } from "./ModelCheck.ts"
import * as ModelTable from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowCheck from "./RowCheck.ts"

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

interface Replaced {
  readonly removed: ReadonlyArray<DataFile>
  readonly rows: bigint
}

/** Computes wanted rows of some days, and writes a file of each day's rows. */
const replaceDays = Effect.fn("DuckDbBatch.replaceDays")(function*(run: Run, span: Span, { isFull, onDay }: Wanted) {
  const { checked: { columns, model }, commitId, connection, table: { metadata }, written } = run
  const length = ModelUnits.dayLength
  const [fromUs, endUs] = [BigInt(span.days[0]!) * length, BigInt(span.days.at(-1)! + 1) * length]
  const time = (alias: string) => `epoch_us(${alias}.${quoted(model.time)})`
  const within = (from: bigint, end: bigint) => `${time("r")} >= ${from} AND ${time("r")} < ${end}`
  yield* bindSource(run, span, isFull)
  // Rows of whole days that matter for no other are those days' own. Asking for that, here or of each row of silver, would cost more than all the rest.
  const isOwn = isFull && model.lookback === 0n
  const once = model.lookback === 0n ? "MATERIALIZED" : "NOT MATERIALIZED"
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${resultTable} AS ${
    isOwn
      ? boundSql(model)
      : `WITH gold_computed AS ${once} (${boundSql(model)}) SELECT * FROM gold_computed AS r
        WHERE r.${quoted(model.time)} IS NULL OR (${within(fromUs, endUs)}${isFull ? "" : ` AND ${ModelUnits.isTouched(model, "r")}`})`
  }`)
  const rows = yield* RowCheck.check(connection, run.checked, resultTable, datesOf(span.days))
  const [astray] = isOwn ? yield* connection.rows(`SELECT count(*) AS n FROM ${resultTable} AS r WHERE NOT (${within(fromUs, endUs)})`) : []
  if (astray !== undefined && astray["n"] !== 0n) {
    const reason = `${astray["n"]} rows have a ${model.time} of another day than the rows of silver that they were computed from (${datesOf(span.days)})`
    return yield* new RowCheck.ModelBroken({ model: model.name, reason })
  }
  const { files } = yield* Scan.plan(metadata, { filter: between(model.time, fromUs, endUs) })
  const names = columns.map(({ name }) => quoted(name)).join(", ")
  const kept = isFull
    ? ""
    : `UNION ALL SELECT ${names} FROM ${yield* ReadSql.relation(currentSchema(metadata), metadata, files)} AS r WHERE NOT ${ModelUnits.isTouched(model, "r")}`
  const order = [model.time, ...model.key.filter((name) => name !== model.time)].map(quoted).join(", ")
  for (const day of span.days) {
    const ofDay = span.days.length === 1 ? "" : ` AS r WHERE ${within(BigInt(day) * length, BigInt(day + 1) * length)}`
    const file = yield* DataFileWriter.write({
      connection,
      query: `SELECT * FROM (SELECT ${names} FROM ${resultTable}${ofDay} ${kept}) ORDER BY ${order}`,
      metadata,
      specId: ModelTable.daySpecId,
      partition: [day],
      sortOrderId: metadata.defaultSortOrderId,
      commitId,
      index: written.length
    })
    if (file !== undefined) written.push(file)
    yield* onDay
  }
  return { removed: files.map(({ file }) => file), rows } satisfies Replaced
}, Effect.scoped)

/** So many rows of silver are computed at once, and of so many days, where days are small: a query has its price however few its rows. */
const spanRowsMax = 1_000_000n
const spanDaysMax = 32

/**
 * The days in spans. Where rows matter for longer than their own unit, each day is one of its own: such a model compares rows by their time, at a cost that
 * may go with the square of it.
 */
const spansOf = (model: ModelTable.CheckedModel["model"], { days, isFull }: Wanted): ReadonlyArray<Span> => {
  if (!isFull) return days.map(({ day, firstUs, lastUs }) => ({ days: [day], firstUs, lastUs }))
  const groups: Array<{ readonly days: Array<Day>; rows: bigint }> = []
  for (const day of days) {
    const { rows } = day
    const last = groups.at(-1)
    if (last === undefined || model.lookback > 0n || last.rows + rows > spanRowsMax || last.days.length === spanDaysMax) groups.push({ days: [day], rows })
    else {
      last.days.push(day)
      last.rows += rows
    }
  }
  return groups.map(({ days: of }) => ({ days: of.map(({ day }) => day), firstUs: of[0]!.firstUs, lastUs: of.at(-1)!.lastUs }))
}

/** Memory is the engine's, and a day's files at a time, or those of a few small days. */
export const compute = Effect.fn("DuckDbBatch.compute")(function*(run: Run, wanted: Wanted) {
  const replaced: Array<Replaced> = []
  for (const span of spansOf(run.checked.model, wanted)) replaced.push(yield* replaceDays(run, span, wanted))
  return {
    rows: replaced.reduce((sum, { rows }) => sum + rows, 0n),
    removed: wanted.isFull ? "days" : replaced.flatMap(({ removed }) => removed)
  } satisfies Computed
})

export type ComputeError = Effect.Effect.Error<ReturnType<typeof compute>>
