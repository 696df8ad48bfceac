// Builds what changed, then runs an app or a tool by name: `node run.mjs bronze …`.
import { ensureBuilt } from "./build.mjs"

const [name] = process.argv.splice(2, 1)
await ensureBuilt()
await import(`../../dist/${name}.mjs`)
