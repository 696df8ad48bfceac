/**
 * A data directory of a test's own, and the processes on it. `close` ends whatever still runs, sees to it that no PostgreSQL is left, and removes
 * the folder.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { waitFor } from "./Condition.ts"
import * as VoltlakeProcess from "./VoltlakeProcess.ts"

export interface StageStatus {
  readonly stage: string
  readonly rows: number
  readonly lag: number
  readonly position: Readonly<Record<string, number>>
}

export interface Status {
  readonly stages: ReadonlyArray<StageStatus>
  readonly rejected: number
  readonly duplicates: number
  readonly skipped: number
  readonly lost: number
}

export interface Summary {
  readonly events: number
  readonly bronze: number
  readonly silver: number
  readonly rejected: number
  readonly rules: Readonly<Record<string, number>>
  readonly duplicates: number
  readonly vehicleMinutes: number
}

/** Far more than any command of a test needs; a safety net, not a measure. */
const runLimitMs = 40_000

export type Row = Readonly<Record<string, string | number | boolean | null>>

/** The command, of one word or two, and what follows it: options go between. */
const parted = (args: ReadonlyArray<string>) => {
  const words = ["log", "tables", "dag", "models"].includes(args[0] ?? "") ? 2 : 1
  return { command: args.slice(0, words), rest: args.slice(words) }
}

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** The server's process id, where one runs on the folder. */
const serverPid = async (dataDir: string): Promise<number | undefined> => {
  const file = join(dataDir, "postgres", "cluster", "data", "postmaster.pid")
  const text = await fs.readFile(file, "utf8").catch(() => undefined)
  const pid = Number(text?.split("\n")[0])
  return pid > 0 && isAlive(pid) ? pid : undefined
}

export class TestLake {
  private readonly processes: Array<VoltlakeProcess.VoltlakeProcess> = []

  private constructor(readonly folder: string, readonly dataDir: string, private readonly options: VoltlakeProcess.ProcessOptions) {}

  /** The folder lets every account pass: as root, the server runs under another one. */
  static async make(options: VoltlakeProcess.ProcessOptions = {}): Promise<TestLake> {
    const folder = await fs.realpath(await fs.mkdtemp(join(tmpdir(), "voltlake-e2e-")))
    await fs.chmod(folder, 0o755)
    const { account } = options
    if (account !== undefined) await fs.chown(folder, account.uid, account.gid)
    return new TestLake(folder, join(folder, "lake"), options)
  }

  /** Starts a command on the data directory. */
  launch(args: ReadonlyArray<string>, options: VoltlakeProcess.ProcessOptions = {}): VoltlakeProcess.VoltlakeProcess {
    const { command, rest } = parted(args)
    const launched = VoltlakeProcess.launch([...command, "--data-dir", this.dataDir, ...rest], {
      ...this.options,
      ...options,
      env: { ...this.options.env, ...options.env }
    })
    this.processes.push(launched)
    return launched
  }

  /** `voltlake start` on any free port. */
  start(args: ReadonlyArray<string> = [], options: VoltlakeProcess.ProcessOptions = {}): VoltlakeProcess.VoltlakeProcess {
    return this.launch(["start", "--port", "0", ...args], options)
  }

  /** One part in a process of its own, as `nx serve` runs it. */
  serve(app: string, env: Readonly<Record<string, string>> = {}): VoltlakeProcess.VoltlakeProcess {
    const launched = VoltlakeProcess.launch([], {
      ...this.options,
      app,
      env: { ...this.options.env, VOLTLAKE_DATA_DIR: this.dataDir, ...env }
    })
    this.processes.push(launched)
    return launched
  }

