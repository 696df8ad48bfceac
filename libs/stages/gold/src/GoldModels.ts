/**
 * Which gold models there are: those that come with Voltlake, as files, and those that operators applied, as rows in PostgreSQL, which win over files of the
 * same name. One that is wrong hinders none of the others.
 */
import { FileSystem } from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { Context, Effect, Either } from "effect"
import { join } from "node:path"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as ModelCheck from "./ModelCheck.ts"
import * as ModelProof from "./ModelProof.ts"
import { type CheckedModel, modelHash } from "./ModelTable.ts"

/** The folder of models that come with Voltlake. */
export class ModelFolder extends Context.Tag("@voltlake/gold/ModelFolder")<ModelFolder, string>() {}

/** `file`: comes with Voltlake, or lies in the folder that operators put in its place. */
export type Origin = "file" | "applied"

export interface FoundModel {
  readonly name: string
  readonly origin: Origin
  readonly model: Either.Either<GoldModel.GoldModel, GoldModel.ModelInvalid>
}

/** What the page, the reconciler and the dashboards read, by the columns that Voltlake's own files give it. */
const liveNames: ReadonlyArray<string> = ["vehicle_minute_metrics", "fleet_minute_metrics"]

/** Names of what else Voltlake keeps beside gold's tables. */
const reservedNames: ReadonlyArray<string> = ["vehicle_latest"]

/** Reads a model that its name and origin allow. `source` names it in errors. */
export const read = (source: string, text: string, origin: Origin): Either.Either<GoldModel.GoldModel, GoldModel.ModelInvalid> =>
  Either.flatMap(GoldModel.parse(source, text), (model) => {
    const { name, refresh } = model
    const invalid = (reason: string) => Either.left(new GoldModel.ModelInvalid({ source, reason }))
    if (reservedNames.includes(name)) return invalid(`${name} is a view of Voltlake's own; choose another name`)
    const isLive = liveNames.includes(name)
    if (isLive && origin === "applied") return invalid(`${name} is a table that Voltlake itself reads; choose another name`)
    if (isLive && refresh === "batch") return invalid(`${name} is a table that Voltlake itself reads live; write refresh: live, or choose another name`)
    return Either.right(model)
  })

/** One that is found under a name has to have it. */
const found = (name: string, source: string, text: string, origin: Origin): FoundModel => ({
  name,
  origin,
  model: Either.filterOrLeft(
    read(source, text, origin),
    (model) => model.name === name,
    (model) => new GoldModel.ModelInvalid({ source, reason: `its header gives it the name ${model.name}` })
  )
})

const ofFiles = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* ModelFolder
  const files = (yield* fs.readDirectory(folder)).filter((file) => file.endsWith(".sql")).sort()
  return yield* Effect.forEach(files, (file) =>
    Effect.map(fs.readFileString(join(folder, file)), (text) => found(file.replace(/\.sql$/, ""), file, text, "file")))
})

const applied = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly name: string; readonly text: string }>`SELECT name, text FROM lake.gold_model ORDER BY name`
  return rows.map(({ name, text }) => found(name, name, text, "applied"))
})

/** All, by name. */
export const all = Effect.gen(function*() {
  const byName = new Map((yield* ofFiles).map((one) => [one.name, one]))
  for (const one of yield* applied) byName.set(one.name, one)
  return Array.from(byName.values()).sort((a, b) => (a.name < b.name ? -1 : 1))
})

/** The model of this name as it is now, checked. */
export const load = Effect.fn("GoldModels.load")(function*(name: string) {
  const one = (yield* all).find((each) => each.name === name)
  if (one === undefined) return yield* new GoldModel.ModelInvalid({ source: name, reason: "there is no model of this name" })
  return yield* check(yield* one.model)
})

/** Models that this process has proved, by what their rows depend on: a run loads each of them twice. */
const proved = new Set<string>()

/** Checks what a model says, and proves on made-up rows that it can be kept by units. */
export const check = Effect.fn("GoldModels.check")(function*(model: GoldModel.GoldModel) {
  const connection = yield* (yield* QueryEngine).connect
  const columns = yield* ModelCheck.check(connection, model)
  const hash = modelHash(model)
  if (!proved.has(hash)) yield* ModelProof.prove(connection, model)
  proved.add(hash)
  return { model, columns } satisfies CheckedModel
}, Effect.scoped)

/** Registers a model, once it is checked. It is filled by the next run of the DAG, and needs no restart. */
export const apply = Effect.fn("GoldModels.apply")(function*(source: string, text: string) {
  const model = yield* read(source, text, "applied")
  const checked = yield* check(model)
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO lake.gold_model (name, text) VALUES (${model.name}, ${text})
    ON CONFLICT (name) DO UPDATE SET text = excluded.text, applied_at = now()`
  return checked
})
