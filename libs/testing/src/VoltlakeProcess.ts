/** The command line as real processes: the bundle run by Node, as a user would. */
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { waitFor } from "./Condition.ts"

export const repository = fileURLToPath(new URL("../../../", import.meta.url))

/** Where the global setup put the bundles. */
const bundles = process.env["VOLTLAKE_DIST"] ?? join(repository, "dist")

export interface ProcessOptions {
  /** Which app; the command line where not given. */
  readonly app?: string
  readonly env?: Readonly<Record<string, string>>
  /** Bytes for its standard input. */
  readonly input?: Uint8Array
  /** Account to run as. */
  readonly account?: { readonly uid: number; readonly gid: number }
}

export interface Finished {
  /** Exit code, or the signal that ended it. */
  readonly code: number | NodeJS.Signals
  readonly stdout: string
  readonly stderr: string
}

export interface VoltlakeProcess {
  readonly pid: number
  readonly ended: Promise<Finished>
  readonly hasEnded: () => boolean
  readonly stderr: () => string
  readonly kill: (signal: NodeJS.Signals) => Promise<Finished>
  /** The page's address, once the process has said it. */
  readonly address: () => Promise<string>
  /** The address of its health, where a port for that was set. */
  readonly healthAddress: () => Promise<string>
}

// Settings of the account that runs the tests are none of the tests' business.
const ownSettings = /^(VOLTLAKE|POSTGRES|KAFKA|TOPIC|BRONZE|SILVER|GOLD|DUCKDB|ENGINE|MAINTENANCE|SIMULATOR|PG)[A-Z_]*$/

const environment = (env: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !ownSettings.test(name))),
  ...env
})

const collect = (child: ChildProcess) => {
  const out = { stdout: "", stderr: "" }
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (out.stdout += text))
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (out.stderr += text))
  return out
}

export const launch = (args: ReadonlyArray<string>, options: ProcessOptions = {}): VoltlakeProcess => {
  const child = spawn(process.execPath, [join(bundles, `${options.app ?? "voltlake"}.mjs`), ...args], {
    cwd: "/",
    env: environment(options.env ?? {}),
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    ...options.account
  })
  const out = collect(child)
  let finished: Finished | undefined
  const ended = new Promise<Finished>((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code, signal) => {
      finished = { code: code ?? signal ?? "SIGKILL", ...out }
      resolve(finished)
    })
  })
  // A process that ends without reading it all closes the pipe.
  child.stdin?.on("error", () => undefined).end(options.input)
  const said = (what: string, where: () => string, pattern: RegExp) =>
    waitFor(`${what} from process ${child.pid}`, () => {
      if (finished !== undefined) throw new Error(`it ended with ${finished.code}: ${finished.stderr}`)
      return pattern.exec(where())?.[1]
    })
  return {
    pid: child.pid ?? 0,
    ended,
    hasEnded: () => finished !== undefined,
    stderr: () => out.stderr,
    kill: (signal) => {
      child.kill(signal)
      return ended
    },
    address: () => said("the page's address", () => out.stdout, /(?:Voltlake|The page) is at (http:\S+)\n/),
    healthAddress: () => said("the address of its health", () => out.stderr, /message="health, readiness and metrics are served" address=(http:\S+)\n/)
  }
}

/** What a command printed with `--json`: exactly one document on one line, and nothing else. */
export const parseOutput = <A>(finished: Finished): A => {
  if (finished.code !== 0) throw new Error(`the command ended with ${finished.code}: ${finished.stderr}`)
  if (!/^[^\n]+\n$/.test(finished.stdout)) throw new Error(`standard output is not one line: ${finished.stdout.slice(0, 500)}`)
  return JSON.parse(finished.stdout) as A
}
