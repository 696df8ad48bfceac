#!/usr/bin/env node
// The command `voltlake`: builds what changed, then runs the bundle.
import { ensureBuilt } from "../../../tools/workspace/build.mjs"

await ensureBuilt()
await import("../../../dist/voltlake.mjs")
