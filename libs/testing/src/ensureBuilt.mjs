// vitest's global setup: builds what changed, and gives the tests of the real process a copy of the bundle, which a build meanwhile does not touch.
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { ensureBuilt } from "../../../tools/workspace/build.mjs"

const root = fileURLToPath(new URL("../../../", import.meta.url))

/** Below node_modules, from where the bundle finds the packages that are not part of it. */
const cache = join(root, "node_modules", ".cache", "voltlake")

export const setup = async () => {
  // Given by hand to try the tests on a bundle that was broken on purpose.
  if (process.env.VOLTLAKE_DIST !== undefined) return undefined
  await ensureBuilt()
  mkdirSync(cache, { recursive: true })
  const copy = mkdtempSync(join(cache, "dist-"))
  // The bundle is run by other accounts as well.
  chmodSync(copy, 0o755)
  cpSync(join(root, "dist"), copy, { recursive: true, filter: (path) => !path.endsWith(".map") })
  process.env.VOLTLAKE_DIST = copy
  return () => rmSync(copy, { recursive: true, force: true })
}
