// vitest's global setup: tests of the real process run the bundle, so it has to be that of the sources.
export { ensureBuilt as setup } from "../../../tools/workspace/build.mjs"
