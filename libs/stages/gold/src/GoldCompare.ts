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
import type { GoldModel } from "@voltlake/domain/GoldModel"
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
import * as GoldTable from "./GoldTable.ts"
import * as LiveModels from "./LiveModels.ts"
import * as LiveRows from "./LiveRows.ts"
import type { ModelColumn } from "./ModelCheck.ts"
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

const none: Compared = { units: 0, waiting: 0, differing: 0, samples: [] }

/** Told of a day's differences in the transaction that mends them. */
export type Report<E, R> = (compared: Compared) => Effect.Effect<void, E, R>

const samplesMax = 5
const batchRows = "gold_compare_batch"
const liveRows = "gold_compare_live"
const differingUnits = "gold_differing_unit"
/** Those that are to be compared; `ModelUnits.unitsTable` holds those that are further on in PostgreSQL. */
const comparedUnits = "gold_compared_unit"

interface Context {
  readonly sql: PgClient.PgClient
  readonly connection: Connection
  readonly checked: ModelTable.CheckedModel
  readonly table: LakeTable
  readonly source: ModelTable.Source
  /** Whether all units are compared, and not only those of {@link comparedUnits}. */
  readonly isFull: boolean
}

type LakeTable = Effect.Effect.Success<ReturnType<typeof ModelTable.ensure>>

/** Ranges of silver's rows from one position to another. */
const between = (from: Position.Position, silver: LakeTables.Loaded, to: Position.Position) =>
  Array.from(to, ([key, end]) => ({ ...Position.parseKey(key), start: from.get(key) ?? silver.progress.get(key)?.start ?? 0n, end }))
    .filter((range) => range.end > range.start)

/** Units that rows of silver in [from, to) touch, in `ModelUnits.unitsTable`. */
export const touchedBetween = Effect.fnUntraced(function*(
  connection: Connection,
  model: GoldModel,
  silver: LakeTables.Loaded,
  from: Position.Position,
  to: Position.Position
) {
  yield* ModelUnits.begin(connection, model)
  const ranges = between(from, silver, to)
  if (ranges.length === 0) return
  yield* ModelUnits.addOf(connection, model, yield* SnapshotSource.range(telemetryClean, silver.metadata, from, ranges))
}, Effect.scoped)

const among = (model: GoldModel, units: string, alias: string) => ModelUnits.isTouched(model, alias).replaceAll(ModelUnits.unitsTable, units)

/** Of a day's rows those that are compared, but for units that are further on in PostgreSQL. */
const wanted = ({ checked: { model }, isFull }: Context) =>
  `NOT ${ModelUnits.isTouched(model, "r")}${isFull ? "" : ` AND ${among(model, comparedUnits, "r")}`}`

const names = (columns: ReadonlyArray<ModelColumn>, alias: string) => columns.map(({ name }) => `${alias}.${quoted(name)}`).join(", ")

const readBatch = Effect.fnUntraced(function*(context: Context, dayUs: bigint) {
  const { checked: { columns, model }, connection, table } = context
  const within = Expression.and(Expression.test(model.time, ">=", dayUs), Expression.test(model.time, "<", dayUs + ModelUnits.dayLength))
  const { files } = yield* Scan.plan(table.metadata, { filter: within })
  const relation = yield* ReadSql.relation(currentSchema(table.metadata), table.metadata, files)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${batchRows} AS SELECT ${names(columns, "r")} FROM ${relation} AS r WHERE ${wanted(context)}`)
}, Effect.scoped)

const json = (columns: ReadonlyArray<string>) => `json_group_array(json_array(${columns.map((name) => `${name}::VARCHAR`).join(", ")}))::VARCHAR`

const readLive = Effect.fnUntraced(function*(context: Context, dayUs: bigint) {
  const { checked, connection, isFull, sql } = context
  const { columns, model } = checked
  if (isFull) {
    const [from, end] = [RowsBetween.pgInstant(dayUs), RowsBetween.pgInstant(dayUs + ModelUnits.dayLength)]
    const ofDay = `g.${quoted(model.time)} >= ${from} AND g.${quoted(model.time)} < ${end}`
    yield* RowsBetween.fetch(sql, connection, columns, `SELECT ${names(columns, "g")} FROM ${GoldTable.qualified(model)} AS g WHERE ${ofDay}`, liveRows)
  } else {
    const ofDay = `(SELECT * FROM ${comparedUnits} WHERE bucket_us >= ${dayUs} AND bucket_us < ${dayUs + ModelUnits.dayLength})`
    yield* GoldTable.fetchByUnit({ sql, connection }, checked, yield* GoldTable.unitSlices(connection, checked, ofDay), liveRows)
  }
  yield* connection.run(`DELETE FROM ${liveRows} AS r WHERE NOT (${wanted(context)})`)
})

const unitList = (model: GoldModel, alias: string) =>
  ModelUnits.unitOf(model, alias).map((expression, index) => `${expression} AS ${ModelUnits.unitNames(model)[index]}`).join(", ")

/** Units whose rows are not the same on both sides. Answers how many there are, and how many were compared. */
const findDiffering = Effect.fnUntraced(function*({ checked: { model }, connection }: Context) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${differingUnits} AS
    SELECT DISTINCT ${unitList(model, "r")} FROM (
      (FROM ${batchRows} EXCEPT ALL FROM ${liveRows}) UNION ALL (FROM ${liveRows} EXCEPT ALL FROM ${batchRows})) AS r`)
  const [counts] = yield* connection.rows(`SELECT (SELECT count(*) FROM ${differingUnits}) AS differing,
    (SELECT count(*) FROM (SELECT ${unitList(model, "r")} FROM ${batchRows} AS r UNION SELECT ${unitList(model, "r")} FROM ${liveRows} AS r)) AS units`)
  return { differing: Number(counts?.["differing"] ?? 0), units: Number(counts?.["units"] ?? 0) }
})

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

