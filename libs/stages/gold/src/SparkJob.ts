/** What Spark is asked to do for a run, as statements of its SQL. Pure. The script that runs them is `spark/gold_batch.py`. */
import { telemetryClean } from "@voltlake/domain/Tables"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { type Run, stretches, type Wanted } from "./BatchWork.ts"
import { type ColumnType, rowsName, sourceName } from "./ModelCheck.ts"
import * as ModelUnits from "./ModelUnits.ts"
import * as RowCheck from "./RowCheck.ts"
import { identifier } from "./SparkExpression.ts"
import type { Staging } from "./SparkStaging.ts"

/** The lake's name in Spark. */
export const catalogName = "voltlake"

export interface Job {
  readonly name: string
  readonly catalog: { readonly name: string; readonly uri: string }
  /** The rows that the model reads, and the view that it knows them by. */
  readonly source: { readonly view: string; readonly query: string }
  readonly rows: { readonly query: string; readonly table: string; readonly view: string; readonly path: string }
  readonly counts: string
  readonly repeated: string
}

const sparkTypes: Readonly<Record<ColumnType, string>> = {
  text: "STRING",
  integer: "INT",
  bigint: "BIGINT",
  decimal: "DECIMAL(38, 6)",
  double: "DOUBLE",
  timestamp: "TIMESTAMP_NTZ",
  boolean: "BOOLEAN"
}

const silverTypes: Readonly<Record<string, string>> = { int: "INT", long: "BIGINT", timestamptz: "TIMESTAMP", double: "DOUBLE", string: "STRING" }

const nameOf = (table: TableIdentifier): string => [catalogName, table.namespace, table.name].map(identifier).join(".")

const within = (time: string, spans: ReadonlyArray<readonly [from: bigint, end: bigint]>, of: (us: bigint) => string): string =>
  spans.length === 0 ? "false" : spans.map(([from, end]) => `(${time} >= ${of(from)} AND ${time} < ${of(end)})`).join(" OR ")

const instant = (us: bigint) => `timestamp_micros(${us})`
const localTime = (us: bigint) => `CAST(${instant(us)} AS TIMESTAMP_NTZ)`

/** The spans of the days, each with the time before it that rows of silver matter for; of those that meet, one. */
const sourceSpans = (spans: ReadonlyArray<readonly [bigint, bigint]>, lookback: bigint): ReadonlyArray<readonly [bigint, bigint]> => {
  const found: Array<[bigint, bigint]> = []
  for (const [from, end] of spans) {
    const last = found.at(-1)
    if (last !== undefined && last[1] >= from - lookback) last[1] = end
    else found.push([from - lookback, end])
  }
  return found
}

/** Silver's rows as models see them (`ModelCheck.sourceSql`). Columns are found by their ids, whatever others named them. */
const sourceQuery = ({ silver: { metadata } }: Run, silver: TableIdentifier, spans: ReadonlyArray<readonly [bigint, bigint]> | undefined): string => {
  const held = (name: string) => {
    const column = telemetryClean.columns.find((one) => one.name === name)!
    const field = currentSchema(metadata).fields.find(({ id }) => id === column.id)
    return field === undefined ? `CAST(NULL AS ${silverTypes[String(column.type)]})` : identifier(field.name)
  }
  const as = (name: string, expression = held(name)) => `${expression} AS ${identifier(name)}`
  const items = [
    as("event_id"),
    as("vehicle_id"),
    as("event_ts", `CAST(${held("event_ts")} AS TIMESTAMP_NTZ)`),
    as("event_us", `unix_micros(${held("event_ts")})`),
    as("ingest_ts", `CAST(${held("ingest_ts")} AS TIMESTAMP_NTZ)`),
    as("source", `replace(${held("source")}, char(0), '')`),
    ...signals.map(({ name }) => as(name)),
    as("topic"),
    as("partition"),
    as("offset")
  ]
  return `SELECT ${items.join(", ")} FROM ${nameOf(silver)} WHERE ${spans === undefined ? "true" : within(held("event_ts"), spans, instant)}`
}

/** `modelSql` and `tests` are as Spark is told them. */
export const make = (
  run: Run,
  wanted: Wanted,
  staging: Staging,
  told: { readonly modelSql: string; readonly tests: ReadonlyArray<string> },
  uri: string
): Job => {
  const { columns, model } = run.checked
  const length = ModelUnits.dayLength
  const spans = stretches(wanted.days.map(({ day }) => day)).map(([first, end]) => [BigInt(first) * length, BigInt(end) * length] as const)
  const time = identifier(model.time)
  const items = columns.map(({ name, type }) => `CAST(${identifier(name)} AS ${sparkTypes[type]}) AS ${identifier(name)}`)
  const key = model.key.map(identifier)
  const keyTexts = key.map((name) => `CAST(${name} AS STRING)`).join(", ")
  const groups = `GROUP BY ${key.join(", ")} HAVING count(*) > 1`
  const conditions = [
    key.map((name) => `${name} IS NULL`).join(" OR "),
    `CAST(date_trunc('${model.grain}', ${time}) AS TIMESTAMP_NTZ) <> ${time}`,
    ...told.tests.map((test) => `NOT coalesce(${test}, false)`)
  ]
  return {
    name: `voltlake gold.${model.name}`,
    catalog: { name: catalogName, uri },
    source: {
      view: sourceName,
      query: sourceQuery(run, staging.silver, wanted.isFull ? undefined : sourceSpans(spans, model.lookback))
    },
    rows: {
      query: `SELECT ${items.join(", ")} FROM (${told.modelSql}) AS computed WHERE ${time} IS NULL OR ${within(time, spans, localTime)}`,
      table: nameOf(staging.rows),
      view: rowsName,
      path: `v1/namespaces/${staging.rows.namespace}/tables/${staging.rows.name}`
    },
    counts: RowCheck.countsSql(conditions, identifier(rowsName)),
    repeated: `SELECT ${keyTexts}, count(*) FROM ${identifier(rowsName)} ${groups} LIMIT 1`
  }
}
