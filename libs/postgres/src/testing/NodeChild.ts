/** For tests that kill: a TypeScript entry bundled and run as a real Node process. */
import { Effect, Queue, type Scope } from "effect"
import { build } from "esbuild"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

export interface NodeChild {
  readonly pid: number
  /** Waits for the next line of its standard output that begins with `start`, and answers it. */
  readonly line: (start: string) => Effect.Effect<string>
  readonly say: (line: string) => Effect.Effect<void>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, or the signal that ended it. */
  readonly ended: Effect.Effect<number | string>
}

/** Below node_modules, from where the bundle finds packages that look for files of their own. */
const bundleFolder = () => {
  const effect = createRequire(import.meta.url).resolve("effect/package.json")
  return join(dirname(effect), "..", ".cache", "voltlake")
}

/**
 * Bundles the entry at `url` (give it as `new URL("./entry.ts", import.meta.url)`) into a file that goes with the
 * scope.
 */
export const bundle = (url: URL): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => {
      const outfile = join(bundleFolder(), `child-${randomBytes(6).toString("hex")}.mjs`)
      return build({
        entryPoints: [fileURLToPath(url)],
        outfile,
        bundle: true,
        platform: "node",
        format: "esm",
        target: "node20",
        external: ["pg-native"],
        logLevel: "silent",
        // Packages in the older format ask for `require`.
        banner: {
          js: "import { createRequire as requireFor } from 'node:module'\nconst require = requireFor(import.meta.url)"
        }
      }).then(() => outfile)
    }),
    (path) => Effect.promise(() => fs.rm(path, { force: true }))
  )

/** Runs a bundle; killed with the scope if it is still there. */
export const start = (path: string, args: ReadonlyArray<string>): Effect.Effect<NodeChild, never, Scope.Scope> =>
  Effect.gen(function*() {
    const lines = yield* Queue.unbounded<string>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, [path, ...args], { stdio: ["pipe", "pipe", "inherit"] })),
      (running) => Effect.sync(() => running.kill("SIGKILL"))
    )
    let rest = ""
    child.stdout.on("data", (chunk: Buffer) => {
      const whole = (rest + chunk.toString()).split("\n")
      rest = whole.pop() ?? ""
      for (const line of whole) Queue.unsafeOffer(lines, line)
    })
    const ended = new Promise<number | string>((resolve) => {
      child.on("exit", (code, signal) => resolve(code ?? signal ?? ""))
    })
    const endedEarly = Effect.flatMap(Effect.promise(() => ended), (how) => Effect.dieMessage(`the child ended: ${how}`))
    return {
      pid: child.pid ?? 0,
      line: (begin) =>
        Queue.take(lines).pipe(
          Effect.repeat({ until: (line) => line.startsWith(begin) }),
          Effect.raceFirst(endedEarly)
        ),
      say: (line) => Effect.sync(() => void child.stdin.write(`${line}\n`)),
      kill: (signal) => Effect.sync(() => void child.kill(signal)),
      ended: Effect.promise(() => ended)
    }
  })
