/** The orchestrator over the lake's DAGs. */
import { Effect, Option } from "effect"
import { BatchEngine } from "@voltlake/gold/BatchEngine"
import * as SparkBatch from "@voltlake/gold/SparkBatch"
import * as Orchestrator from "@voltlake/orchestration/Orchestrator"
import { StageHealth } from "@voltlake/stage-runner/Stage"
import * as Dags from "./Dags.ts"
import type * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"

/** Its name in health. */
export const name = "orchestrator"

/** Runs the DAGs in this process, or stands by while another one does; until interrupted. */
export const run = Effect.fn("Orchestrate.run")(function*({ settings }: Lake.Opened) {
  const health = yield* StageHealth
  yield* LakeSetup.ensure(settings.ingest)
  const onState = (state: "leading" | "standby") =>
    state === "leading"
      ? Effect.zipRight(health.set(name, "running", ""), health.noteSuccess(name))
      : health.set(name, "standby", "another process orchestrates")
  const run = Orchestrator.run(Dags.all(settings), onState)
  if (Option.isNone(settings.batch)) return yield* run
  return yield* Effect.provideService(run, BatchEngine, yield* SparkBatch.make(settings.batch.value))
})
