/**
 * A stack for as long as another process lives: that process holds this one's standard input open. When it closes, whether it said so, was
 * interrupted or killed, the stack is stopped and its folder removed.
 */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Output from "@voltlake/commands/Output"
import { attempt } from "./internal/Files.ts"
import type { StackOptions } from "./Server.ts"
import * as Stack from "./Stack.ts"

const inputClosed = Effect.async<void>((resume) => {
  const end = () => resume(Effect.void)
  process.stdin.on("end", end).on("close", end).on("error", end).resume()
})

/** What is printed once the servers are up, on one line. */
export interface Announcement {
  readonly dir: string
  readonly fetched: ReadonlyArray<Stack.Fetched>
  /** What clients need, as environment variables. */
  readonly env: Readonly<Record<string, string>>
}

const serve = Effect.fnUntraced(function*(dir: string, options: StackOptions) {
  const fetched = yield* Stack.fetch(dir, options)
  const names = fetched.flatMap(({ missing, server }) => (missing === null ? [server] : []))
  if (names.length > 0) yield* Stack.up(dir, options, names)
  yield* Output.json({ dir, fetched, env: yield* Stack.env(dir) } satisfies Announcement)
  yield* Effect.never
})

/** Starts, in a temporary folder, the servers that can run on this machine. Ends when standard input does. */
export const run = (options: StackOptions) =>
  Effect.acquireUseRelease(
    attempt(tmpdir(), () => fs.mkdtemp(join(tmpdir(), "voltlake-stack-"))),
    (dir) => Effect.raceFirst(serve(dir, options), inputClosed),
    (dir) => Effect.zipRight(
      // A folder that never became a stack's is empty.
      Effect.ignore(Stack.wipe(dir)),
      Effect.promise(() => fs.rm(dir, { recursive: true, force: true }))
    )
  )
