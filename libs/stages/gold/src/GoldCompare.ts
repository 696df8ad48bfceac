/**
 * Live values against batch: what PostgreSQL has of a live model is compared with what the batch computed from silver, and mended where it differs.
 *
 * The batch stands at silver's position P. The comparison locks gold's position L, once L has reached P, so that nothing moves meanwhile. Units that rows in
 * [P, L) touch are further on in PostgreSQL than in the batch: they wait for the next time. All others must be equal, to the last digit. A unit that is
 * not is computed anew from silver's rows below L, in the same transaction, and reported.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Either, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import * as Expression from "@voltlake/iceberg/Expression"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { transaction } from "@voltlake/postgres/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import * as GoldProgress from "./GoldProgress.ts"
import { tableName } from "./GoldPublish.ts"
import { boundSql, sourceName, sourceSql } from "./ModelCheck.ts"
import * as ModelTable from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowsBetween from "./RowsBetween.ts"

/** Live gold is not where the batch is: it is behind, or has not followed silver's last change. To be tried again. */
export class GoldBehind extends Schema.TaggedError<GoldBehind>()("GoldBehind", { model: Schema.String, reason: Schema.String }) {
  override get message() {
    return `live values of ${this.model} cannot be compared yet: ${this.reason}`
  }
}

export interface Difference {
  /** The unit, as `vehicle_id, minute_ts`. */
  readonly unit: ReadonlyArray<string>
  readonly live: ReadonlyArray<ReadonlyArray<string | null>>
  readonly batch: ReadonlyArray<ReadonlyArray<string | null>>
}

export interface Compared {
  readonly units: number
  /** Units that are further on in PostgreSQL already. */
  readonly waiting: number
  /** Units that differed, and are mended. */
  readonly differing: number
  /** The first of them. */
  readonly samples: ReadonlyArray<Difference>
}

const samplesMax = 5
const batchRows = "gold_compare_batch"
const liveRows = "gold_compare_live"
const differingUnits = "gold_differing_unit"

interface Context {
  readonly sql: PgClient.PgClient
  readonly connection: Connection
  readonly checked: ModelTable.CheckedModel
}

/** Ranges of silver's rows from one position to another. */
const between = (from: Position.Position, silver: LakeTables.Loaded, to: Position.Position) =>
  Array.from(to, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? silver.progress.get(key)?.start ?? 0n, end }))
    .filter((range) => range.end > range.start)

/** The batch's rows of the touched units of one day, in the engine. */
const readBatch = Effect.fnUntraced(function*({ checked: { columns, model }, connection }: Context, table: LakeTable, day: ModelUnits.TouchedDay) {
  const dayUs = BigInt(day.day) * ModelUnits.dayLength
  const within = Expression.and(Expression.test(model.time, ">=", dayUs), Expression.test(model.time, "<", dayUs + ModelUnits.dayLength))
  const { files } = yield* Scan.plan(table.metadata, { filter: within })
  const relation = yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, files)
  const names = columns.map(({ name }) => `r.${quoted(name)}`).join(", ")
  yield* connection.run(`INSERT INTO ${batchRows} SELECT ${names} FROM ${relation} AS r WHERE ${ModelUnits.isTouched(model, "r")}`)
}, Effect.scoped)

type LakeTable = Effect.Effect.Success<ReturnType<typeof ModelTable.ensure>>

const json = (columns: ReadonlyArray<string>) => `json_group_array(json_array(${columns.map((name) => `${name}::VARCHAR`).join(", ")}))::VARCHAR`

