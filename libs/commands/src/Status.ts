/** `voltlake status`. */
import { Effect } from "effect"
import type * as Position from "@voltlake/domain/Position"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as LakeStatus from "@voltlake/reconciliation/LakeStatus"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

const positionText = (position: Position.Position) =>
  Array.from(position, ([key, offset]) => `${key}: ${offset}`).sort().join("\n")

const show = Effect.fnUntraced(function*(asJson: boolean) {
  const { topic } = yield* Ingest.settingsConfig
  yield* LakeSetup.ensure
  const status = yield* LakeStatus.read(topic)
  if (asJson) {
    const stages = status.stages.map((stage) => ({ ...stage, position: Object.fromEntries(stage.position) }))
    return yield* Output.json({ ...status, stages })
  }
  yield* Output.table(
    ["stage", "rows", "lag", "position"],
    status.stages.map((stage) => [stage.stage, stage.rows, stage.lag, positionText(stage.position)])
  )
  yield* Output.table(
    ["rejected", "duplicates", "skipped", "lost"],
    [[status.rejected, status.duplicates, status.skipped, status.lost]]
  )
})

export const run = (options: { readonly dataDir: string; readonly json: boolean }) =>
  Effect.gen(function*() {
    const dataDir = yield* Lake.openDataDir(options.dataDir)
    yield* show(options.json).pipe(Effect.provide(Lake.layer(dataDir)))
  }).pipe(Effect.scoped)
