/**
 * Where a data directory's cluster lies, and how it comes into being.
 *
 * `<home>/cluster/data` is PGDATA, `<home>/cluster/password` the superuser's password (mode 0600, the starting user's),
 * so that one rename of `cluster` makes both appear: of two processes that initialise at once one wins, and a half-made
 * cluster is never used. `<home>` is `<dataDir>/postgres`, or, where the server's account cannot reach that, a folder
 * that `<dataDir>/postgres/location.json` names.
 */
import { Effect, Schema } from "effect"
import { createHash, randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { ClusterOfOtherVersion, ClusterUnusable } from "../EmbeddedPostgresError.ts"
import { type Binaries, program } from "./Binaries.ts"
import { attempt, codeOf, exists, reachable, readIfThere, reasonOf, syncPath, writeDurable } from "./FileAccess.ts"
import { type Account, run } from "./Subprocess.ts"
import { systemFolder } from "./SystemFolder.ts"

export const userName = "voltlake"
export const databaseName = "lakehouse"

/** nobody and nogroup: PostgreSQL refuses root, and this account exists everywhere and owns nothing. */
const unprivileged = { uid: 65534, gid: 65534 } as const

export interface Home {
  readonly folder: string
  readonly account: Account
}

export interface Cluster extends Home {
  /** PGDATA. */
  readonly data: string
  readonly password: string
  readonly log: string
}

const Location = Schema.parseJson(Schema.Struct({
  folder: Schema.String,
  /** Whether a cluster was made there, and so must be there. */
  made: Schema.Boolean
}))
type Location = typeof Location.Type

/** A name that no other process or earlier run uses. */
export const uniqueName = Effect.sync(() => `${process.pid}-${randomBytes(6).toString("hex")}`)

const isRoot = () => process.geteuid?.() === 0

export const serverAccount = (): Account => (isRoot() ? unprivileged : undefined)

const readLocation = Effect.fnUntraced(function*(path: string) {
  const text = yield* readIfThere(path)
  if (text === undefined) return undefined
  return yield* Effect.mapError(
    Schema.decode(Location)(text),
    (error) => new ClusterUnusable({ path, reason: `the file cannot be read: ${error.message}` })
  )
})

const encodeLocation = Schema.encodeSync(Location)

/** Chooses a folder elsewhere and notes it in the data directory; of several that choose at once, one choice stands. */
const chooseElsewhere = Effect.fnUntraced(function*(
  near: string,
  noted: string,
  account: Account,
  among: ReadonlyArray<string>
) {
  const parent = yield* systemFolder(among, account)
  const unique = yield* uniqueName
  // The path's hash tells whose it is; the random part keeps a new data directory at an old path from meeting the old
  // one's cluster.
  const hash = createHash("sha256").update(near).digest("hex").slice(0, 16)
  const choice: Location = { folder: join(parent, `${hash}-${randomBytes(4).toString("hex")}`), made: false }
  const temporary = `${noted}.${unique}`
  yield* attempt(noted, () => fs.writeFile(temporary, encodeLocation(choice), { flush: true }))
  yield* attempt(noted, () =>
    fs.link(temporary, noted).catch((cause: unknown) => {
      if (codeOf(cause) !== "EEXIST") throw cause
    }).finally(() => fs.rm(temporary, { force: true })))
  yield* syncPath(near)
  return (yield* readLocation(noted)) ?? choice
})

const findNoted = (near: string) => readLocation(join(near, "location.json"))

const makeFolder = (path: string) =>
  Effect.zipRight(
    attempt(path, () => fs.mkdir(path, { recursive: true })),
    // Whatever the umask: the account has to pass. What is secret below has a mode of its own.
    isRoot() ? attempt(path, () => fs.chmod(path, 0o755)) : Effect.void
  )

/** Decides where the cluster lies, making folders; remembers the choice. */
export const chooseHome = Effect.fn("Cluster.chooseHome")(function*(dataDir: string, among: ReadonlyArray<string>) {
  yield* attempt(dataDir, () => fs.mkdir(dataDir, { recursive: true }))
  const near = join(yield* attempt(dataDir, () => fs.realpath(dataDir)), "postgres")
  const account = serverAccount()
  yield* makeFolder(near)
  if (yield* exists(join(near, "cluster"))) return { folder: near, account: yield* ownerOf(near) }
  const noted = yield* findNoted(near)
  if (noted === undefined && (yield* reachable(near, account))) return { folder: near, account }
  const location = noted ?? (yield* chooseElsewhere(near, join(near, "location.json"), account, among))
  if (location.made && !(yield* exists(join(location.folder, "cluster")))) {
    return yield* new ClusterUnusable({
      path: location.folder,
      reason: `${near}/location.json names it, but it is gone; restore it, or remove the data directory to begin anew`
    })
  }
  yield* makeFolder(location.folder)
  return { folder: location.folder, account: location.made ? yield* ownerOf(location.folder) : account }
})

/** A cluster that an ordinary user made is served under that user's account also when root starts it. */
const ownerOf = Effect.fnUntraced(function*(folder: string) {
  const data = join(folder, "cluster", "data")
  const { uid, gid } = yield* attempt(data, () => fs.stat(data))
  if (!isRoot()) {
    if (uid === process.geteuid?.() || process.platform === "win32") return undefined
    return yield* new ClusterUnusable({ path: data, reason: `it belongs to user ${uid}; run as that user or as root` })
  }
  if (!(yield* reachable(folder, { uid, gid }))) {
    return yield* new ClusterUnusable({
      path: data,
      reason: `the server runs as user ${uid}, who cannot pass through the folders above any more; permit that again`
    })
  }
  return { uid, gid }
})

/** Where the cluster lies, changing nothing; undefined where there is none. */
export const findHome = Effect.fn("Cluster.findHome")(function*(dataDir: string) {
  const near = join(dataDir, "postgres")
  if (yield* exists(join(near, "cluster"))) return near
  const noted = yield* findNoted(near)
  return noted !== undefined && (yield* exists(join(noted.folder, "cluster"))) ? noted.folder : undefined
})

export const open = Effect.fn("Cluster.open")(function*(home: Home) {
  const folder = join(home.folder, "cluster")
  const password = yield* readIfThere(join(folder, "password"))
  if (password === undefined) {
    return yield* new ClusterUnusable({ path: folder, reason: "its password file is missing" })
  }
  const cluster: Cluster = { ...home, data: join(folder, "data"), password, log: join(home.folder, "server.log") }
  return cluster
})

const chown = (path: string, account: Account) =>
  account === undefined ? Effect.void : attempt(path, () => fs.chown(path, account.uid, account.gid))

const checkedRun = Effect.fnUntraced(function*(
  path: string,
  command: string,
  args: ReadonlyArray<string>,
  account: Account,
  input?: string
) {
  const { exitCode, output } = yield* Effect.mapError(
    run(command, args, account, input),
    (cause) => new ClusterUnusable({ path, reason: reasonOf(cause) })
  )
  if (exitCode === 0) return
  const full = output.includes("No space left on device") ? "the disk is full: " : ""
  return yield* new ClusterUnusable({ path, reason: `${full}making it failed: ${output.trim().slice(-2000)}` })
})

/** Fills `folder` with `data` and `password`. */
const initialise = Effect.fnUntraced(function*(folder: string, binaries: Binaries, account: Account) {
  const data = join(folder, "data")
  // From the system's cryptographic generator: Effect's Random is not one.
  const password = randomBytes(24).toString("base64url")
  const handedOver = join(folder, "initial-password")
  yield* attempt(folder, () => fs.mkdir(data, { recursive: true, mode: 0o700 }))
  yield* attempt(folder, () => fs.chmod(folder, 0o755))
  yield* chown(data, account)
  yield* attempt(handedOver, () => fs.writeFile(handedOver, password, { mode: 0o600 }))
  yield* chown(handedOver, account)
  // Passwords over loopback only; no Unix sockets, whose folders would need care of their own.
  yield* checkedRun(folder, program(binaries, "initdb"), [
    "-D", data, "-U", userName, `--pwfile=${handedOver}`, "--auth=scram-sha-256", "--encoding=UTF8",
    "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"
  ], account)
  yield* attempt(handedOver, () => fs.rm(handedOver))
  const access = join(data, "pg_hba.conf")
  yield* attempt(access, () => fs.writeFile(access, "host all all 127.0.0.1/32 scram-sha-256\n", { flush: true }))
  // In single-user mode, so that the database is there before anybody can see the cluster.
  const singleUser = ["--single", "-D", data, "postgres"]
  yield* checkedRun(folder, program(binaries, "postgres"), singleUser, account, `CREATE DATABASE ${databaseName};\n`)
  yield* writeDurable(join(folder, "password"), password, 0o600, "new")
})

/** A folder of a process that died while making a cluster; making one takes seconds. */
const unfinishedAgeMaxMs = 60 * 60 * 1000

const removeUnfinished = Effect.fnUntraced(function*(home: string, nowMs: number) {
  const names = yield* attempt(home, () => fs.readdir(home))
  for (const name of names.filter((found) => found.startsWith("cluster.new-"))) {
    const path = join(home, name)
    const stat = yield* attempt(path, () => fs.stat(path))
    if (nowMs - stat.mtimeMs < unfinishedAgeMaxMs) continue
    yield* attempt(path, () => fs.rm(path, { recursive: true, force: true }))
  }
})

const make = Effect.fnUntraced(function*(home: Home, binaries: Binaries, nowMs: number) {
  yield* Effect.ignore(removeUnfinished(home.folder, nowMs))
  const fresh = join(home.folder, `cluster.new-${yield* uniqueName}`)
  const final = join(home.folder, "cluster")
  yield* initialise(fresh, binaries, home.account).pipe(
    Effect.zipRight(
      attempt(final, () =>
        fs.rename(fresh, final).catch((cause: unknown) => {
          // Another process was quicker; its cluster is the one.
          if (!["ENOTEMPTY", "EEXIST", "EPERM"].includes(codeOf(cause))) throw cause
        }))
    ),
    Effect.ensuring(Effect.promise(() => fs.rm(fresh, { recursive: true, force: true })))
  )
  yield* syncPath(home.folder)
})

const noteMade = Effect.fnUntraced(function*(dataDir: string) {
  const noted = join(dataDir, "postgres", "location.json")
  const location = yield* readLocation(noted)
  if (location === undefined || location.made) return
  yield* writeDurable(noted, encodeLocation({ ...location, made: true }), 0o644, yield* uniqueName)
})

/** The cluster of a data directory, made where there is none yet. */
export const ensure = Effect.fn("Cluster.ensure")(function*(
  dataDir: string,
  home: Home,
  binaries: Binaries,
  nowMs: number
) {
  if (!(yield* exists(join(home.folder, "cluster")))) yield* make(home, binaries, nowMs)
  yield* noteMade(dataDir)
  const cluster = yield* open(home)
  const found = ((yield* readIfThere(join(cluster.data, "PG_VERSION"))) ?? "none").trim()
  if (found !== binaries.major) {
    return yield* new ClusterOfOtherVersion({ path: cluster.data, found, expected: binaries.major })
  }
  return cluster
})
