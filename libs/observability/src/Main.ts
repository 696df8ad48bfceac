/** What every process does at its edge: logs to standard error, tells its last error in words, ends cleanly on Ctrl-C. */
import type { Runtime } from "@effect/platform"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Cause, ConfigError, Effect, Exit } from "effect"
import * as Logs from "./Logs.ts"

const textOf = (error: unknown): string =>
  ConfigError.isConfigError(error) ? `configuration: ${error.toString()}` : error instanceof Error ? error.message : String(error)

/** Details of the cause are logged with VOLTLAKE_LOG_LEVEL=debug. */
const tell = (name: string, cause: Cause.Cause<unknown>) =>
  Effect.zipRight(
    Effect.logDebug(cause),
    Effect.sync(() => process.stderr.write(`${name}: ${textOf(Cause.squash(cause))}\n`))
  )

/** Ends the process once what it printed is out, whatever handle a library may have left open: every scope is closed by now. */
const teardown: Runtime.Teardown = (exit) => {
  const code = Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause) ? 1 : 0
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)))
}

/** Runs the program of a process. `isTold` says of which errors the user has read already. */
export const run = <A, E>(
  name: string,
  program: Effect.Effect<A, E, NodeContext.NodeContext>,
  isTold: (error: unknown) => boolean = () => false
): void =>
  program.pipe(
    Effect.provide([NodeContext.layer, Logs.layer]),
    Effect.tapErrorCause((cause) => Cause.isInterruptedOnly(cause) || isTold(Cause.squash(cause)) ? Effect.void : tell(name, cause)),
    NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true, teardown })
  )
