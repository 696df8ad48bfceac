/** `voltlake verify`. */
import { Console, Effect, Schema } from "effect"
import * as Verify from "@voltlake/reconciliation/Verify"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

/** Already told; the process ends with 1. */
export class BreachesFound extends Schema.TaggedError<BreachesFound>()("BreachesFound", { breaches: Schema.Number }) {
  override get message() {
    return `${this.breaches} equations do not hold`
  }
}

const foreign = ({ operation, snapshotId, timestampMs }: Verify.Unacknowledged["snapshots"][number]) =>
  `snapshot ${snapshotId} (${operation}, ${new Date(timestampMs).toISOString()})`

const remedy = ({ missing, snapshots, table }: Verify.Unacknowledged) => {
  const by = snapshots.length === 0 ? "no snapshot that is known says why" : `other engines removed or replaced rows by ${snapshots.map(foreign).join(", ")}`
  return `${table}: ${missing} rows are missing; ${by}. Where that was meant, run \`voltlake tables acknowledge ${table} --rows ${missing}\`; ` +
    "where not, `voltlake tables rollback` goes back to a snapshot before it, and what came since is read again."
}

const show = Effect.fnUntraced(function*(asJson: boolean, { settings }: Lake.Opened) {
  yield* LakeSetup.ensure(settings.ingest)
  const report = yield* Verify.run(settings.ingest.topic)
  const breaches = Verify.breaches(report)
  if (asJson) {
    yield* Output.json({
      ok: breaches.length === 0,
      checks: report.checks.map((check) => ({ ...check, ok: Verify.holds(check) })),
      unacknowledged: report.unacknowledged
    })
  } else {
    yield* Output.table(
      ["subject", "equation", "expected", "actual", ""],
      report.checks.map((check) => [check.subject, check.equation, check.expected, check.actual, Verify.holds(check) ? "ok" : "BREACH"])
    )
    for (const one of report.unacknowledged) yield* Console.log(remedy(one))
    if (breaches.length === 0) yield* Console.log(`all ${report.checks.length} equations hold`)
  }
  if (breaches.length > 0) return yield* new BreachesFound({ breaches: breaches.length })
})

export const run = (options: { readonly dataDir: string; readonly json: boolean }) =>
  Lake.use(options.dataDir, (opened) => show(options.json, opened))
