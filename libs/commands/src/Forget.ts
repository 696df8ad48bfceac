/** `voltlake forget VEHICLE`. */
import { Console, Duration, Effect } from "effect"
import { qualifiedName } from "@voltlake/domain/Tables"
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

const forget = Effect.fnUntraced(function*({ dropReferences, dryRun, json, vehicle }: ForgetOptions, { settings }: Lake.Opened) {
  yield* LakeSetup.ensure(settings.ingest)
  const { removed, snapshotsDropped } = yield* Forget.run({ vehicleId: vehicle, dropReferences, dryRun })
  const tables = removed.map(({ contract, files, rows }) => ({ table: qualifiedName(contract), rows, files }))
  if (json) return yield* Output.json({ dryRun, tables, snapshotsDropped })
  yield* Output.table(["table", dryRun ? "rows that would go" : "rows removed", "files that held them"], tables.map(({ files, rows, table }) => [table, rows, files]))
  if (dryRun) return
  yield* Console.log(
    `${snapshotsDropped} snapshots were dropped. The files that only they name are deleted ${Duration.format(settings.cleaner.gracePeriod)} from now by a ` +
      "running lake. The log's own records stay for as long as the log keeps them; events that come from now on are kept like any."
  )
})

export const run = (options: ForgetOptions) => Lake.use(options.dataDir, (opened) => forget(options, opened))
