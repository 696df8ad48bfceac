/** `voltlake models …`: the gold models. */
import { FileSystem } from "@effect/platform"
import { PgClient } from "@effect/sql-pg"
import { Console, Effect, Either } from "effect"
import * as GoldModel from "@voltlake/domain/GoldModel"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as LiveModels from "@voltlake/gold/LiveModels"
import * as ModelMerge from "@voltlake/gold/ModelMerge"
import { type CheckedModel, modelHash } from "@voltlake/gold/ModelTable"
import * as Leadership from "@voltlake/orchestration/Leadership"
import * as RunStore from "@voltlake/orchestration/RunStore"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as Dags from "./Dags.ts"
import * as Lake from "./Lake.ts"
import * as Output from "./Output.ts"

interface Common {
  readonly dataDir: string
  readonly json: boolean
}

/** How the rows get into PostgreSQL. */
const keptBy = Effect.fnUntraced(function*(checked: CheckedModel, live: LiveModels.States) {
  const { model } = checked
  if (model.refresh === "batch") return "published by each run of the batch"
  const plan = yield* ModelMerge.plan(yield* (yield* QueryEngine).connect, checked)
  const state = live.get(model.name) === modelHash(model) ? "live" : "to be live with the next run of the batch"
  return `${state}: ${ModelMerge.described(plan, model)}`
}, Effect.scoped)

export const list = ({ dataDir, json }: Common) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const live = yield* LiveModels.states(yield* PgClient.PgClient)
      const all = yield* Effect.forEach(yield* GoldModels.all, ({ model, name, origin }) =>
        Effect.gen(function*() {
          const known = Either.getOrUndefined(model)
          const kept = yield* Effect.either(Effect.flatMap(Effect.flatMap(model, GoldModels.check), (checked) => keptBy(checked, live)))
          return {
            name,
            origin,
            refresh: known?.refresh ?? null,
            kept: Either.getOrNull(kept),
            grain: known?.grain ?? null,
            key: known?.key.join(", ") ?? null,
            description: known?.description ?? null,
            problem: Either.isLeft(kept) ? kept.left.message : null
          }
        }))
      if (json) return yield* Output.json(all)
      const head = ["name", "origin", "refresh", "kept", "grain", "key", "description", "problem"] as const
      yield* Output.table(head, all.map((row) => head.map((column) => row[column])))
    }))

/** The run that fills it is asked for at once: an orchestrator takes it up, a schedule that is paused or not. */
export const apply = ({ dataDir, file, json }: Common & { readonly file: string }) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const text = yield* (yield* FileSystem.FileSystem).readFileString(file).pipe(
        Effect.mapError(() => new GoldModel.ModelInvalid({ source: file, reason: "the file cannot be read" }))
      )
      const checked = yield* GoldModels.apply(file, text)
      const { columns, model } = checked
      const run = yield* RunStore.create({ dag: Dags.silverToGoldName, kind: "manual", logicalTime: new Date() })
      if (json) return yield* Output.json({ model: model.name, columns: columns.map(({ name, type }) => ({ name, type })), run })
      yield* Console.log(
        `${model.name} is registered, and gold.${model.name} and gold_${model.name} are filled from all of silver by run ${run}: \`voltlake dag logs ${run}\` ` +
          `tells how far it is.${model.refresh === "live" ? " Then each commit of silver moves it." : ""}`
      )
      if ((yield* Leadership.leader) === undefined) yield* Console.log("The run waits for an orchestrator: none runs now, `voltlake start` has one.")
    }))
