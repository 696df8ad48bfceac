/** Whether computed rows of a model keep what its header promises. */
import { Effect, Schema } from "effect"
import { grainLength } from "@voltlake/domain/GoldModel"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import { name as quoted } from "@voltlake/query-engine/SqlText"
import type { CheckedModel } from "./ModelTable.ts"
import * as ModelUnits from "./ModelUnits.ts"

/** The model's rows are not as it says itself. Nothing was committed, and the table is as it was. */
export class ModelBroken extends Schema.TaggedError<ModelBroken>()("ModelBroken", { model: Schema.String, reason: Schema.String }) {
  override get message() {
    return `gold model ${this.model}: ${this.reason}. Its table stays as it was.`
  }
}

/** What was found of some rows. */
export interface Found {
  readonly rows: bigint
  /** Without a value in a column of the key. */
  readonly nulls: bigint
  /** Whose time is not the beginning of a grain. */
  readonly uneven: bigint
  /** That fail each of the tests. */
  readonly failed: ReadonlyArray<bigint>
  /** Values of a key that several rows have, and how many have it. */
  readonly repeated: { readonly values: ReadonlyArray<unknown>; readonly rows: unknown } | undefined
}

/** The promise that rows do not keep, if there is one. `which` names the rows. */
export const brokenBy = ({ failed, nulls, repeated, uneven }: Found, { model }: CheckedModel, which: string): ModelBroken | undefined => {
  const broken = (reason: string) => new ModelBroken({ model: model.name, reason: `${reason} (${which})` })
  const key = model.key.join(", ")
  if (nulls !== 0n) return broken(`${nulls} rows have no value in a column of the key (${key})`)
  if (uneven !== 0n) return broken(`${uneven} rows have a ${model.time} that is not the beginning of a ${model.grain}`)
  if (repeated !== undefined) return broken(`its key is not unique: ${repeated.rows} rows have (${key}) = (${repeated.values.join(", ")})`)
  const test = failed.findIndex((rows) => rows !== 0n)
  return test === -1 ? undefined : broken(`${failed[test]} rows fail its test ${model.tests[test]}`)
}

/** Counts of a query that has them as n, c0 and so on: all rows, then those that {@link Found} names, in its order. */
export const countsOf = (row: Readonly<Record<string, unknown>> | undefined, tests: number): Omit<Found, "repeated"> => {
  const count = (name: string) => BigInt((row?.[name] ?? 0) as bigint | number | string)
  return { rows: count("n"), nulls: count("c0"), uneven: count("c1"), failed: Array.from({ length: tests }, (_, index) => count(`c${index + 2}`)) }
}

/** The query that {@link countsOf} reads. */
export const countsSql = (conditions: ReadonlyArray<string>, rows: string): string =>
  `SELECT count(*) AS n, ${conditions.map((one, index) => `count(CASE WHEN ${one} THEN 1 END) AS c${index}`).join(", ")} FROM ${rows}`

const keyOf = ({ model }: CheckedModel) => model.key.map(quoted).join(", ")

/** The first key that several of the rows have. */
const repeatedIn = Effect.fnUntraced(function*(connection: Connection, checked: CheckedModel, rows: string) {
  const key = keyOf(checked)
  const { rows: [found] } = yield* connection.table(`SELECT ${key}, count(*) AS n FROM ${rows} GROUP BY ${key} HAVING count(*) > 1 LIMIT 1`)
  return found === undefined ? undefined : { values: found.slice(0, -1), rows: found.at(-1) }
})

/** Checks the rows in a relation, of which no two have the same key: `which` names them in errors. Answers how many they are. */
export const checkGrouped = Effect.fn("RowCheck.checkGrouped")(function*(
  connection: Connection,
  checked: CheckedModel,
  rows: string,
  which: string,
  repeated: Found["repeated"] = undefined
) {
  const { model } = checked
  const time = `epoch_us(${quoted(model.time)})`
  const conditions = [
    model.key.map((name) => `${quoted(name)} IS NULL`).join(" OR "),
    `${time} <> ${ModelUnits.bucket(time, grainLength(model.grain))}`,
    ...model.tests.map((test) => `NOT coalesce(${test}\n, false)`)
  ]
  const [row] = yield* connection.rows(countsSql(conditions, rows))
  const counts = countsOf(row, model.tests.length)
  const broken = brokenBy({ ...counts, repeated }, checked, which)
  return broken === undefined ? counts.rows : yield* broken
})

/** The same of rows in any relation. */
export const check = (connection: Connection, checked: CheckedModel, rows: string, which: string) =>
  Effect.flatMap(repeatedIn(connection, checked, rows), (repeated) => checkGrouped(connection, checked, rows, which, repeated))
