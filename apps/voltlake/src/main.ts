/** The command line. Errors are told in words on standard error; details with VOLTLAKE_LOG_LEVEL=debug. */
import { ValidationError } from "@effect/cli"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Cause, ConfigError, Effect } from "effect"
import * as Cli from "@voltlake/commands/Cli"
import * as Logs from "@voltlake/observability/Logs"

const tell = (cause: Cause.Cause<unknown>) => {
  const error = Cause.squash(cause)
  // The command line has told these itself.
  if (ValidationError.isValidationError(error)) return Effect.void
  const text = ConfigError.isConfigError(error) ? `configuration: ${error.toString()}` : error instanceof Error ? error.message : String(error)
  return Effect.zipRight(
    Effect.logDebug(cause),
    Effect.sync(() => process.stderr.write(`voltlake: ${text}\n`))
  )
}

Cli.run(process.argv).pipe(
  Effect.tapErrorCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : tell(cause))),
  Effect.provide([NodeContext.layer, Logs.layer]),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true })
)
