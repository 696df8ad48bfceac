// `npm run verify -- …`: runs the verifier in a Python environment that is made once per account and set of packages, whole or not at all.
// `--fetch` alone makes the environment and starts nothing.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL(".", import.meta.url))
const requirements = join(here, "requirements.txt")
const oldestMinor = 10
const candidates = ["python3", "python3.13", "python3.12", "python3.11", "python3.10"]

// Records are read by one thread and dropped by another: an arena for each, and Arrow's own pool, would keep what was freed.
const frugal = { MALLOC_ARENA_MAX: "2", ARROW_DEFAULT_MEMORY_POOL: "system" }
// Some S3 servers refuse, now and then, the checksums that Arrow sends when it completes an upload.
const checksums = { AWS_REQUEST_CHECKSUM_CALCULATION: "when_required" }

const fail = (message) => {
  console.error(`verify: ${message}`)
  process.exit(2)
}

/** `3.11` of a Python that is new enough and can make environments. */
const versionOf = (python) => {
  const asked = spawnSync(python, ["-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"], { encoding: "utf8" })
  const version = asked.status === 0 ? asked.stdout.trim() : ""
  const [major, minor] = version.split(".").map(Number)
  return major === 3 && minor >= oldestMinor ? version : undefined
}

const findPython = () => {
  for (const command of candidates) {
    const version = versionOf(command)
    if (version !== undefined) return { command, version }
  }
  return fail(`needs Python 3.${oldestMinor} or newer with its venv module (on Debian and Ubuntu: python3 and python3-venv)`)
}

const succeed = (what, command, args) => {
  const done = spawnSync(command, args, { encoding: "utf8" })
  if (done.status !== 0) throw new Error(`${what} failed: ${(done.error?.message ?? `${done.stdout}\n${done.stderr}`).trim().slice(-2000)}`)
}

/** A folder that appears by renaming. Environments may be moved as long as their programs are run as modules. */
const ensureEnvironment = () => {
  const { command, version } = findPython()
  const cache = process.env.VOLTLAKE_CACHE_DIR || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "voltlake")
  const key = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16)
  const folder = join(cache, `verify-python${version}-${key}`)
  if (existsSync(folder)) return folder
  mkdirSync(cache, { recursive: true })
  console.error("verify: fetching its Python packages, once")
  const temporary = mkdtempSync(`${folder}.making-`)
  try {
    succeed("making a Python environment", command, ["-m", "venv", temporary])
    succeed("fetching Python packages", join(temporary, "bin/python"), [
      ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", requirements]
    ])
    renameSync(temporary, folder)
  } catch (error) {
    // Another process may have been quicker; its folder is as good.
    if (!existsSync(folder)) fail(error.message)
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
  return folder
}

const environment = ensureEnvironment()
const args = process.argv.slice(2)
if (args[0] !== "--fetch") {
  const [module, rest] = args[0] === "--module" ? [args[1], args.slice(2)] : ["voltlake_verify", args]
  const done = spawnSync(join(environment, "bin/python"), ["-m", module, ...rest], {
    stdio: "inherit",
    env: { ...frugal, ...checksums, ...process.env, PYTHONPATH: here, PYTHONDONTWRITEBYTECODE: "1" }
  })
  process.exit(done.status ?? 1)
}
