/**
 * A stack for as long as another process lives: that process holds this one's standard input open. When it closes, whether it said so, was
 * interrupted or killed, the stack is stopped and its folder removed, with all other stacks that were made below the same folder meanwhile.
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
interface Announcement {
  /** Folder below which further stacks may be made: they end with this one. */
  readonly dir: string
  readonly fetched: ReadonlyArray<Stack.Fetched>
  /** What clients need, as environment variables. */
  readonly env: Readonly<Record<string, string>>
}

const serve = Effect.fnUntraced(function*(folder: string, options: StackOptions) {
  const dir = join(folder, "shared")
  const fetched = yield* Stack.fetch(dir, options)
  const names = fetched.flatMap(({ missing, server }) => (missing === null ? [server] : []))
  if (names.length > 0) yield* Stack.up(dir, options, names)
  yield* Output.json({ dir: folder, fetched, env: yield* Stack.env(dir) } satisfies Announcement)
  yield* Effect.never
})

/** Wipes every stack below the folder, then removes it. What cannot be wiped is told, and hinders nothing else. */
const removeAll = Effect.fnUntraced(function*(folder: string) {
  const names = yield* Effect.filter(yield* attempt(folder, () => fs.readdir(folder)), (name) => Stack.isStack(join(folder, name)))
  yield* Effect.forEach(names, (name) =>
    Stack.wipe(join(folder, name)).pipe(
      Effect.catchAll((error) => Effect.logWarning("a stack is left", error).pipe(Effect.annotateLogs({ stack: name })))
    ), { concurrency: "unbounded", discard: true })
  yield* attempt(folder, () => fs.rm(folder, { recursive: true, force: true }))
})

const temporaryFolder = attempt(tmpdir(), async () => {
  const folder = await fs.mkdtemp(join(tmpdir(), "voltlake-stack-"))
  // Passable for the account that PostgreSQL runs under where this one is root.
  await fs.chmod(folder, 0o755)
  return folder
})

/** Starts, in a temporary folder, the servers that can run on this machine. Ends when standard input does. */
export const run = (options: StackOptions) =>
  Effect.acquireUseRelease(
    temporaryFolder,
    (folder) => Effect.raceFirst(serve(folder, options), inputClosed),
    (folder) => Effect.ignoreLogged(removeAll(folder))
  )