/** Computes the differing units of a day anew from silver's rows below gold's position, and puts them in the place of what PostgreSQL has. */
const mend = Effect.fnUntraced(function*({ checked, connection, sql }: Context, silver: LakeTables.Loaded, gold: GoldProgress.GoldProgress) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${ModelUnits.unitsTable} AS FROM ${differingUnits}`)
  const apply = yield* LiveRows.unitsAnew(connection, checked, { silver, below: Progress.covered(gold.progress) }, gold)
  yield* apply(sql)
  yield* GoldProgress.write(sql, { ...gold, revision: gold.revision + 1n })
})

/**
 * Silver in the state that gold counts in. One from which rows were removed since, or that was rewound, would make differences of what gold is to follow
 * by itself, and following would not find them any more.
 */
export const loadAsGoldKnowsIt = Effect.fnUntraced(function*(model: string, gold: GoldProgress.GoldProgress) {
  const epochOf = Effect.flatMap(Catalog, (catalog) => catalog.epoch(LakeTables.identifier(telemetryClean)))
  const silver = yield* LakeTables.load(telemetryClean)
  const isSame = silver.removals.id === gold.silverRemoval && (yield* epochOf) === gold.silverEpoch &&
    Position.reached(Progress.position(silver.progress), Progress.position(gold.progress))
  return isSame ? silver : yield* new GoldBehind({ model, reason: "silver was rewound, or rows were removed from it, and live gold has not followed" })
})

const SourceText = Schema.parseJson(ModelTable.Source)

export const checkComparable = Effect.fnUntraced(function*(model: string, gold: GoldProgress.GoldProgress, source: ModelTable.Source) {
  const behind = (reason: string) => new GoldBehind({ model, reason })
  if (gold.silverEpoch !== source.silverEpoch || gold.silverRemoval !== source.silverRemoval) {
    return yield* behind("silver was rewound, or rows were removed from it, and not both have followed")
  }
  if (!Position.reached(Progress.position(gold.progress), source.position)) return yield* behind("live gold has not read as far as the batch")
})

const checkLive = Effect.fnUntraced(function*({ checked: { model }, sql }: Pick<Context, "checked" | "sql">) {
  const isLive = (yield* LiveModels.states(sql)).get(model.name) === ModelTable.modelHash(model)
  if (!isLive) return yield* new GoldBehind({ model: model.name, reason: `gold_${model.name} is not kept live` })
})

/** Compares one day, in a transaction of its own: live gold waits for no more than that. */
const compareDay = Effect.fn("GoldCompare.compareDay")(function*<E, R>(context: Context, day: number, report: Report<E, R>) {
  const { checked: { model }, connection, source, sql } = context
  const dayUs = BigInt(day) * ModelUnits.dayLength
  return yield* transaction(Effect.gen(function*() {
    const gold = yield* GoldProgress.lock(sql)
    yield* checkComparable(model.name, gold, source)
    yield* checkLive(context)
    const silver = yield* loadAsGoldKnowsIt(model.name, gold)
    yield* touchedBetween(connection, model, silver, source.position, Progress.position(gold.progress))
    if (model.grain === "minute" && gold.minutesFrom !== undefined && day < gold.minutesFrom) return none
    const ofDay = `bucket_us >= ${dayUs} AND bucket_us < ${dayUs + ModelUnits.dayLength}`
    const known = context.isFull ? "" : `AND EXISTS (SELECT 1 FROM ${comparedUnits} AS c WHERE ${
      ModelUnits.unitNames(model).map((name) => `c.${name} IS NOT DISTINCT FROM m.${name}`).join(" AND ")
    })`
    const [moving] = yield* connection.rows(`SELECT count(*) AS n FROM ${ModelUnits.unitsTable} AS m WHERE ${ofDay} ${known}`)
    yield* readBatch(context, dayUs)
    yield* readLive(context, dayUs)
    const { differing, units } = yield* findDiffering(context)
    const shown = differing === 0 ? [] : yield* samples(context)
    const compared: Compared = { units, waiting: Number(moving?.["n"] ?? 0), differing, samples: shown }
    if (differing > 0) {
      yield* mend(context, silver, gold)
      yield* report(compared)
    }
    return compared
  }))
})

/** Days of the touched units, or all that either side has. */
const daysOf = Effect.fnUntraced(function*({ checked: { model }, connection, isFull, sql, table }: Context) {
  if (!isFull) return (yield* ModelUnits.days(connection)).map(({ day }) => day)
  const { files } = yield* Scan.plan(table.metadata)
  const live = yield* sql.unsafe<{ readonly day: number }>(
    `SELECT DISTINCT floor(extract(epoch FROM ${quoted(model.time)}) / 86400)::int AS day FROM ${GoldTable.qualified(model)}`
  )
  return [...new Set([...files.map(({ file }) => Number(file.partition[0])), ...live.map(({ day }) => day)])].sort((a, b) => a - b)
})

/** Whether what was compared before is still so, but for what silver got since; rows of days that are no longer kept are on neither side. */
const goesOnFrom = (compared: ModelTable.Source | undefined, source: ModelTable.Source, { removals }: LakeTables.Loaded): compared is ModelTable.Source =>
  compared !== undefined && compared.model === source.model && compared.silverEpoch === source.silverEpoch &&
  Position.reached(source.position, compared.position) &&
  (compared.silverRemoval === source.silverRemoval || (removals.scope.type === "before" && removals.previous === compared.silverRemoval))

const sum = (a: Compared, b: Compared): Compared => ({
  units: a.units + b.units,
  waiting: a.waiting + b.waiting,
  differing: a.differing + b.differing,
  samples: [...a.samples, ...b.samples].slice(0, samplesMax)
})

/** Compares what has changed since the last comparison; all of it where there was none in this state of silver. Memory is that of a day. */
export const compare = Effect.fn("GoldCompare.compare")(function*<E = never, R = never>(
  checked: ModelTable.CheckedModel,
  report: Report<E, R> = () => Effect.void
) {
  const { model } = checked
  const sql = yield* PgClient.PgClient
  const connection = yield* (yield* QueryEngine).connect
  const table = yield* ModelTable.ensure(checked)
  const source = ModelTable.sourceOf(table.metadata)
  if (source === undefined) return yield* new GoldBehind({ model: model.name, reason: `gold.${model.name} was never built` })
  const gold = yield* GoldProgress.read(sql)
  yield* checkComparable(model.name, gold, source)
  yield* checkLive({ sql, checked })
  const silver = yield* loadAsGoldKnowsIt(model.name, gold)
  const [state] = yield* sql<{ readonly compared: string | null }>`
    SELECT compared FROM lake.gold_model_state WHERE name = ${model.name} AND table_uuid = ${table.metadata.tableUuid}`
  const compared = state?.compared === null || state === undefined ? undefined : Either.getOrUndefined(Schema.decodeEither(SourceText)(state.compared))
  const goesOn = goesOnFrom(compared, source, silver)
  yield* goesOn ? touchedBetween(connection, model, silver, compared.position, source.position) : ModelUnits.begin(connection, model)
  const context: Context = { sql, connection, checked, table, source, isFull: !goesOn }
  const days = yield* daysOf(context)
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${comparedUnits} AS FROM ${ModelUnits.unitsTable}`)
  let result = none
  for (const day of days) result = sum(result, yield* compareDay(context, day, report))
  yield* sql`INSERT INTO lake.gold_model_state (name, table_uuid, compared)
    VALUES (${model.name}, ${table.metadata.tableUuid}, ${Schema.encodeSync(SourceText)(source)})
    ON CONFLICT (name) DO UPDATE SET table_uuid = excluded.table_uuid, compared = excluded.compared`
  return result
}, Effect.scoped)
