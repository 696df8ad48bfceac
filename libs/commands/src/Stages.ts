/** Bronze, silver and gold in one process, side by side. They share nothing but the ports: each reads what the one before committed. */
import { Effect } from "effect"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as Gold from "@voltlake/gold/Gold"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Silver from "@voltlake/silver/Silver"
import * as Stage from "@voltlake/stage-runner/Stage"

/** Runs until interrupted. A stage that stops leaves the others running. */
export const run = Effect.fn("Stages.run")(function*(keyIndexPath: string) {
  const { topic } = yield* Ingest.settingsConfig
  const bronze = yield* Bronze.make(yield* Bronze.settingsConfig(topic))
  const silver = yield* Silver.make(yield* Silver.settingsConfig(keyIndexPath))
  const gold = yield* Gold.make(yield* Gold.settingsConfig)
  yield* Effect.all([Stage.run(bronze), Stage.run(silver), Stage.run(gold)], { concurrency: "unbounded", discard: true })
  return yield* Effect.never
}, Effect.scoped)