/** PostgreSQL's rows of the units in the engine. */
const readLive = Effect.fnUntraced(function*({ checked: { columns, model }, connection, sql }: Context, units: string) {
  const own = ModelUnits.ownColumns(model)
  const names = [...own, "bucket_us"]
  const [listed] = yield* connection.rows(`SELECT ${json(names.map(quoted))} AS texts FROM ${units}`)
  yield* sql.unsafe("DROP TABLE IF EXISTS compared_unit")
  yield* sql.unsafe(`CREATE TEMP TABLE compared_unit ON COMMIT DROP AS
    SELECT ${own.map((name, index) => `u.value ->> ${index} AS ${quoted(name)}`).concat(
    `timestamp 'epoch' + (u.value ->> ${own.length})::bigint * interval '1 microsecond' AS bucket`
  ).join(", ")} FROM json_array_elements($1::json) AS u`, [String(listed?.["texts"] ?? "[]")])
  yield* sql.unsafe("ANALYZE compared_unit")
  const joined = [...own.map((name) => `g.${quoted(name)}::text = u.${quoted(name)}`), `g.${quoted(model.time)} = u.bucket`].join(" AND ")
  const query = `SELECT ${columns.map(({ name }) => `g.${quoted(name)}`).join(", ")} FROM public.${quoted(tableName(model))} AS g JOIN compared_unit AS u ON ${joined}`
  yield* RowsBetween.fetch(sql, connection, columns, query, liveRows)
  return joined
})

const unitList = (model: ModelTable.CheckedModel["model"], alias: string) =>
  ModelUnits.unitOf(model, alias).map((expression, index) => `${expression} AS ${ModelUnits.unitNames(model)[index]}`).join(", ")

/** Units whose rows are not the same on both sides. */
const findDiffering = ({ checked: { model }, connection }: Context) =>
  connection.run(`CREATE OR REPLACE TEMP TABLE ${differingUnits} AS
    SELECT DISTINCT ${unitList(model, "r")} FROM (
      (FROM ${batchRows} EXCEPT ALL FROM ${liveRows}) UNION ALL (FROM ${liveRows} EXCEPT ALL FROM ${batchRows})) AS r`)

const rowsText = (value: unknown) => (JSON.parse(String(value ?? "[]")) ?? []) as ReadonlyArray<ReadonlyArray<string | null>>

const samples = Effect.fnUntraced(function*({ checked: { columns, model }, connection }: Context) {
  const names = ModelUnits.unitNames(model)
  const same = (alias: string) => names.map((name, index) => `d.${name} IS NOT DISTINCT FROM ${ModelUnits.unitOf(model, alias)[index]}`).join(" AND ")
  const all = columns.map(({ name }) => `r.${quoted(name)}`)
  const found = yield* connection.rows(`SELECT ${json(names)} AS unit,
      (SELECT ${json(all)} FROM ${liveRows} AS r WHERE ${same("r")}) AS live,
      (SELECT ${json(all)} FROM ${batchRows} AS r WHERE ${same("r")}) AS batch
    FROM (SELECT * FROM ${differingUnits} ORDER BY ALL LIMIT ${samplesMax}) AS d GROUP BY ${names.map((name) => `d.${name}`).join(", ")}`)
  const asTime = (unit: ReadonlyArray<string | null>) => [...unit.slice(0, -1).map(String), new Date(Number(unit.at(-1)) / 1000).toISOString()]
  return found.map((row): Difference => ({ unit: asTime(rowsText(row["unit"])[0] ?? []), live: rowsText(row["live"]), batch: rowsText(row["batch"]) }))
})

