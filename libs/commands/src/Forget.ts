/** `voltlake forget VEHICLE`: out of the lake's tables, then out of what was made of them, then out of what is kept of the past. */
import { SqlClient } from "@effect/sql"
import { Console, Duration, Effect, Either, Schema } from "effect"
import { goldNamespace } from "@voltlake/domain/GoldModel"
import { qualifiedName } from "@voltlake/domain/Tables"
import * as Gold from "@voltlake/gold/Gold"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as GoldLive from "@voltlake/gold/GoldLive"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as GoldPublish from "@voltlake/gold/GoldPublish"
import * as ModelTable from "@voltlake/gold/ModelTable"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Forget from "@voltlake/maintenance/Forget"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

export interface ForgetOptions {
  readonly vehicle: string
  readonly dropReferences: boolean
  readonly dryRun: boolean
  readonly dataDir: string
  readonly json: boolean
}

/** The lake's own tables have forgotten the vehicle, and something that was made of them has not. */
export class ForgetIncomplete extends Schema.TaggedError<ForgetIncomplete>()("ForgetIncomplete", { reasons: Schema.Array(Schema.String) }) {
  override get message() {
    return `the vehicle is out of bronze and silver, and not out of all that was made of them: ${this.reasons.join("; ")}. ` +
      "Mend that (`voltlake models list` says what is wrong with a model), and run the command again"
  }
}

/** Live gold follows silver in its next step, whoever takes it. */
const followLive = Effect.fnUntraced(function*({ settings }: Lake.Opened) {
  const stage = yield* Gold.make(settings.gold)
  yield* Effect.repeat(stage.step, { while: (outcome) => outcome === "advanced" })
}, Effect.scoped)

const followBatch = Effect.fnUntraced(function*(name: string) {
  const checked = yield* GoldModels.load(name)
  yield* GoldBatch.build(checked)
  // A live table that could not be told apart was emptied: it is filled again.
  yield* checked.model.refresh === "batch" ? GoldPublish.publish(checked) : GoldLive.start(checked)
})

/** Tables of models that are no more: nobody knows any more what they have of whom. */
const ofNoModel = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* Tables
  const found: Array<string> = []
  for (const table of yield* (yield* Catalog).list) {
    if (table.namespace !== goldNamespace || names.includes(table.name)) continue
    const { metadata } = yield* tables.load(table)
    if (ModelTable.sourceOf(metadata) !== undefined) found.push(`${render(table)} has no model any more: drop it`)
  }
  const states = yield* sql<{ readonly name: string }>`SELECT name FROM lake.gold_model_state WHERE to_regclass('public.gold_' || name) IS NOT NULL`
  return [...found, ...states.filter(({ name }) => !names.includes(name)).map(({ name }) => `gold_${name} in PostgreSQL has no model any more: drop it`)]
})

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** Each as far as it goes; answers what did not. */
const followAll = Effect.fnUntraced(function*(opened: Lake.Opened) {
  const live = yield* Effect.either(followLive(opened))
  const models = yield* GoldModels.all
  const batch = yield* Effect.forEach(models, ({ name }) =>
    Effect.map(Effect.either(followBatch(name)), Either.mapLeft((error) => `gold.${name}: ${messageOf(error)}`)))
  const failed = [...batch, Either.mapLeft(live, (error) => `live gold: ${messageOf(error)}`)].flatMap((one) => (Either.isLeft(one) ? [one.left] : []))
  return [...failed, ...(yield* ofNoModel(models.map(({ name }) => name)))]
})

/** What operations noted with rows of the vehicle in it. */
const redact = Effect.fnUntraced(function*(vehicle: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE ops.events SET message = 'taken out: it named a vehicle that was forgotten', facts = '{}'
    WHERE position(${vehicle} IN message || facts::text) > 0`
  yield* sql`DELETE FROM ops.dag_log WHERE position(${vehicle} IN message) > 0`
  yield* sql`UPDATE ops.dag_attempt SET error = 'taken out: it named a vehicle that was forgotten' WHERE position(${vehicle} IN error) > 0`
})

const forget = Effect.fnUntraced(function*({ dropReferences, dryRun, json, vehicle }: ForgetOptions, opened: Lake.Opened) {
  const { settings } = opened
  yield* LakeSetup.ensure(settings.ingest)
  const request = { vehicleId: vehicle, dropReferences, dryRun }
  const removed = yield* Forget.removeRows(request)
  const reasons = dryRun ? [] : yield* followAll(opened)
  const snapshotsDropped = dryRun ? 0 : yield* Forget.dropSnapshots(request)
  if (!dryRun) yield* redact(vehicle)
  const tables = removed.map(({ contract, files, rows }) => ({ table: qualifiedName(contract), rows, files }))
  if (json) yield* Output.json({ dryRun, tables, snapshotsDropped, incomplete: reasons })
  else {
    const head = ["table", dryRun ? "rows that would go" : "rows removed", "files that held them"]
    yield* Output.table(head, tables.map(({ files, rows, table }) => [table, rows, files]))
    if (!dryRun) {
      yield* Console.log(
        `${snapshotsDropped} snapshots were dropped. The files that only they name are deleted ${Duration.format(settings.cleaner.gracePeriod)} from now by a ` +
          "running lake. The log's own records stay for as long as the log keeps them; events that come from now on are kept like any."
      )
    }
  }
  if (reasons.length > 0) return yield* new ForgetIncomplete({ reasons })
})

export const run = (options: ForgetOptions) => Lake.use(options.dataDir, (opened) => forget(options, opened))
