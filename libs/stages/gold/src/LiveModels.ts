/**
 * Which models are kept live. `lake.gold_model_state.live` has the hash of the model whose rows a table in PostgreSQL has, up to gold's position: only that
 * very model's rows are moved on. It is set and taken away under the lock of gold's progress, so no commit is in between.
 */
import type { PgClient } from "@effect/sql-pg"
import { Clock, Effect, Either, Schema } from "effect"
import type { ModelInvalid } from "@voltlake/domain/GoldModel"
import { transaction } from "@voltlake/postgres/Transaction"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as GoldModels from "./GoldModels.ts"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldTable from "./GoldTable.ts"
import { keptBefore } from "./GoldTables.ts"
import * as ModelMerge from "./ModelMerge.ts"
import { type CheckedModel, modelHash } from "./ModelTable.ts"
import { columnOf, isNode, lower } from "./SqlTree.ts"

export interface LiveModel {
  readonly checked: CheckedModel
  readonly hash: string
  readonly plan: ModelMerge.LivePlan
  /** Names that its SQL says, columns of silver among them; undefined: it may need any column. */
  readonly names: ReadonlySet<string> | undefined
}

/** The hash of the model that is live under a name. */
export type States = ReadonlyMap<string, string>

/** One whose table somebody dropped is not live. */
export const states = (sql: PgClient.PgClient) =>
  Effect.map(
    sql<{ readonly name: string; readonly live: string }>`SELECT name, live FROM lake.gold_model_state
      WHERE live IS NOT NULL AND to_regclass('public.gold_' || name) IS NOT NULL ORDER BY name`,
    (rows): States => new Map(rows.map(({ live, name }) => [name, live]))
  )

/** Another process has begun or ended to keep a model live while this one read. Nothing was merged. */
export class LiveModelsChanged extends Schema.TaggedError<LiveModelsChanged>()("LiveModelsChanged", {}) {
  override get message() {
    return "which models are kept live has changed while this batch was read; it is read again"
  }
}

/** Under the lock: fails where others are live than those that were read. */
export const confirm = Effect.fn("LiveModels.confirm")(function*(sql: PgClient.PgClient, read: States) {
  const now = yield* states(sql)
  const isSame = now.size === read.size && [...now].every(([name, hash]) => read.get(name) === hash)
  if (!isSame) return yield* new LiveModelsChanged()
})

/** With the lock: from here on the table has the model's rows, all of those up to gold's position. */
export const begin = (sql: PgClient.PgClient, { model }: CheckedModel) =>
  Effect.asVoid(sql`INSERT INTO lake.gold_model_state (name, live) VALUES (${model.name}, ${modelHash(model)})
    ON CONFLICT (name) DO UPDATE SET live = excluded.live, published_sequence = NULL`)

/** Takes the lock. What was kept live before there were hashes is this model's. */
export const adopt = Effect.fn("LiveModels.adopt")(function*(sql: PgClient.PgClient, { checked, hash }: LiveModel) {
  yield* transaction(Effect.zipRight(
    GoldProgress.lock(sql),
    sql`UPDATE lake.gold_model_state SET live = ${hash} WHERE name = ${checked.model.name} AND live = ${keptBefore}`
  ))
})

/** Takes the lock. The table keeps the rows that it has, and nobody moves them on until they are published anew. */
export const end = Effect.fn("LiveModels.end")(function*(sql: PgClient.PgClient, name: string) {
  yield* transaction(Effect.zipRight(
    GoldProgress.lock(sql),
    sql`UPDATE lake.gold_model_state SET live = NULL, published_sequence = NULL WHERE name = ${name} AND live IS NOT NULL`
  ))
})

/** Says that a model is not kept live any more; in the caller's transaction. */
export const reportAside = Effect.fnUntraced(function*(name: string, said: string) {
  // Values in it may have what PostgreSQL's texts do not hold.
  const reason = said.replaceAll("\0", "\ufffd")
  yield* Effect.logError("a live model cannot be kept on; the others go on").pipe(Effect.annotateLogs({ model: name, reason }))
  yield* OpsEvents.add({
    severity: "ERROR",
    kind: "gold_model_set_aside",
    subject: `gold_${name}`,
    message: `gold_${name} is not kept live any more: ${reason} The next run of silver_to_gold_batch fills it anew.`,
    facts: { model: name, reason }
  })
})