/** Computes the differing units anew from silver's rows below gold's position, and puts them in the place of what PostgreSQL has. */
const mend = Effect.fnUntraced(function*(context: Context, silver: LakeTables.Loaded, gold: GoldProgress.GoldProgress) {
  const { checked: { columns, model }, connection, sql } = context
  const below = Array.from(gold.progress, ([key, { position, start }]) => ({ ...Position.parseKey(key), start, end: position }))
  const all = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  const own = ModelUnits.ownColumns(model).map(quoted)
  const isOfUnits = own.length === 0 ? "" : ` AND (${own.join(", ")}) IN (SELECT (${own.join(", ")}) FROM ${differingUnits})`
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS
    SELECT * FROM (${sourceSql(`(SELECT * FROM ${all} WHERE ${SnapshotSource.inRanges(below)})`)}) WHERE true${isOfUnits}`)
  const isDiffering = ModelUnits.isTouched(model, "r").replaceAll(ModelUnits.unitsTable, differingUnits)
  const joined = yield* readLive(context, differingUnits)
  yield* sql.unsafe(`DELETE FROM public.${quoted(tableName(model))} AS g USING compared_unit AS u WHERE ${joined}`)
  const plain = yield* plainColumns(sql, model, columns)
  const texts = yield* RowsBetween.texts(connection, plain, `(SELECT * FROM (${boundSql(model)}) AS r WHERE ${isDiffering})`)
  for (const text of texts) {
    yield* sql.unsafe(
      `INSERT INTO public.${quoted(tableName(model))} (${plain.map(({ name }) => quoted(name)).join(", ")}) ${RowsBetween.selectFromText(plain)}`,
      [text]
    )
  }
})

/** Columns that PostgreSQL does not generate itself. */
const plainColumns = Effect.fnUntraced(function*(sql: PgClient.PgClient, model: ModelTable.CheckedModel["model"], columns: ModelTable.CheckedModel["columns"]) {
  const generated = yield* sql<{ readonly name: string }>`SELECT column_name AS name FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = ${tableName(model)} AND is_generated = 'ALWAYS'`
  return columns.filter(({ name }) => !generated.some((one) => one.name === name))
})

/**
 * Silver in the state that gold counts in. One from which rows were removed since, or that was rewound, would make differences of what gold is to follow
 * by itself, and following would not find them any more.
 */
const loadAsGoldKnowsIt = Effect.fnUntraced(function*(model: string, gold: GoldProgress.GoldProgress) {
  const epochOf = Effect.flatMap(Catalog, (catalog) => catalog.epoch(LakeTables.identifier(telemetryClean)))
  const silver = yield* LakeTables.load(telemetryClean)
  const isSame = silver.removals.id === gold.silverRemoval && (yield* epochOf) === gold.silverEpoch &&
    Position.reached(Progress.position(silver.progress), Progress.position(gold.progress))
  return isSame ? silver : yield* new GoldBehind({ model, reason: "silver was rewound, or rows were removed from it, and live gold has not followed" })
})

const SourceText = Schema.parseJson(ModelTable.Source)

const checkComparable = Effect.fnUntraced(function*(model: string, gold: GoldProgress.GoldProgress, source: ModelTable.Source) {
  const behind = (reason: string) => new GoldBehind({ model, reason })
  if (gold.silverEpoch !== source.silverEpoch || gold.silverRemoval !== source.silverRemoval) {
    return yield* behind("silver was rewound, or rows were removed from it, and not both have followed")
  }
  if (!Position.reached(Progress.position(gold.progress), source.position)) return yield* behind("live gold has not read as far as the batch")
})

/** Compares what has changed since the last comparison; all of it where there was none in this state of silver. */
export const compare = Effect.fn("GoldCompare.compare")(function*(checked: ModelTable.CheckedModel) {
  const { columns, model } = checked
  const sql = yield* PgClient.PgClient
  const connection = yield* (yield* QueryEngine).connect
  const context: Context = { sql, connection, checked }
  const table = yield* ModelTable.ensure(checked)
  const source = ModelTable.sourceOf(table.metadata)
  if (source === undefined) return yield* new GoldBehind({ model: model.name, reason: `gold.${model.name} was never built` })
  // Before the lock: only what needs it is done under it.
  yield* checkComparable(model.name, yield* GoldProgress.read(sql), source)
  const early = yield* LakeTables.load(telemetryClean)
  yield* ModelUnits.begin(connection, model)
  const [state] = yield* sql<{ readonly compared: string | null }>`
    SELECT compared FROM lake.gold_model_state WHERE name = ${model.name} AND table_uuid = ${table.metadata.tableUuid}`
  const compared = state?.compared === null || state === undefined ? undefined : Either.getOrUndefined(Schema.decodeEither(SourceText)(state.compared))
  const isSameState = compared !== undefined && compared.model === source.model && compared.silverEpoch === source.silverEpoch &&
    compared.silverRemoval === source.silverRemoval && Position.reached(source.position, compared.position)
  yield* isSameState
    ? addBetween(context, early, compared.position, source.position)
    : Effect.scoped(Effect.gen(function*() {
      const { files } = yield* Scan.plan(table.metadata)
      yield* ModelUnits.addRowsOf(connection, model, yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, files))
      yield* addLive(context)
    }))
  return yield* transaction(Effect.gen(function*() {
    const gold = yield* GoldProgress.lock(sql)
    yield* checkComparable(model.name, gold, source)
    const silver = yield* loadAsGoldKnowsIt(model.name, gold)
    const count = () => Effect.map(connection.rows(`SELECT count(*) AS n FROM ${ModelUnits.unitsTable}`), ([row]) => Number(row?.["n"] ?? 0))
    const before = yield* count()
    yield* dropTouched(context, silver, source.position, Progress.position(gold.progress))
    const units = yield* count()
    const shape = columns.map(({ name, type }) => `${quoted(name)} ${RowsBetween.engineType(type)}`).join(", ")
    yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${batchRows} (${shape})`)
    for (const day of yield* ModelUnits.days(connection)) yield* readBatch(context, table, day)
    yield* readLive(context, ModelUnits.unitsTable)
    yield* findDiffering(context)
    const [found] = yield* connection.rows(`SELECT count(*) AS n FROM ${differingUnits}`)
    const differing = Number(found?.["n"] ?? 0)
    const shown = differing === 0 ? [] : yield* samples(context)
    if (differing > 0) yield* mend(context, silver, gold)
    yield* sql`INSERT INTO lake.gold_model_state (name, table_uuid, compared)
      VALUES (${model.name}, ${table.metadata.tableUuid}, ${Schema.encodeSync(SourceText)(source)})
      ON CONFLICT (name) DO UPDATE SET table_uuid = excluded.table_uuid, compared = excluded.compared`
    return { units, waiting: before - units, differing, samples: shown } satisfies Compared
  }))
}, Effect.scoped)

