/**
 * Where things lie that the server's account cannot reach in their own place (a data directory or an installation below
 * a 0700 home).
 *
 * `/var/lib` comes before `/var/tmp`, where cleaners remove files that nobody touched for 30 days, and a cluster has
 * many of those.
 */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { ClusterUnusable } from "../EmbeddedPostgresError.ts"
import { attempt, reachable } from "./FileAccess.ts"
import type { Account } from "./Subprocess.ts"

export const systemFolders: ReadonlyArray<string> = ["/var/lib", "/var/tmp"]

const usable = Effect.fnUntraced(function*(folder: string, account: Account) {
  yield* attempt(folder, () => fs.mkdir(folder, { recursive: true, mode: 0o755 }))
  const stat = yield* attempt(folder, () => fs.lstat(folder))
  // Anybody may make names in /var/tmp; what another user made is not to be trusted with programs or data.
  if (!stat.isDirectory() || stat.uid !== process.geteuid?.()) {
    return yield* new ClusterUnusable({ path: folder, reason: "it belongs to another user" })
  }
  yield* attempt(folder, () => fs.chmod(folder, 0o755))
  if (!(yield* reachable(folder, account))) {
    return yield* new ClusterUnusable({ path: folder, reason: "the server's account cannot reach it" })
  }
  return folder
})

/** The first folder that serves, made where it is missing. */
export const systemFolder = (among: ReadonlyArray<string>, account: Account) =>
  Effect.firstSuccessOf(among.map((parent) => usable(join(parent, "voltlake"), account)))
