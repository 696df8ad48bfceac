/** `.env` as `npm run make-env` writes it, with secrets of its own. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { repository } from "@voltlake/testing/VoltlakeProcess"

export const script = join(repository, "deploy/make-env.mjs")

export const read = (path: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    readFileSync(path, "utf8").split("\n").filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)])
  )

export const make = (): Readonly<Record<string, string>> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-env-"))
  try {
    const path = join(folder, ".env")
    execFileSync(process.execPath, [script, path], { stdio: "ignore" })
    return read(path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
