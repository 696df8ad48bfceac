// Runs checks as child processes, two at a time, and prints each one's output whole when it ends.
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../../", import.meta.url))

// The project graph's daemon and terminal interface have no place in a script.
const env = { ...process.env, NX_DAEMON: "false", NX_TUI: "false", FORCE_COLOR: process.stdout.isTTY ? "1" : "0" }

/** Runs a command of node_modules/.bin; its output is shown only where it failed, unless `live`. Answers whether it succeeded. */
export const step = (name, command, args, { live = false } = {}) =>
  new Promise((resolve) => {
    const startedMs = Date.now()
    const child = spawn(process.execPath, [`${root}node_modules/${command}`, ...args], {
      cwd: root,
      env,
      stdio: ["ignore", live ? "inherit" : "pipe", live ? "inherit" : "pipe"]
    })
    let output = ""
    child.stdout?.on("data", (chunk) => (output += chunk))
    child.stderr?.on("data", (chunk) => (output += chunk))
    child.on("close", (code) => {
      if (code !== 0 && !live) process.stdout.write(output)
      console.log(`${code === 0 ? "ok  " : "FAIL"} ${name} (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`)
      resolve(code === 0)
    })
  })

/** Types, lint with boundaries, and dead code. Answers whether all are well. */
export const staticChecks = async () => {
  // The lint rule of the boundaries reads the graph that this leaves in the cache.
  const graph = await step("project graph", "nx/dist/bin/nx.js", ["show", "projects"])
  const done = await Promise.all([
    step("types", "typescript/bin/tsc", ["-p", "tsconfig.json"]),
    step("lint and boundaries", "eslint/bin/eslint.js", ["--cache", "--cache-location", "node_modules/.cache/voltlake/eslint", "."])
      .then(async (lint) => (await step("dead code", "knip/bin/knip.js", ["--no-config-hints"])) && lint)
  ])
  return graph && done.every(Boolean)
}
