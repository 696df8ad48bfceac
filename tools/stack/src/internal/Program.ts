/** Programs of the machine: whether they are there, and running one to its end. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { delimiter, join } from "node:path"
import { BuildFailed, ProgramMissing } from "../StackError.ts"

export interface Requirement {
  readonly program: "java" | "mvn" | "go"
  readonly neededFor: string
}

const remedies = {
  java: "install a Java runtime of version 17 or newer, e.g. the package openjdk-17-jre-headless",
  mvn: "install Apache Maven, e.g. the package maven",
  go: "install Go, see go.dev/dl"
}

export const missing = ({ neededFor, program }: Requirement, reason = "is not on the PATH") =>
  new ProgramMissing({ program, reason, neededFor, remedy: remedies[program] })

/** Path of a program; fails with {@link ProgramMissing}. */
export const find = Effect.fnUntraced(function*(requirement: Requirement) {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter).filter((one) => one !== "")) {
    const path = join(folder, requirement.program)
    if (yield* Effect.promise(() => fs.access(path, fs.constants.X_OK).then(() => true, () => false))) return path
  }
  return yield* missing(requirement)
})

const outputCharsMax = 64 * 1024
const toldCharsMax = 3000

/** Runs to the end and answers what was printed; any other exit code than 0 is a failure. Interruption kills it. */
export const run = (
  what: string,
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {}
) =>
  Effect.async<string, BuildFailed>((resume) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd })
    })
    let output = ""
    const keep = (chunk: Buffer) => (output = (output + chunk.toString()).slice(-outputCharsMax))
    child.stdout.on("data", keep)
    child.stderr.on("data", keep)
    child.on("error", (error) => resume(Effect.fail(new BuildFailed({ what, output: error.message }))))
    child.on("close", (code, signal) => {
      resume(code === 0 ? Effect.succeed(output) : Effect.fail(
        new BuildFailed({ what, output: `${output.trim().slice(-toldCharsMax)}\n(${command} ended with ${code ?? signal})` })
      ))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })
