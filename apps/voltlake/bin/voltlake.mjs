#!/usr/bin/env node
// The command `voltlake`: builds what changed, then runs the bundle.
process.argv.splice(2, 0, "voltlake")
await import("../../../tools/workspace/run.mjs")
