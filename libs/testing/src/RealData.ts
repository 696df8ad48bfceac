/** The recorded vehicle data beside the repository. It is not part of it: tests are skipped, with a word, where it is absent; in CI that is a failure. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { repository } from "./VoltlakeProcess.ts"

export const folder = join(process.env["VOLTLAKE_SHARED"] ?? join(repository, "..", "shared"), "data", "real")

export const isThere = existsSync(folder)

export const files = (): ReadonlyArray<string> =>
  readdirSync(folder).filter((name) => name.endsWith(".ndjson.gz")).sort().map((name) => join(folder, name))

export const lines = (): ReadonlyArray<string> =>
  files().flatMap((file) => gunzipSync(readFileSync(file)).toString("utf8").split("\n").filter((line) => line !== ""))