/** Ends a model that cannot be kept on, and says so: the others go on, and the next run of the batch begins it anew. */
export const setAside = Effect.fn("LiveModels.setAside")(function*(sql: PgClient.PgClient, name: string, reason: string) {
  yield* transaction(Effect.zipRight(end(sql, name), reportAside(name, reason)))
})

/** The last names of columns in a statement; undefined where it asks for all of some part. */
const namesIn = (tree: unknown): ReadonlySet<string> | undefined => {
  const found = new Set<string>()
  const walk = (value: unknown): boolean => {
    if (Array.isArray(value)) return value.every(walk)
    if (!isNode(value)) return true
    if (value["class"] === "STAR" || value["ref_type"] === "NATURAL") return false
    if (Array.isArray(value["using_columns"])) for (const name of value["using_columns"]) found.add(lower(name))
    const column = columnOf(value)
    if (column !== undefined) found.add(column)
    return Object.values(value).every(walk)
  }
  return walk(tree) ? found : undefined
}

/** One that is wrong is looked at again after a while: the engine may have had no memory for it. */
const askedAgainMs = 60_000

/** Reads all models of this refresh again and again: what has been checked once is remembered, and what is wrong is said once. */
export const reader = Effect.gen(function*() {
  const engine = yield* QueryEngine
  const known = new Map<string, { readonly found: Either.Either<LiveModel, ModelInvalid>; readonly untilMs: number }>()
  const said = new Set<string>()
  const prepare = (model: CheckedModel["model"]) =>
    Effect.gen(function*() {
      const checked = yield* GoldModels.check(model)
      const connection = yield* engine.connect
      const plan = yield* ModelMerge.plan(connection, checked)
      const names = namesIn((yield* connection.readStatement(model.sql)).tree)
      yield* Effect.logDebug("keeps a model live").pipe(Effect.annotateLogs({ model: model.name, how: ModelMerge.described(plan, model) }))
      return Either.right({ checked, plan, names, hash: modelHash(model) } satisfies LiveModel)
    }).pipe(Effect.scoped, Effect.catchTag("ModelInvalid", (error) => Effect.succeed(Either.left(error))))
  const complain = (name: string, reason: string) => {
    const text = `${name}: ${reason}`
    if (said.has(text)) return Effect.void
    said.add(text)
    return Effect.logError("a gold model cannot be used; the others go on").pipe(Effect.annotateLogs({ model: name, reason }))
  }
  return Effect.gen(function*() {
    const found: Array<LiveModel> = []
    const nowMs = yield* Clock.currentTimeMillis
    for (const { model, name } of yield* GoldModels.all) {
      if (Either.isLeft(model)) {
        yield* complain(name, model.left.message)
        continue
      }
      if (model.right.refresh !== "live") continue
      const text = JSON.stringify([modelHash(model.right), model.right.tests, [...model.right.docs], model.right.description])
      const last = known.get(text)
      const prepared = last !== undefined && nowMs < last.untilMs ? last.found : yield* prepare(model.right)
      known.set(text, { found: prepared, untilMs: Either.isRight(prepared) ? Number.POSITIVE_INFINITY : nowMs + askedAgainMs })
      if (Either.isRight(prepared)) found.push(prepared.right)
      else yield* complain(name, prepared.left.message)
    }
    return found
  })
})

/** Of a gold that has read nothing yet: these models are live with no rows. */
export const beginAll = Effect.fn("LiveModels.beginAll")(function*(sql: PgClient.PgClient, models: ReadonlyArray<LiveModel>) {
  yield* transaction(Effect.gen(function*() {
    const { progress } = yield* GoldProgress.lock(sql)
    if (progress.size > 0) return
    for (const { checked } of models) {
      yield* GoldTable.ensure(sql, checked)
      yield* sql.unsafe(`TRUNCATE ${GoldTable.qualified(checked.model)}`)
      yield* begin(sql, checked)
    }
  }))
})
