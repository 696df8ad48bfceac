/** `voltlake status`. */
import { Effect } from "effect"
import type * as Position from "@voltlake/domain/Position"
import * as LakeStatus from "@voltlake/reconciliation/LakeStatus"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

const positionText = (position: Position.Position) =>
  Array.from(position, ([key, offset]) => `${key}: ${offset}`).sort().join("\n")

const show = Effect.fnUntraced(function*(asJson: boolean, { settings }: Lake.Opened) {
  yield* LakeSetup.ensure(settings.ingest)
  const status = yield* LakeStatus.read(settings.ingest.topic)
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
  Lake.use(options.dataDir, (opened) => show(options.json, opened))
