/** Both verifiers, on what a run left: the product's own, and the independent one, which also gets what the log acknowledged. */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Supervisor from "./Supervisor.ts"

/** In the repository that the bundle was built in, wherever below it the bundle lies. */
const findLauncher = (below: string): string => {
  const path = join(below, "tools/verify/run.mjs")
  if (existsSync(path)) return path
  if (dirname(below) === below) throw new Error("tools/verify is not there: chaos runs from a bundle within the repository")
  return findLauncher(dirname(below))
}
const limitMs = 240_000

const lastLine = (text: string) => text.trimEnd().split("\n").at(-1) ?? ""

const parsed = (text: string): Record<string, unknown> | undefined => {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}

export interface Verdict {
  readonly events: number
  readonly seconds: number
  readonly problems: ReadonlyArray<string>
}

/** `voltlake verify`. */
export const own = async (env: Readonly<Record<string, string>>): Promise<ReadonlyArray<string>> => {
  const { code, stderr, stdout } = await Supervisor.run(["verify", "--json"], env, limitMs)
  const report = parsed(lastLine(stdout)) as { readonly ok: boolean; readonly checks: ReadonlyArray<{ readonly ok: boolean }> } | undefined
  if (report === undefined) return [`voltlake verify ended with ${code}: ${stderr.slice(-500)}`]
  if (report.ok && code === 0) return []
  return report.checks.filter((check) => !check.ok).map((check) => `voltlake verify: ${JSON.stringify(check)}`)
}

/** The independent verifier. */
export const independent = async (env: Readonly<Record<string, string>>, acknowledgedFile: string): Promise<Verdict> => {
  const child = spawn(process.execPath, [findLauncher(dirname(fileURLToPath(import.meta.url))), "--json", "--acknowledged", acknowledgedFile], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] })
  const { code, stderr, stdout } = await Supervisor.finished(child, limitMs)
  const report = parsed(lastLine(stdout))
  if (report === undefined) return { events: 0, seconds: 0, problems: [`the independent verifier ended with ${code}: ${stderr.slice(-500)}`] }
  const problems = Object.entries(report["problems"] as Record<string, ReadonlyArray<unknown>>).flatMap(([check, found]) =>
    found.map((one) => `${check}: ${JSON.stringify(one)}`))
  if (code !== 0 && problems.length === 0) problems.push(`the independent verifier ended with ${code}`)
  return { events: Number(report["events"]), seconds: Number(report["seconds"]), problems }
}
