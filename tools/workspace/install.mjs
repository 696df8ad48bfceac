// Installs what is missing: runs `npm ci` where node_modules is absent or older than the lock file, then builds. Runs before `npm start` and `npm test`.
import { spawnSync } from "node:child_process"
import { existsSync, statSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))
const installed = `${root}node_modules/.package-lock.json`

const isStale = () => !existsSync(installed) || statSync(installed).mtimeMs < statSync(`${root}package-lock.json`).mtimeMs

const [major, minor] = process.versions.node.split(".").map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`Voltlake needs Node 20.19 or newer; this is ${process.version}.`)
  process.exit(1)
}

if (isStale()) {
  const done = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" })
  if (done.status !== 0) process.exit(done.status ?? 1)
}

const { ensureBuilt } = await import("./build.mjs")
await ensureBuilt()
