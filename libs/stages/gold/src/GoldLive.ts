/**
 * A live model's beginning over a silver that has rows: its table in PostgreSQL is filled from the batch's, which stands at silver's position P. Once gold's
 * position L has reached P, the units that rows in [P, L) touch are computed anew under the lock of L. From there on silver's commits move it.
 */
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Schedule } from "effect"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { currentSnapshot } from "@voltlake/iceberg/TableMetadata"
import { transaction } from "@voltlake/postgres/Transaction"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as GoldBatch from "./GoldBatch.ts"
import { checkComparable, GoldBehind, loadAsGoldKnowsIt, touchedBetween } from "./GoldCompare.ts"
import * as GoldProgress from "./GoldProgress.ts"
import * as GoldPublish from "./GoldPublish.ts"
import * as LiveModels from "./LiveModels.ts"
import * as LiveRows from "./LiveRows.ts"
import * as ModelTable from "./ModelTable.ts"

/** Offsets of silver that are caught up with under gold's lock: live gold waits meanwhile. More of them are left to another build first. */
const caughtUpMax = 50_000n

export interface Begun {
  /** `live`: it was live before. */
  readonly kind: "live" | "begun"
  readonly days: number
  readonly rows: number
}

/** Whether the model is live now; not where too much has come since its table was built. */
const catchUp = Effect.fnUntraced(function*(checked: ModelTable.CheckedModel) {
  const { model } = checked
  const sql = yield* PgClient.PgClient
  const connection = yield* (yield* QueryEngine).connect
  const { metadata } = yield* ModelTable.ensure(checked)
  const source = ModelTable.sourceOf(metadata)
  const sequence = currentSnapshot(metadata)?.sequenceNumber ?? 0n
  if (source?.model !== ModelTable.modelHash(model)) return false
  return yield* transaction(Effect.gen(function*() {
    const gold = yield* GoldProgress.lock(sql)
    yield* checkComparable(model.name, gold, source)
    const [state] = yield* sql<{ readonly published: string | null }>`
      SELECT published_sequence::text AS published FROM lake.gold_model_state WHERE name = ${model.name} FOR UPDATE`
    const at = Progress.position(gold.progress)
    if (state?.published !== String(sequence) || Position.lag(source.position, at) > caughtUpMax) return false
    const silver = yield* loadAsGoldKnowsIt(model.name, gold)
    yield* touchedBetween(connection, model, silver, source.position, at)
    const apply = yield* LiveRows.unitsAnew(connection, checked, { silver, below: Progress.covered(gold.progress) }, gold)
    yield* apply(sql)
    yield* LiveModels.begin(sql, checked)
    return true
  }))
}, Effect.scoped)

const tries = 10

/** Makes the model live where it is not. */
export const start = Effect.fn("GoldLive.start")(function*(checked: ModelTable.CheckedModel) {
  const { model } = checked
  const sql = yield* PgClient.PgClient
  const isLive = (yield* LiveModels.states(sql)).get(model.name) === ModelTable.modelHash(model)
  if (isLive) return { kind: "live", days: 0, rows: 0 } satisfies Begun
  for (let round = 0; round < tries; round++) {
    if (round > 0) yield* GoldBatch.build(checked)
    const published = yield* GoldPublish.publish(checked)
    // Live gold is some moments behind silver, and so behind the batch.
    const patience = Schedule.spaced(Duration.millis(200)).pipe(Schedule.upTo(Duration.seconds(10)))
    const isBegun = yield* Effect.retry(catchUp(checked), { while: (error) => error._tag === "GoldBehind", schedule: patience })
    if (isBegun) return { kind: "begun", ...published } satisfies Begun
  }
  return yield* new GoldBehind({ model: model.name, reason: "more rows of silver came than could be caught up with" })
})
