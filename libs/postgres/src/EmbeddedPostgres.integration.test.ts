import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Redacted, Schedule, Scope } from "effect"
import { SqlClient } from "@effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { connect } from "./DedicatedConnection.ts"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import { acquire, urlOf } from "./EmbeddedPostgres.ts"
import { locate, packageFolder } from "./internal/Binaries.ts"
import { serverAccount } from "./internal/Cluster.ts"
import { BinariesMissing } from "./EmbeddedPostgresError.ts"
import * as Postgres from "./Postgres.ts"
import { bundle, start } from "./testing/NodeChild.ts"
import { temporaryFolder } from "./testing/TemporaryFolder.ts"

const asRoot = process.geteuid?.() === 0
const unprivileged = { uid: 65534, gid: 65534 }
const waitLimit = Duration.seconds(20)

const dataIn = (dataDir: string) => join(dataDir, "postgres", "cluster", "data")
const lockFile = (dataDir: string) => join(dataIn(dataDir), "postmaster.pid")
const serverPid = (dataDir: string) =>
  Effect.promise(() => fs.readFile(lockFile(dataDir), "utf8")).pipe(Effect.map((text) => Number(text.split("\n")[0])))

/** Linux only: a process that ended but was not reaped (its parent was killed) has no command line. */
const alive = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== ""
  } catch {
    return false
  }
}

const query = (url: Redacted.Redacted, text: string) =>
  Effect.scoped(Effect.flatMap(connect(url, "test"), (connection) => connection.query(text)))

/** Tries again until it succeeds, within a limit. */
const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, Schedule.spaced("50 millis").pipe(Schedule.upTo(waitLimit)))

