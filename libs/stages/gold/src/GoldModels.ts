/**
 * Which gold models there are: those that come with Voltlake, as files, and those that operators applied, as rows in PostgreSQL, which win over files of the
 * same name. One that is wrong hinders none of the others.
 */
import { FileSystem } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { Context, Effect, type Either } from "effect"
import { join } from "node:path"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as ModelCheck from "./ModelCheck.ts"
import type { CheckedModel } from "./ModelTable.ts"

/** The folder of models that come with Voltlake. */
export class ModelFolder extends Context.Tag("@voltlake/gold/ModelFolder")<ModelFolder, string>() {}

export interface FoundModel {
  readonly name: string
  readonly origin: "file" | "applied"
  readonly model: Either.Either<GoldModel.GoldModel, GoldModel.ModelInvalid>
}

const ofFiles = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* ModelFolder
  const files = (yield* fs.readDirectory(folder)).filter((file) => file.endsWith(".sql")).sort()
  return yield* Effect.forEach(files, (file) =>
    Effect.map(fs.readFileString(join(folder, file)), (text): FoundModel => ({
      name: file.replace(/\.sql$/, ""),
      origin: "file",
      model: GoldModel.parse(file, text)
    })))
})

const applied = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly name: string; readonly text: string }>`SELECT name, text FROM lake.gold_model ORDER BY name`
  return rows.map(({ name, text }): FoundModel => ({ name, origin: "applied", model: GoldModel.parse(name, text) }))
})

/** All, by name. */
export const all = Effect.gen(function*() {
  const byName = new Map((yield* ofFiles).map((one) => [one.name, one]))
  for (const one of yield* applied) byName.set(one.name, one)
  return Array.from(byName.values()).sort((a, b) => (a.name < b.name ? -1 : 1))
})

/** The model of this name as it is now, checked. */
export const load = Effect.fn("GoldModels.load")(function*(name: string) {
  const found = (yield* all).find((one) => one.name === name)
  if (found === undefined) return yield* new GoldModel.ModelInvalid({ source: name, reason: "there is no model of this name" })
  const model = yield* found.model
  if (model.name !== name) return yield* new GoldModel.ModelInvalid({ source: name, reason: `its header gives it the name ${model.name}` })
  return yield* check(model)
})

export const check = Effect.fn("GoldModels.check")(function*(model: GoldModel.GoldModel) {
  const connection = yield* (yield* QueryEngine).connect
  return { model, columns: yield* ModelCheck.check(connection, model) } satisfies CheckedModel
}, Effect.scoped)

/** Names that the live stage keeps itself: their tables in PostgreSQL are not a batch's to write. */
export const liveNames: ReadonlyArray<string> = ["vehicle_minute_metrics", "fleet_minute_metrics"]

/** Registers a model, once it is checked. It is there with the next run of the DAG, and needs no restart. */
export const apply = Effect.fn("GoldModels.apply")(function*(source: string, text: string) {
  const model = yield* GoldModel.parse(source, text)
  const invalid = (reason: string) => new GoldModel.ModelInvalid({ source, reason })
  if (liveNames.includes(model.name)) return yield* invalid(`${model.name} is kept live by Voltlake itself; choose another name`)
  if (model.refresh === "live") return yield* invalid("live models are those that come with Voltlake; write refresh: batch")
  if (model.name === "vehicle_latest") return yield* invalid("vehicle_latest is a view of Voltlake's own; choose another name")
  const checked = yield* check(model)
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO lake.gold_model (name, text) VALUES (${model.name}, ${text})
    ON CONFLICT (name) DO UPDATE SET text = excluded.text, applied_at = now()`
  return checked
})
