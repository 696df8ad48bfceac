/** What every process does at its edge: logs to standard error, tells its last error in words, ends cleanly on Ctrl-C. */
import type { Runtime } from "@effect/platform"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Cause, ConfigError, Duration, Effect, Exit } from "effect"
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

/**
 * A process that is asked to end and does not, since a server keeps it waiting, ends all the same: whoever runs it would kill it. Nothing is lost by
 * that, which is as a crash is. Exit code 1.
 */
const endWithin = (name: string, limit: Duration.Duration) => {
  const force = Effect.delay(
    Effect.sync(() => {
      process.stderr.write(`${name}: ended by force, since it did not end within ${Duration.format(limit)} of the signal\n`, () => process.exit(1))
    }),
    limit
  )
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => void Effect.runFork(force))
}

export interface MainOptions {
  /** Of which errors the user has read already. */
  readonly isTold?: (error: unknown) => boolean
  /** How long the process may take to end after SIGTERM or SIGINT; without it as long as it takes. */
  readonly endLimit?: Duration.Duration
}

/** What a service may take: less than the ten seconds that Docker gives. */
export const serviceOptions: MainOptions = { endLimit: Duration.seconds(9) }

/** Runs the program of a process. */
export const run = <A, E>(
  name: string,
  program: Effect.Effect<A, E, NodeContext.NodeContext>,
  { endLimit, isTold = () => false }: MainOptions = {}
): void => {
  if (endLimit !== undefined) endWithin(name, endLimit)
  program.pipe(
    Effect.provide([NodeContext.layer, Logs.layer]),
    Effect.tapErrorCause((cause) => Cause.isInterruptedOnly(cause) || isTold(Cause.squash(cause)) ? Effect.void : tell(name, cause)),
    NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true, teardown })
  )
}