const addBetween = Effect.fnUntraced(function*(
  { checked: { model }, connection }: Context,
  silver: LakeTables.Loaded,
  from: Position.Position,
  to: Position.Position
) {
  const ranges = between(from, silver, to)
  if (ranges.length === 0) return
  yield* ModelUnits.addOf(connection, model, yield* SnapshotSource.range(telemetryClean, silver.metadata, from, ranges))
}, Effect.scoped)

/** Units that only PostgreSQL has: they must be found too. */
const addLive = Effect.fnUntraced(function*({ checked: { columns, model }, connection, sql }: Context) {
  const names = columns.map(({ name }) => quoted(name)).join(", ")
  yield* RowsBetween.fetch(sql, connection, columns, `SELECT ${names} FROM public.${quoted(tableName(model))}`, liveRows)
  yield* connection.run(`INSERT INTO ${ModelUnits.unitsTable} SELECT DISTINCT ${unitList(model, "r")} FROM ${liveRows} AS r EXCEPT FROM ${ModelUnits.unitsTable}`)
})

/** Takes out the units that rows of silver in [from, to) touch. */
const dropTouched = Effect.fnUntraced(function*(context: Context, silver: LakeTables.Loaded, from: Position.Position, to: Position.Position) {
  const { checked: { model }, connection } = context
  if (between(from, silver, to).length === 0) return
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE gold_compared_unit AS FROM ${ModelUnits.unitsTable}`)
  yield* ModelUnits.begin(connection, model)
  yield* addBetween(context, silver, from, to)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE gold_moving_unit AS FROM ${ModelUnits.unitsTable}`)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${ModelUnits.unitsTable} AS FROM gold_compared_unit EXCEPT FROM gold_moving_unit`)
})