describe("EmbeddedPostgres", () => {
  it.scopedLive("keeps what was written over a stop and a start, on the same port", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const first = yield* Effect.scoped(Effect.gen(function*() {
        const { port, url } = yield* acquire(dataDir)
        yield* query(url, "create table kept as select 42 as answer")
        return { port, pid: yield* serverPid(dataDir) }
      }))
      expect(alive(first.pid)).toBe(false)
      expect(yield* Effect.flip(urlOf(dataDir))).toMatchObject({ _tag: "NoServerRunning", dataDir })
      yield* Effect.scoped(Effect.gen(function*() {
        const { port, url } = yield* acquire(dataDir)
        expect(port).toBe(first.port)
        expect(yield* query(url, "select answer from kept")).toEqual([{ answer: 42 }])
        expect(Redacted.value(yield* urlOf(dataDir))).toBe(Redacted.value(url))
      }))
    }))

  it.scopedLive("runs without a user until it is stopped, on the port that was asked for, and can be removed", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const first = yield* EmbeddedPostgres.start(dataDir)
      yield* EmbeddedPostgres.stop(dataDir)
      expect(alive(first.pid)).toBe(false)
      const other = yield* temporaryFolder
      const wanted = (yield* EmbeddedPostgres.start(other)).port
      yield* EmbeddedPostgres.stop(other)
      const started = yield* EmbeddedPostgres.start(dataDir, wanted)
      expect(started.port).toBe(wanted)
      expect(yield* query(started.url, "select 42 as answer")).toEqual([{ answer: 42 }])
      expect(started.pid).toBe(yield* serverPid(dataDir))
      yield* EmbeddedPostgres.remove(dataDir)
      expect(alive(started.pid)).toBe(false)
      expect(yield* Effect.promise(() => fs.readdir(dataDir))).toEqual([])
      yield* EmbeddedPostgres.stop(dataDir)
    }))

  it.scopedLive("lets nobody in without the password, which only the owner can read", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const { port, url } = yield* acquire(dataDir)
      const path = join(dataDir, "postgres", "cluster", "password")
      expect((yield* Effect.promise(() => fs.stat(path))).mode & 0o777).toBe(0o600)
      const password = yield* Effect.promise(() => fs.readFile(path, "utf8"))
      expect(Redacted.value(url)).toContain(password)
      expect(String(url)).not.toContain(password)
      const wrong = Redacted.make(`postgres://voltlake:wrong@127.0.0.1:${port}/lakehouse`)
      expect(yield* Effect.flip(query(wrong, "select 1"))).toMatchObject({ cause: { code: "28P01" } })
      const log = yield* Effect.promise(() => fs.readFile(join(dataDir, "postgres", "server.log"), "utf8"))
      expect(log).not.toContain(password)
    }))

  it.scopedLive("outlives a killed process and is taken over by the next", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const script = yield* bundle(new URL("./testing/embeddedUser.ts", import.meta.url))
      const owner = yield* start(script, [dataDir])
      const port = Number((yield* owner.line("ready")).split(" ")[1])
      const pid = yield* serverPid(dataDir)
      yield* owner.kill("SIGKILL")
      expect(yield* owner.ended).toBe("SIGKILL")
      expect(alive(pid)).toBe(true)
      yield* Effect.scoped(Effect.gen(function*() {
        const joined = yield* acquire(dataDir)
        expect(joined.port).toBe(port)
        expect(yield* serverPid(dataDir)).toBe(pid)
      }))
      // The killed user does not count any more.
      expect(alive(pid)).toBe(false)
    }))

  it.scopedLive("is one server for processes that start at once, and the last to leave stops it", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const script = yield* bundle(new URL("./testing/embeddedUser.ts", import.meta.url))
      const children = yield* Effect.forEach([1, 2, 3], () => start(script, [dataDir]))
      const ready = yield* Effect.forEach(children, (child) => child.line("ready"), { concurrency: "unbounded" })
      expect(new Set(ready).size).toBe(1)
      const pid = yield* serverPid(dataDir)
      const names = yield* Effect.promise(() => fs.readdir(join(dataDir, "postgres")))
      expect(names.filter((name) => name.startsWith("cluster"))).toEqual(["cluster"])
      for (const [index, child] of children.entries()) {
        expect(alive(pid)).toBe(true)
        yield* child.say("leave")
        expect(yield* child.ended).toBe(0)
        if (index < children.length - 1) yield* query(yield* urlOf(dataDir), "select 1")
      }
      expect(alive(pid)).toBe(false)
    }))

  it.scopedLive("serves whoever comes while the last one leaves", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const visit = Effect.scoped(Effect.flatMap(acquire(dataDir), ({ url }) => query(url, "select 1 as one")))
      yield* visit
      const rounds = Effect.forEach([1, 2, 3, 4], () => visit)
      const seen = yield* Effect.all([rounds, rounds, rounds], { concurrency: "unbounded" })
      expect(seen.flat(2)).toEqual(Array.from({ length: 12 }, () => ({ one: 1 })))
      yield* Effect.flip(urlOf(dataDir))
    }))

  it.scopedLive("starts again, on the same port, when the server dies under its users", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient
        yield* sql`create table kept as select 7 as answer`
        const pid = yield* serverPid(dataDir)
        process.kill(pid, "SIGKILL")
        // Sessions of the old one may answer for a moment yet.
        yield* eventually(Effect.filterOrFail(serverPid(dataDir), (now) => now !== pid && alive(now)))
        expect(yield* eventually(sql`select answer from kept`)).toEqual([{ answer: 7 }])
      }).pipe(Effect.provide(Postgres.embedded(dataDir)))
      yield* Effect.flip(urlOf(dataDir))
    }))

  it.scopedLive("is not stopped by a lock file left by a crash of the machine", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      yield* Effect.scoped(acquire(dataDir))
      // Its number may be nobody's now, or another program's of the same account, which PostgreSQL takes for a server.
      const other = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], {
            ...(asRoot ? unprivileged : {}),
            cwd: "/",
            stdio: "ignore"
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const gone = spawn(process.execPath, ["-e", ""], { stdio: "ignore" })
      yield* Effect.promise(() => new Promise((resolve) => gone.on("exit", resolve)))
      for (const pid of [gone.pid, other.pid]) {
        const text = `${pid}\n${dataIn(dataDir)}\n1700000000\n5432\n\n127.0.0.1\n  1234567     12345\nready   \n`
        yield* Effect.promise(() => fs.writeFile(lockFile(dataDir), text, { mode: 0o600 }))
        if (asRoot) yield* Effect.promise(() => fs.chown(lockFile(dataDir), 65534, 65534))
        expect(yield* Effect.flip(urlOf(dataDir))).toMatchObject({ _tag: "NoServerRunning" })
        yield* Effect.scoped(Effect.flatMap(acquire(dataDir), ({ url }) => query(url, "select 1")))
      }
      expect(other.exitCode).toBe(null)
    }))

  it.scopedLive("never uses a cluster that was only half made", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      const half = join(dataDir, "postgres", "cluster.new-1-dead")
      yield* Effect.promise(() => fs.mkdir(join(half, "data"), { recursive: true }))
      yield* Effect.promise(() => fs.utimes(half, 1, 1))
      yield* Effect.scoped(Effect.flatMap(acquire(dataDir), ({ url }) => query(url, "select 1")))
      const names = yield* Effect.promise(() => fs.readdir(join(dataDir, "postgres")))
      expect(names.filter((name) => name.startsWith("cluster"))).toEqual(["cluster"])
    }))

  it.scopedLive("names the version of a cluster that it cannot open", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      yield* Effect.scoped(acquire(dataDir))
      yield* Effect.promise(() => fs.writeFile(join(dataIn(dataDir), "PG_VERSION"), "17\n"))
      const error = yield* Effect.flip(acquire(dataDir))
      expect(error).toMatchObject({ _tag: "ClusterOfOtherVersion", found: "17", expected: "18" })
      expect(error.message).toContain("POSTGRES_URL")
    }))

  it.scopedLive("tells the last lines of the server's log where it does not start", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryFolder
      yield* Effect.scoped(acquire(dataDir))
      yield* Effect.promise(() => fs.appendFile(join(dataIn(dataDir), "postgresql.conf"), "\nno_such_setting = 1\n"))
      const error = yield* Effect.flip(acquire(dataDir))
      expect(error._tag).toBe("ServerStartFailed")
      expect(error.message).toContain("no_such_setting")
    }))

  it.scopedLive("says which platform has no server and what to do then", () =>
    Effect.gen(function*() {
      const none = Effect.fail(new BinariesMissing({ platform: "plan9-mips", reason: "the package is not installed" }))
      const error = yield* Effect.flip(locate(undefined, Effect.succeed("/nowhere"), "x", none))
      expect(error.message).toContain("no embedded PostgreSQL for plan9-mips: the package is not installed")
      expect(error.message).toContain("set POSTGRES_URL")
    }))
})

