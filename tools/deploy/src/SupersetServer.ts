/**
 * A real Superset from PyPI, as the image runs it: `deploy/superset/serve.py`, in a Python environment that is made once (825 MB, a few minutes).
 */
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Cache from "@voltlake/stack/Cache"
import * as Ports from "@voltlake/stack/internal/Ports"
import * as Program from "@voltlake/stack/internal/Program"
import { BuildFailed } from "@voltlake/stack/StackError"
import { repository } from "@voltlake/testing/VoltlakeProcess"

const requirements = join(repository, "tools/deploy/requirements-superset.txt")
const folder = join(repository, "deploy/superset")

/** Those that Superset's own dependencies have packages for. */
const pythons = ["python3.11", "python3.12", "python3.10"]

const findPython = Effect.gen(function*() {
  for (const python of pythons) {
    const found = yield* Effect.isSuccess(Program.run(python, python, ["-c", "import venv, ensurepip"]))
    if (found) return python
  }
  return yield* new BuildFailed({ what: "Superset", output: `it needs one of ${pythons.join(", ")} with its venv module` })
})

/** Path of the environment's Python. */
const environment = Effect.gen(function*() {
  const hash = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16)
  const python = yield* findPython
  // Found by a rename: what is in it runs as modules, and no path of its making counts.
  const made = yield* Cache.ensure(`superset-${python}-${hash}`, (into) =>
    Effect.zipRight(
      Program.run("a Python environment", python, ["-m", "venv", into]),
      Program.run("Superset", join(into, "bin/python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", requirements])
    ))
  return join(made, "bin/python")
})

export interface SupersetServer {
  readonly address: string
  readonly log: () => string
  readonly hasEnded: () => boolean
  readonly stop: () => Promise<void>
}

const end = (child: ChildProcess) =>
  new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.on("exit", () => resolve())
    child.kill("SIGTERM")
  })

/** Starts it in the environment that the Compose file gives it. It provisions itself first; whoever waits asks `/health`. */
export const start = (env: Readonly<Record<string, string>>, home: string) =>
  Effect.gen(function*() {
    const python = yield* environment
    const [port] = yield* Ports.choose(1)
    let log = ""
    const child = spawn(python, [join(folder, "serve.py")], {
      cwd: home,
      env: {
        PATH: process.env["PATH"],
        HOME: home,
        PYTHONPATH: folder,
        PYTHONDONTWRITEBYTECODE: "1",
        SUPERSET_CONFIG_PATH: join(folder, "superset_config.py"),
        ...env,
        SUPERSET_HOME: home,
        SUPERSET_BIND: `127.0.0.1:${port}`
      },
      stdio: ["ignore", "pipe", "pipe"]
    })
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-20_000)))
    const server: SupersetServer = {
      address: `http://127.0.0.1:${port}`,
      log: () => log,
      hasEnded: () => child.exitCode !== null || child.signalCode !== null,
      stop: () => end(child)
    }
    return server
  })
