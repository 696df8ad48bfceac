/**
 * Programs that were fetched or built once, for every stack of this account: `<cache>/<name>-<version>/`.
 *
 * A folder appears whole or not at all. Two processes that find it absent both make it; one rename wins, and the other's work is thrown away.
 */
import { Duration, Effect } from "effect"
import * as fs from "node:fs/promises"
import { homedir } from "node:os"
import { join } from "node:path"
import { attempt, codeOf, exists, remove } from "./internal/Files.ts"
import { BuildFailed, type StackError } from "./StackError.ts"

/** `$VOLTLAKE_CACHE_DIR`, else `voltlake` below the account's cache folder. */
const folder = Effect.sync(() =>
  process.env["VOLTLAKE_CACHE_DIR"] || join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "voltlake")
)

/** Longer than any build takes, so that a slow registry ends in an error instead of a hang. */
const makeLimit = Duration.minutes(15)

/** The folder of that name, made by `make` (which fills the folder given to it) where it is absent. */
export const ensure = Effect.fn("Cache.ensure")(function*(
  name: string,
  make: (folder: string) => Effect.Effect<void, StackError>
) {
  const cache = yield* folder
  const path = join(cache, name)
  if (yield* exists(path)) return path
  yield* attempt(cache, () => fs.mkdir(cache, { recursive: true }))
  const temporary = yield* attempt(cache, () => fs.mkdtemp(join(cache, `${name}.making-`)))
  yield* Effect.logInfo("fetching or building programs, once").pipe(Effect.annotateLogs({ name, cache }))
  yield* make(temporary).pipe(
    Effect.timeoutFail({
      duration: makeLimit,
      onTimeout: () => new BuildFailed({ what: name, output: `it took longer than ${Duration.format(makeLimit)}` })
    }),
    Effect.zipRight(attempt(path, () =>
      fs.rename(temporary, path).catch((cause: unknown) => {
        // Another process was quicker; its folder is as good.
        if (!["ENOTEMPTY", "EEXIST", "EPERM"].includes(codeOf(cause))) throw cause
      }))),
    Effect.ensuring(Effect.ignore(remove(temporary)))
  )
  return path
})