describe.runIf(asRoot)("EmbeddedPostgres for root", () => {
  it.scopedLive("keeps the cluster elsewhere where the server cannot reach the data directory", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const dataDir = join(folder, "home", "lake")
      yield* Effect.promise(() => fs.mkdir(join(folder, "home"), { mode: 0o700 }))
      const options = { systemFolders: [join(folder, "unusable\0"), folder] }
      yield* Effect.scoped(Effect.gen(function*() {
        const { url } = yield* acquire(dataDir, options)
        yield* query(url, "create table kept as select 42 as answer")
        expect(Redacted.value(yield* urlOf(dataDir))).toBe(Redacted.value(url))
      }))
      const named = JSON.parse(
        yield* Effect.promise(() => fs.readFile(join(dataDir, "postgres", "location.json"), "utf8"))
      ) as { folder: string; made: boolean }
      expect(named).toMatchObject({ made: true })
      expect(named.folder.startsWith(join(folder, "voltlake"))).toBe(true)
      yield* Effect.scoped(Effect.gen(function*() {
        const { url } = yield* acquire(dataDir, options)
        expect(yield* query(url, "select answer from kept")).toEqual([{ answer: 42 }])
      }))
      yield* Effect.promise(() => fs.rm(named.folder, { recursive: true }))
      const error = yield* Effect.flip(acquire(dataDir, options))
      expect(error).toMatchObject({ _tag: "ClusterUnusable", path: named.folder })
      expect(error.message).toContain("it is gone")
    }))

  it.scopedLive("copies programs that the server's account cannot reach, and makes the links they lack", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const hidden = join(folder, "hidden")
      const installed = yield* packageFolder
      yield* Effect.promise(() => fs.mkdir(hidden, { mode: 0o700 }))
      const whole = { recursive: true, verbatimSymlinks: true }
      yield* Effect.promise(() => fs.cp(installed, join(hidden, "package"), whole))
      const links = join(hidden, "package", "native", "lib")
      for (const name of yield* Effect.promise(() => fs.readdir(links))) {
        const path = join(links, name)
        if ((yield* Effect.promise(() => fs.lstat(path))).isSymbolicLink()) yield* Effect.promise(() => fs.rm(path))
      }
      const found = yield* locate(serverAccount(), Effect.succeed(folder), "x", Effect.succeed(join(hidden, "package")))
      expect(found.folder.startsWith(join(folder, "postgres-18"))).toBe(true)
      expect(found.major).toBe("18")
    }))
})

describe("DedicatedConnection", () => {
  it.scopedLive("tells that it is lost, and not that it was closed", () =>
    Effect.gen(function*() {
      const { url } = yield* acquire(yield* temporaryFolder)
      const scope = yield* Scope.make()
      const connection = yield* Scope.extend(connect(url, "test"), scope)
      const [row] = yield* connection.query("select pg_backend_pid() as pid")
      yield* query(url, `select pg_terminate_backend(${String(row?.["pid"])})`)
      yield* Effect.timeout(connection.lost, waitLimit)
      yield* Scope.close(scope, Exit.void)
    }))
})
