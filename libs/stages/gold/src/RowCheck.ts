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

/** Checks the rows in a relation: `which` names them in errors. Answers how many they are. */
export const check = Effect.fn("RowCheck.check")(function*(connection: Connection, { model }: CheckedModel, rows: string, which: string) {
  const key = model.key.map(quoted).join(", ")
  const broken = (reason: string) => new ModelBroken({ model: model.name, reason: `${reason} (${which})` })
  const time = `epoch_us(${quoted(model.time)})`
  const conditions = [
    model.key.map((name) => `${quoted(name)} IS NULL`).join(" OR "),
    `${time} <> ${ModelUnits.bucket(time, grainLength(model.grain))}`,
    ...model.tests.map((test) => `NOT coalesce(${test}\n, false)`)
  ]
  const [counts] = yield* connection.rows(`SELECT count(*) AS n, ${conditions.map((one, index) => `count(CASE WHEN ${one} THEN 1 END) AS c${index}`).join(", ")} FROM ${rows}`)
  const [nulls, uneven, ...failed] = conditions.map((_, index) => BigInt(counts?.[`c${index}`] as bigint))
  if (nulls !== 0n) return yield* broken(`${nulls} rows have no value in a column of the key (${model.key.join(", ")})`)
  if (uneven !== 0n) return yield* broken(`${uneven} rows have a ${model.time} that is not the beginning of a ${model.grain}`)
  const [repeated] = yield* connection.table(`SELECT ${key}, count(*) AS n FROM ${rows} GROUP BY ${key} HAVING count(*) > 1 LIMIT 1`).pipe(Effect.map((found) => found.rows))
  if (repeated !== undefined) return yield* broken(`its key is not unique: ${repeated.at(-1)} rows have (${model.key.join(", ")}) = (${repeated.slice(0, -1).join(", ")})`)
  for (const [index, test] of model.tests.entries()) if (failed[index] !== 0n) return yield* broken(`${failed[index]} rows fail its test ${test}`)
  return BigInt(counts?.["n"] as bigint)
})
