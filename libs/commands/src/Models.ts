/** `voltlake models …`: the gold models. */
import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { Console, Effect, Either } from "effect"
import * as GoldModel from "@voltlake/domain/GoldModel"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as Lake from "./Lake.ts"
import * as Output from "./Output.ts"

interface Common {
  readonly dataDir: string
  readonly json: boolean
}

const use = <A, E, R>(dataDir: string, command: Effect.Effect<A, E, R>) =>
  Lake.use(dataDir, ({ settings }) =>
    Effect.provideService(command, GoldModels.ModelFolder, settings.dags.modelFolder).pipe(Effect.provide(NodeContext.layer)))

export const list = ({ dataDir, json }: Common) =>
  use(dataDir, Effect.gen(function*() {
    const all = yield* Effect.forEach(yield* GoldModels.all, ({ model, name, origin }) =>
      Effect.map(Effect.either(Effect.flatMap(model, GoldModels.check)), (checked) => {
        const known = Either.getOrUndefined(model)
        return {
          name,
          origin,
          refresh: known?.refresh ?? null,
          grain: known?.grain ?? null,
          key: known?.key.join(", ") ?? null,
          description: known?.description ?? null,
          problem: Either.isLeft(checked) ? checked.left.message : null
        }
      }))
    if (json) return yield* Output.json(all)
    const head = ["name", "origin", "refresh", "grain", "key", "description", "problem"] as const
    yield* Output.table(head, all.map((row) => head.map((column) => row[column])))
  }))

export const apply = ({ dataDir, file, json }: Common & { readonly file: string }) =>
  use(dataDir, Effect.gen(function*() {
    const text = yield* (yield* FileSystem.FileSystem).readFileString(file).pipe(
      Effect.mapError(() => new GoldModel.ModelInvalid({ source: file, reason: "the file cannot be read" }))
    )
    const { columns, model } = yield* GoldModels.apply(file, text)
    if (json) return yield* Output.json({ model: model.name, columns: columns.map(({ name, type }) => ({ name, type })) })
    yield* Console.log(
      `gold.${model.name} and gold_${model.name} are there after the next run of silver_to_gold_batch (\`voltlake dag trigger silver_to_gold_batch --wait\`)`
    )
  }))
