/** The gold models that come with Voltlake, and what tests do with them. */
import { Effect, Either } from "effect"
import * as fs from "node:fs"
import { join } from "node:path"
import * as GoldModel from "@voltlake/domain/GoldModel"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as ModelCheck from "@voltlake/gold/ModelCheck"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "./StageLake.ts"

const folder = StageLake.modelFolder

export const all: ReadonlyArray<GoldModel.GoldModel> = fs.readdirSync(folder).map((file) =>
  Either.getOrThrow(GoldModel.parse(file, fs.readFileSync(join(folder, file), "utf8"))))

export const named = (name: string): GoldModel.GoldModel => all.find((model) => model.name === name)!

export const checked = (model: GoldModel.GoldModel) =>
  Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return { model, columns: yield* ModelCheck.check(connection, model) }
  }).pipe(Effect.scoped)

/** Brings the model's table to silver, as a new process would. */
export const build = (model: GoldModel.GoldModel, onDay?: GoldBatch.OnDay) =>
  StageLake.inProcess(Effect.flatMap(checked(model), (found) => GoldBatch.build(found, onDay)))
