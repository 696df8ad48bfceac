/** Runs processes as whoever operates them would: each is started again as soon as it ends, and what it says is kept in a file. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process"
import { createWriteStream, readFileSync, type WriteStream } from "node:fs"
import { once } from "node:events"
import { join } from "node:path"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"

const bundles = process.env["VOLTLAKE_DIST"] ?? fileURLToPath(new URL(".", import.meta.url))

export interface Program {
  readonly name: string
  /** Which bundle: `bronze`, `voltlake`. */
  readonly app: string
  readonly env: Readonly<Record<string, string>>
  /** Asked for at each start: a producer goes on elsewhere each time. */
  readonly args?: () => ReadonlyArray<string>
  readonly onLine?: (line: string) => void
  /** Ends by itself when its work is done; all others never should. */
  readonly ends?: boolean
}

export interface Ended {
  readonly name: string
  readonly code: number | NodeJS.Signals
}

/** Between the starts of a process that keeps ending by itself. */
const restartAfterMs = 500
const stopLimitMs = 20_000

/** Settings of whoever runs the tool are none of the processes' business. */
const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(VOLTLAKE|POSTGRES|KAFKA|TOPIC|BRONZE|SILVER|GOLD|DUCKDB|ENGINE|MAINTENANCE|SIMULATOR|PG|WAREHOUSE|S3|AWS)/.test(name))
)

/** One program, over all its processes. */
export class Supervised {
  private child: ChildProcess | undefined
  private isStopping = false
  private killing = false
  private readonly log: WriteStream
  readonly logFile: string
  /** Ends that nobody asked for. */
  readonly ownEnds: Array<Ended> = []
  done: Promise<void>
  private finish: () => void = () => undefined

  constructor(readonly program: Program, folder: string) {
    this.logFile = join(folder, `${program.name}.log`)
    this.log = createWriteStream(this.logFile, { flags: "a" })
    this.done = new Promise((resolve) => (this.finish = resolve))
    this.start()
  }

  private start() {
    const { app, args, env, onLine } = this.program
    const child = spawn(process.execPath, [join(bundles, `${app}.mjs`), ...args?.() ?? []], { cwd: "/", env: { ...inherited, ...env }, stdio: ["ignore", "pipe", "pipe"] })
    this.child = child
    this.log.write(`--- process ${child.pid} at ${new Date().toISOString()}\n`)
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (onLine === undefined) return void this.log.write(text)
      const lines = (rest + text).split("\n")
      rest = lines.pop()!
      for (const line of lines) onLine(line)
    })
    child.stderr.on("data", (text: Buffer) => this.log.write(text))
    child.on("close", (code, signal) => this.ended(code ?? signal ?? "SIGKILL"))
  }

  private ended(code: number | NodeJS.Signals) {
    this.log.write(`--- ended with ${code} at ${new Date().toISOString()}\n`)
    const wasKilled = this.killing
    this.killing = false
    if (this.isStopping || (this.program.ends === true && code === 0)) return this.finish()
    if (wasKilled) return this.start()
    this.ownEnds.push({ name: this.program.name, code })
    setTimeout(() => this.isStopping ? this.finish() : this.start(), restartAfterMs)
  }

  get isDone(): boolean {
    return this.child?.exitCode === 0 && this.program.ends === true
  }

  /** kill -9; it is started again at once. */
  async kill(): Promise<boolean> {
    const { child } = this
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return false
    this.killing = true
    const closed = once(child, "close")
    child.kill("SIGKILL")
    await closed
    return true
  }

  /** Asks it to end, and answers how it did: its exit code, or that it had to be killed. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | NodeJS.Signals> {
    this.isStopping = true
    const { child } = this
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? 0
    const closed = once(child, "close")
    child.kill(signal)
    const timer = setTimeout(() => child.kill("SIGKILL"), stopLimitMs)
    const [code, ended] = (await closed) as [number | null, NodeJS.Signals | null]
    clearTimeout(timer)
    return code ?? ended ?? "SIGKILL"
  }

  /** The last lines that it said. */
  lastWords(count = 3): ReadonlyArray<string> {
    return readFileSync(this.logFile, "utf8").trimEnd().split("\n").slice(-count)
  }
}

/** What a process said until it ended; it is killed at the limit. */
export const finished = async (child: ChildProcessByStdio<null, Readable, Readable>, limitMs: number) => {
  let [stdout, stderr] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs)
  const [code] = (await once(child, "close")) as [number | null]
  clearTimeout(timer)
  return { code, stdout, stderr }
}

/** Runs a command of the product to its end. */
export const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>, limitMs: number) =>
  finished(
    spawn(process.execPath, [join(bundles, "voltlake.mjs"), ...args], { cwd: "/", env: { ...inherited, ...env }, stdio: ["ignore", "pipe", "pipe"] }),
    limitMs
  )
