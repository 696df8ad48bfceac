/** Runs voltlake as its users do, as a process of its own, and watches its memory. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const command = fileURLToPath(new URL("./voltlake.mjs", import.meta.url))

export const start = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): ChildProcess =>
  spawn(process.execPath, [command, ...args], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } })

/** One stage, as its own process. */
export const startApp = (app: string, env: Readonly<Record<string, string>>): ChildProcess =>
  spawn(process.execPath, [fileURLToPath(new URL(`./${app}.mjs`, import.meta.url))], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } })

/** Highest resident memory so far, in bytes; 0 where the system does not tell. */
export const peakMemoryBytes = (pid: number): number => {
  try {
    const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return Number(kilobytes ?? 0) * 1024
  } catch {
    return 0
  }
}

/** User and system time so far, in seconds; 0 where the system does not tell. */
export const cpuSeconds = (pid: number): number => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return 0
  }
}

export interface Finished {
  readonly output: string
  readonly peakMemoryBytes: number
}

/** Runs to the end, or fails with the exit code. */
export const run = async (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): Promise<Finished> => {
  const child = start(args, env)
  let output = ""
  let peak = 0
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (output += text))
  const watch = setInterval(() => (peak = Math.max(peak, peakMemoryBytes(child.pid!))), 50)
  const [code] = (await once(child, "close")) as [number | null]
  clearInterval(watch)
  if (code !== 0) throw new Error(`voltlake ${args.join(" ")} ended with ${code}`)
  return { output, peakMemoryBytes: peak }
}
