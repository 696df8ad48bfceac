// `npm run check`: types, lint, boundaries, dead code, and the tests of what changed since the last commit. The inner loop, about a minute.
import { ensureBuilt } from "./build.mjs"
import { staticChecks, step } from "./steps.mjs"

await ensureBuilt()
const sound = await staticChecks()
const tested = await step("tests of what changed", "vitest/vitest.mjs", ["run", "--changed", "--passWithNoTests"], { live: true })
process.exit(sound && tested ? 0 : 1)
