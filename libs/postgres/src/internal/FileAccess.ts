/** Files as the embedded server needs them: faults in words, atomic small files, and who may reach what. */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { dirname } from "node:path"
import { ClusterUnusable } from "../EmbeddedPostgresError.ts"
import type { Account } from "./Subprocess.ts"

const words: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the file system is read-only",
  EACCES: "permission denied (was it made by another user?)",
  EPERM: "permission denied (was it made by another user?)",
  ENOTDIR: "a file stands where a folder is needed"
}

export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

export const reasonOf = (cause: unknown): string => {
  const known = words[codeOf(cause)]
  const said = cause instanceof Error ? cause.message : String(cause)
  return known === undefined ? said : `${known} (${said})`
}

/** A call to the file system, about `path`. */
export const attempt = <A>(path: string, call: () => Promise<A>): Effect.Effect<A, ClusterUnusable> =>
  Effect.tryPromise({ try: call, catch: (cause) => new ClusterUnusable({ path, reason: reasonOf(cause) }) })

/** The file's text, or undefined where there is none. */
export const readIfThere = (path: string): Effect.Effect<string | undefined, ClusterUnusable> =>
  attempt(path, () =>
    fs.readFile(path, "utf8").catch((cause: unknown) => {
      if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR") return undefined
      throw cause
    })
  )

export const exists = (path: string): Effect.Effect<boolean> =>
  Effect.promise(() => fs.lstat(path).then(() => true, () => false))

export const syncPath = (path: string) =>
  attempt(path, () => fs.open(path, "r").then((handle) => handle.sync().finally(() => handle.close())))

/** Writes a file that is whole and durable when it shows; `mode` from its first instant. */
export const writeDurable = Effect.fnUntraced(function*(path: string, text: string, mode: number, unique: string) {
  const temporary = `${path}.${unique}`
  yield* attempt(path, () => fs.writeFile(temporary, text, { mode, flush: true, flag: "wx" }))
  yield* attempt(path, () => fs.rename(temporary, path))
  yield* syncPath(dirname(path))
})

/** Whether an account may pass through every folder down to `path`, by the permission bits. */
export const reachable = (path: string, account: Account): Effect.Effect<boolean, ClusterUnusable> =>
  Effect.gen(function*() {
    if (account === undefined) return true
    for (let at = path; ; at = dirname(at)) {
      const stat = yield* attempt(at, () => fs.stat(at))
      const bit = stat.uid === account.uid ? 0o100 : stat.gid === account.gid ? 0o010 : 0o001
      if ((stat.mode & bit) === 0) return false
      if (at === dirname(at)) return true
    }
  })
