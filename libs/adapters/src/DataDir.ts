/**
 * The data directory: what lies on this machine. In an embedded lake all of it, otherwise caches.
 *
 * `voltlake.json` names its format and the path at which it was made. Iceberg names files by absolute location, so the directory cannot be moved.
 */
import { FileSystem, Path } from "@effect/platform"
import { Clock, Config, Duration, Effect, Either, Option, Random, Schema } from "effect"

/** Most silver processes over one directory. */
const keyIndexesMax = 16

/** Raised when an older version could no longer work with the directory. */
export const formatVersion = 1

const Description = Schema.parseJson(Schema.Struct({ format: Schema.Int, path: Schema.String }))

export class DataDirUnusable extends Schema.TaggedError<DataDirUnusable>()("DataDirUnusable", {
  path: Schema.String,
  reason: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `data directory ${this.path} cannot be used: ${this.reason}. ${this.remedy}`
  }
}

export interface DataDir {
  readonly path: string
  readonly warehouse: string
  readonly cache: string
  /** Files that may hold silver's key index: of several silver processes over this directory each has one. */
  readonly keyIndexes: readonly [string, ...ReadonlyArray<string>]
  readonly scratch: string
}

export const pathConfig: Config.Config<string> = Config.nonEmptyString("VOLTLAKE_DATA_DIR").pipe(
  Config.withDefault("./.voltlake"),
  Config.withDescription("Folder of what lies on this machine: caches, and database and tables where they are on no server. Cannot be moved later")
)

const describe = (path: string, error: unknown) =>
  new DataDirUnusable({
    path,
    reason: error instanceof Error ? error.message : String(error),
    remedy: "Choose another with --data-dir, or mend its permissions."
  })

/** Appears whole or not at all, and of several first processes one writes it. */
const writeDescription = Effect.fnUntraced(function*(path: string, file: string) {
  const fs = yield* FileSystem.FileSystem
  const temporary = `${file}.${yield* Random.nextIntBetween(0, 2 ** 31)}.tmp`
  const text = Schema.encodeSync(Description)({ format: formatVersion, path })
  yield* Effect.scoped(Effect.gen(function*() {
    const opened = yield* fs.open(temporary, { flag: "wx" })
    yield* opened.writeAll(new TextEncoder().encode(text))
    yield* opened.sync
  }))
  // Fails where another was first: theirs counts.
  yield* Effect.ignore(fs.link(temporary, file))
  yield* fs.remove(temporary)
  // A lake made inside a repository is none of its files.
  yield* Effect.ignore(fs.writeFileString(`${path}/.gitignore`, "*\n", { flag: "wx" }))
})

const checkDescription = Effect.fnUntraced(function*(path: string, file: string) {
  const fs = yield* FileSystem.FileSystem
  if (!(yield* fs.exists(file))) yield* writeDescription(path, file)
  const decoded = Schema.decodeEither(Description)(yield* fs.readFileString(file))
  if (Either.isLeft(decoded)) {
    return yield* new DataDirUnusable({
      path,
      reason: "its voltlake.json is damaged",
      remedy: `It should read {"format": ${formatVersion}, "path": "${path}"}.`
    })
  }
  if (decoded.right.format > formatVersion) {
    return yield* new DataDirUnusable({
      path,
      reason: `it has format ${decoded.right.format}, and this version of Voltlake knows formats up to ${formatVersion}`,
      remedy: "Use the newer version of Voltlake that made it, or another directory."
    })
  }
  if (decoded.right.path !== path) {
    return yield* new DataDirUnusable({
      path,
      reason: `it was made at ${decoded.right.path}, and Iceberg tables name their files by absolute path`,
      remedy: `Move it back to ${decoded.right.path}, or begin with a new directory.`
    })
  }
})

/** Of another host (a container that is gone has one too) nobody here knows whether it lives. */
const foreignAgeMax = Duration.days(1)

/** Folders of processes that no longer live are left by kill -9. Named `<host>-<pid>-<random>`, since hosts may share the directory. */
const removeDeadScratch = Effect.fnUntraced(function*(scratchRoot: string, { host, isAlive }: Process) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const nowMs = yield* Clock.currentTimeMillis
  for (const name of yield* fs.readDirectory(scratchRoot)) {
    const [, owner, pid] = /^(.+)-(\d+)-\d+$/.exec(name) ?? []
    const folder = path.join(scratchRoot, name)
    const changedMs = (yield* Effect.option(fs.stat(folder))).pipe(
      Option.flatMap((info) => info.mtime),
      Option.match({ onNone: () => nowMs, onSome: (time) => time.getTime() })
    )
    const isDead = owner === undefined ? true : owner === host ? !isAlive(Number(pid)) : nowMs - changedMs > Duration.toMillis(foreignAgeMax)
    if (isDead) yield* Effect.ignore(fs.remove(folder, { recursive: true }))
  }
})

/** The process that opens the directory. */
export interface Process {
  readonly pid: number
  readonly host: string
  readonly isAlive: (pid: number) => boolean
}

/** Opens the directory, making it where it is missing; its scratch folder is this process's own and goes with the scope. */
export const open = Effect.fn("DataDir.open")(function*(
  given: string,
  process: Process
) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const made = yield* fs.makeDirectory(paths.join(given, "cache"), { recursive: true }).pipe(
    Effect.zipRight(fs.realPath(given)),
    Effect.mapError((error) => describe(given, error))
  )
  const scratchRoot = paths.join(made, "scratch")
  const scratch = paths.join(scratchRoot, `${process.host}-${process.pid}-${yield* Random.nextIntBetween(0, 2 ** 31)}`)
  yield* checkDescription(made, paths.join(made, "voltlake.json")).pipe(
    Effect.zipRight(fs.makeDirectory(scratchRoot, { recursive: true })),
    Effect.zipRight(removeDeadScratch(scratchRoot, process)),
    Effect.zipRight(fs.makeDirectory(scratch, { recursive: true })),
    Effect.catchTags({
      SystemError: (error) => Effect.fail(describe(made, error)),
      BadArgument: (error) => Effect.fail(describe(made, error))
    })
  )
  yield* Effect.addFinalizer(() => Effect.ignore(fs.remove(scratch, { recursive: true })))
  const dir: DataDir = {
    path: made,
    warehouse: paths.join(made, "warehouse"),
    cache: paths.join(made, "cache"),
    keyIndexes: [
      paths.join(made, "cache", "silver-keys.duckdb"),
      ...Array.from({ length: keyIndexesMax - 1 }, (_, at) => paths.join(made, "cache", `silver-keys-${at + 1}.duckdb`))
    ],
    scratch
  }
  return dir
})