  /** Runs a command to its end. One that does not come to it is killed, and what it said is told. */
  async run(args: ReadonlyArray<string>, options: VoltlakeProcess.ProcessOptions = {}): Promise<VoltlakeProcess.Finished> {
    const launched = this.launch(args, options)
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      void launched.kill("SIGKILL")
    }, runLimitMs)
    const finished = await launched.ended
    clearTimeout(timer)
    if (isLate) throw new Error(`voltlake ${args.join(" ")} did not end within ${runLimitMs} ms: ${finished.stderr.slice(0, 2000)}`)
    return finished
  }

  async json<A>(args: ReadonlyArray<string>, options: VoltlakeProcess.ProcessOptions = {}): Promise<A> {
    const { command, rest } = parted(args)
    return VoltlakeProcess.parseOutput<A>(await this.run([...command, "--json", ...rest], options))
  }

  replay(files: ReadonlyArray<string>, options: VoltlakeProcess.ProcessOptions = {}): Promise<Summary> {
    return this.json<Summary>(["replay", "--wait", ...files], options)
  }

  sql(query: string): Promise<ReadonlyArray<Row>> {
    return this.json<ReadonlyArray<Row>>(["sql", query])
  }

  status(): Promise<Status> {
    return this.json<Status>(["status"])
  }

  /** The equations that do not hold; none is what every test ends with. */
  async breaches(): Promise<ReadonlyArray<unknown>> {
    const finished = await this.run(["verify", "--json"])
    if (finished.code !== 0 && finished.stdout === "") throw new Error(`verify ended with ${finished.code}: ${finished.stderr}`)
    const report = JSON.parse(finished.stdout) as { readonly ok: boolean; readonly checks: ReadonlyArray<{ readonly ok: boolean }> }
    const breaches = report.checks.filter((check) => !check.ok)
    if (report.ok !== (breaches.length === 0) || report.ok !== (finished.code === 0)) {
      throw new Error(`verify contradicts itself: ok is ${report.ok}, exit code ${finished.code}, ${breaches.length} breaches`)
    }
    return breaches
  }

  /** Writes a file beside the data directory, and answers its path. */
  async file(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.folder, name)
    await fs.writeFile(path, content)
    return path
  }

  async isServerLeft(): Promise<boolean> {
    return (await serverPid(this.dataDir)) !== undefined
  }

  /** As a power cut ends it: the server and its sessions are gone at once. */
  async killServer(): Promise<void> {
    const pid = await serverPid(this.dataDir)
    if (pid !== undefined) process.kill(pid, "SIGKILL")
  }

  /** Ends every process that still runs. */
  async endAll(signal: NodeJS.Signals): Promise<void> {
    const running = this.processes.filter((launched) => !launched.hasEnded())
    await Promise.all(running.map((launched) => launched.kill(signal)))
  }

  async close(): Promise<void> {
    await this.endAll("SIGKILL")
    // A server outlives a killed process; the next command's exit stops it, as its last user.
    if (await this.isServerLeft()) await this.run(["status"])
    const left = await serverPid(this.dataDir)
    if (left !== undefined) process.kill(left, "SIGQUIT")
    await waitFor("the server's end", async () => (await this.isServerLeft()) ? undefined : true)
    await fs.rm(this.folder, { recursive: true, force: true })
    if (left !== undefined) throw new Error(`the last command on ${this.dataDir} left its PostgreSQL (process ${left}) running`)
  }
}

/** What a running `start` says of itself, over its API. */
export const statusAt = async (address: string): Promise<Status> => {
  const response = await fetch(`${address}/api/status`)
  if (!response.ok) throw new Error(`/api/status answered ${response.status}: ${await response.text()}`)
  const encoded = await response.json() as Record<string, string> & { readonly stages: ReadonlyArray<Record<string, string>> }
  return {
    stages: encoded.stages.map((stage) => ({
      stage: String(stage["stage"]),
      rows: Number(stage["rows"]),
      lag: Number(stage["lag"]),
      position: stage["position"] as unknown as Readonly<Record<string, number>>
    })),
    rejected: Number(encoded["rejected"]),
    duplicates: Number(encoded["duplicates"]),
    skipped: Number(encoded["skipped"]),
    lost: Number(encoded["lost"])
  }
}

/** Waits until a running `start` has everything that the log holds in gold. */
export const waitForNoLag = (address: string): Promise<Status> =>
  waitFor(`no lag at ${address}`, async () => {
    const status = await statusAt(address)
    return status.stages.every((stage) => stage.lag === 0) ? status : undefined
  })
