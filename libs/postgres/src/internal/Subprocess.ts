/** Runs a program to its end. */
import { Effect } from "effect"
import { spawn } from "node:child_process"

/** Under which account a program runs; undefined is this process's own. */
export type Account = { readonly uid: number; readonly gid: number } | undefined

export interface Finished {
  readonly exitCode: number
  /** Standard output and error as they came, cut at {@link outputCharsMax}. */
  readonly output: string
}

const outputCharsMax = 64 * 1024

/** Nothing of this process's environment is handed on: messages in English, times in UTC, no secrets. */
export const environment = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" }

/** Fails where the program cannot be started at all; an exit code other than 0 is an answer. Interruption kills it. */
export const run = (command: string, args: ReadonlyArray<string>, account: Account, input = "") =>
  Effect.async<Finished, Error>((resume) => {
    // The folder must be one that the account can enter.
    const child = spawn(command, args, { ...account, cwd: "/", env: environment, stdio: ["pipe", "pipe", "pipe"] })
    let output = ""
    const keep = (chunk: Buffer) => {
      if (output.length < outputCharsMax) output += chunk.toString()
    }
    child.stdout.on("data", keep)
    child.stderr.on("data", keep)
    child.on("error", (error) => resume(Effect.fail(error)))
    child.on("close", (code) => {
      resume(Effect.succeed({ exitCode: code ?? -1, output: output.slice(0, outputCharsMax) }))
    })
    // A program that ends without reading its input is no fault.
    child.stdin.on("error", () => undefined)
    child.stdin.end(input)
    return Effect.sync(() => child.kill("SIGKILL"))
  })
