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

const show = Effect.fnUntraced(function*(asJson: boolean, { settings }: Lake.Opened) {
  yield* LakeSetup.ensure(settings.ingest)
  const report = yield* Verify.run(settings.ingest.topic)
  const breaches = Verify.breaches(report)
  if (asJson) {
    yield* Output.json({
      ok: breaches.length === 0,
      checks: report.checks.map((check) => ({ ...check, ok: Verify.holds(check) }))
    })
  } else {
    yield* Output.table(
      ["subject", "equation", "expected", "actual", ""],
      report.checks.map((check) => [check.subject, check.equation, check.expected, check.actual, Verify.holds(check) ? "ok" : "BREACH"])
    )
    if (breaches.length === 0) yield* Console.log(`all ${report.checks.length} equations hold`)
  }
  if (breaches.length > 0) return yield* new BreachesFound({ breaches: breaches.length })
})

export const run = (options: { readonly dataDir: string; readonly json: boolean }) =>
  Lake.use(options.dataDir, (opened) => show(options.json, opened))
