/**
 * A fresh folder that every account may pass through (as root the server runs under another one); removed with the
 * scope.
 */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(join(tmpdir(), "voltlake-test-"))).pipe(
    Effect.tap((path) => Effect.promise(() => fs.chmod(path, 0o755)))
  ),
  (path) => Effect.promise(() => fs.rm(path, { recursive: true, force: true }))
)
