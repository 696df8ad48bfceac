// `npm run test:minio`: what we ask of an S3 server, and what we do when it fails, over MinIO in place of versitygw.
import { spawnSync } from "node:child_process"

const done = spawnSync(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "--project", "stack", "libs/object-store", ...process.argv.slice(2)], {
  stdio: "inherit",
  env: { ...process.env, STACK_S3: "minio" }
})
process.exit(done.status ?? 1)
