/**
 * The server's process: whether one runs on a cluster, starting it so that it outlives this process, stopping it.
 *
 * `postmaster.pid` in PGDATA is PostgreSQL's own lock and status: process id, folder, start time, port, …, state, a
 * line each.
 */
import { Clock, Duration, Effect, Option, Schedule } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import { ServerStartFailed } from "../EmbeddedPostgresError.ts"
import { type Binaries, program } from "./Binaries.ts"
import type { Cluster } from "./Cluster.ts"
import { attempt, readIfThere, reasonOf } from "./FileAccess.ts"
import { environment, run } from "./Subprocess.ts"

export type ServerState =
  | { readonly _tag: "Absent" }
  /** Starting, recovering or stopping. */
  | { readonly _tag: "Busy"; readonly pid: number }
  | { readonly _tag: "Ready"; readonly pid: number; readonly port: number }

const absent: ServerState = { _tag: "Absent" }
const stateEvery = Duration.millis(25)
const stopLimit = Duration.seconds(20)
const portAttemptsMax = 5
const sessionAttemptsMax = 100
const logBytesMax = 8 * 1024 * 1024
const logTailChars = 2000

const settings: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  cluster_name: "voltlake",
  max_connections: "100",
  shared_buffers: "128MB",
  // One server and no replicas: less to write and no senders.
  wal_level: "minimal",
  max_wal_senders: "0",
  min_wal_size: "256MB",
  max_wal_size: "1GB",
  fsync: "on",
  synchronous_commit: "on",
  jit: "off",
  // Containers give little shared memory, and statements here are small.
  max_parallel_workers_per_gather: "0",
  timezone: "UTC",
  log_timezone: "UTC",
  // What fails is told to the client that asked; the log is for the server's own life.
  log_min_messages: "log",
  log_checkpoints: "off"
}

const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    return typeof cause === "object" && cause !== null && "code" in cause && cause.code === "EPERM"
  }
}

const commandOf = (pid: number) => {
  if (process.platform === "linux") {
    return Effect.promise(() => fs.readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => undefined))
  }
  return run("/bin/ps", ["-ww", "-o", "command=", "-p", String(pid)], undefined).pipe(
    Effect.map(({ exitCode, output }) => (exitCode === 0 ? output : "")),
    Effect.catchAll(() => Effect.succeed(undefined))
  )
}

/**
 * Whether a living process is a server on this cluster. After a restart of the machine or container its number may be
 * another program's. Where the system does not tell, it is believed, and PostgreSQL decides when it starts.
 */
const serves = (pid: number, data: string) =>
  Effect.map(commandOf(pid), (command) => command === undefined || command.includes(data))

const parse = (text: string) => {
  const lines = text.split("\n")
  return { pid: Math.abs(Number(lines[0])), port: Number(lines[3]), ready: (lines[7] ?? "").trim() === "ready" }
}

export const inspect = Effect.fnUntraced(function*(data: string) {
  const text = yield* readIfThere(join(data, "postmaster.pid"))
  if (text === undefined) return absent
  const { pid, port, ready } = parse(text)
  if (!(pid > 0) || !alive(pid) || !(yield* serves(pid, data))) return absent
  return ready && port > 0 ? ({ _tag: "Ready", pid, port } as const) : ({ _tag: "Busy", pid } as const)
})

/** Removes a lock file that names a living process which is no server: PostgreSQL itself would refuse to start. */
const removeForeignLock = Effect.fnUntraced(function*(data: string) {
  const path = join(data, "postmaster.pid")
  const text = yield* readIfThere(path)
  if (text === undefined) return
  const { pid } = parse(text)
  if (!(pid > 0) || !alive(pid) || (yield* serves(pid, data))) return
  // A server that another process started meanwhile has written its own.
  if ((yield* readIfThere(path)) === text) yield* attempt(path, () => fs.rm(path, { force: true }))
})

const portFree = (port: number) =>
  Effect.async<number | undefined>((resume) => {
    const server = createServer()
    server.on("error", () => resume(Effect.succeed(undefined)))
    server.listen(port, "127.0.0.1", () => {
      const address = server.address()
      const found = typeof address === "object" && address !== null ? address.port : undefined
      server.close(() => resume(Effect.succeed(found)))
    })
  })

/**
 * The wanted port, else the last start's, if it is still free, so that tools that were told an address go on working;
 * otherwise any free one.
 */
const choosePort = Effect.fnUntraced(function*(data: string, attempted: number, wanted: number | undefined) {
  const options = yield* readIfThere(join(data, "postmaster.opts"))
  const last = wanted ?? Number(/"-p" "(\d+)"/.exec(options ?? "")?.[1])
  const kept = last > 0 && attempted === 0 ? yield* portFree(last) : undefined
  return kept ?? (yield* portFree(0)) ?? 0
})

const openLog = (cluster: Cluster) =>
  Effect.acquireRelease(
    attempt(cluster.log, () =>
      fs.stat(cluster.log).then(
        (stat) => (stat.size > logBytesMax ? fs.rename(cluster.log, `${cluster.log}.1`) : undefined),
        () => undefined
      ).then(() => fs.open(cluster.log, "a", 0o600))),
    (handle) => Effect.promise(() => handle.close())
  )

const tailFrom = (path: string, offset: number) =>
  Effect.promise(() => fs.readFile(path).catch(() => Buffer.alloc(0))).pipe(
    Effect.map((bytes) => bytes.subarray(offset).toString().trim().slice(-logTailChars))
  )

interface Attempt {
  readonly exited: () => string | undefined
  readonly logOffset: number
}

/** Starts the program detached: it keeps running, and writing its log, when this process is gone. */
const launch = Effect.fnUntraced(function*(cluster: Cluster, binaries: Binaries, port: number) {
  const log = yield* openLog(cluster)
  const { size } = yield* attempt(cluster.log, () => log.stat())
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  return yield* Effect.sync((): Attempt => {
    let exited: string | undefined
    const child = spawn(program(binaries, "postgres"), ["-D", cluster.data, "-p", String(port), ...flags], {
      ...cluster.account,
      cwd: "/",
      env: environment,
      detached: true,
      stdio: ["ignore", log.fd, log.fd]
    })
    child.on("error", (cause) => {
      exited = reasonOf(cause)
    })
    child.on("exit", (code, signal) => {
      exited = `it ended with ${code === null ? `signal ${signal}` : `code ${code}`}`
    })
    child.unref()
    return { exited: () => exited, logOffset: size }
  })
}, Effect.scoped)

/**
 * Launches, and sees the server's lock file appear or its end: an interrupted starter can then tell that there is one
 * to stop.
 */
const launchVisibly = Effect.fnUntraced(function*(cluster: Cluster, binaries: Binaries, port: number) {
  const launched = yield* launch(cluster, binaries, port)
  while (launched.exited() === undefined && (yield* inspect(cluster.data))._tag === "Absent") {
    yield* Effect.sleep(stateEvery)
  }
  return launched
}, Effect.uninterruptible)

/** Starts a server. Answers when one is ready (another process's may have won), or when ours ended, with why. */
const start = Effect.fnUntraced(function*(
  cluster: Cluster,
  binaries: Binaries,
  attempted: number,
  deadlineMs: number,
  wanted: number | undefined
) {
  yield* removeForeignLock(cluster.data)
  const port = yield* choosePort(cluster.data, attempted, wanted)
  const { exited, logOffset } = yield* launchVisibly(cluster, binaries, port)
  for (;;) {
    const state = yield* inspect(cluster.data)
    if (state._tag === "Ready") return undefined
    const how = exited()
    if (how !== undefined) return { how, log: yield* tailFrom(cluster.log, logOffset) }
    if ((yield* Clock.currentTimeMillis) > deadlineMs) {
      return { how: "it took too long to get ready", log: yield* tailFrom(cluster.log, logOffset) }
    }
    yield* Effect.sleep(stateEvery)
  }
})

const startFailed = (cluster: Cluster, how: string, log: string) => {
  const reason = log.includes("No space left on device")
    ? "the disk is full"
    : log.includes("database files are incompatible with server")
    ? "the cluster is of another version"
    : how
  return new ServerStartFailed({ path: cluster.data, reason, log })
}

/**
 * Waits for the server of a cluster to be ready, starting one where none runs, on `port` where that is free. Recovery
 * after a crash counts as waiting.
 */
export const ensureRunning = Effect.fn("ServerProcess.ensureRunning")(function*(
  cluster: Cluster,
  binaries: Binaries,
  limit: Duration.Duration,
  port?: number
) {
  const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(limit)
  let attempted = 0
  for (;;) {
    const state = yield* inspect(cluster.data)
    if (state._tag === "Ready") return state
    if ((yield* Clock.currentTimeMillis) > deadline) {
      const how = `it was not ready after ${Duration.format(limit)}`
      return yield* startFailed(cluster, how, yield* tailFrom(cluster.log, 0))
    }
    if (state._tag === "Absent") {
      const failure = yield* start(cluster, binaries, attempted, deadline, port)
      // Two starters at once: one of the servers gives way, and the other's is good for both.
      const lostRace = failure !== undefined &&
        ((yield* inspect(cluster.data))._tag !== "Absent" || failure.log.includes("postmaster.pid\" already exists"))
      const portTaken = failure?.log.includes("could not create any TCP/IP sockets") === true
      // A server that was killed leaves sessions, which notice and end within moments.
      const sessionsLeft = failure?.log.includes("pre-existing shared memory block") === true
      const again = lostRace ||
        (portTaken && attempted < portAttemptsMax) ||
        (sessionsLeft && attempted < sessionAttemptsMax)
      if (failure !== undefined && !again) {
        return yield* startFailed(cluster, failure.how, failure.log)
      }
      attempted++
    }
    yield* Effect.sleep(stateEvery)
  }
})

/** Fast shutdown: ends all sessions, writes everything out. Returns when the process is gone. */
export const stop = Effect.fn("ServerProcess.stop")(function*(cluster: Cluster, binaries: Binaries) {
  const state = yield* inspect(cluster.data)
  if (state._tag === "Absent") return
  // Asks only: the wait below sees the process itself, and has the limit.
  const stopping = ["stop", "-D", cluster.data, "-m", "fast", "-W"]
  yield* run(program(binaries, "pg_ctl"), stopping, cluster.account)
  // The process outlives its lock file by a moment. One that is dead but not reaped has no command line any more.
  const running = Effect.suspend(() => (alive(state.pid) ? serves(state.pid, cluster.data) : Effect.succeed(false)))
  const gone = yield* running.pipe(
    Effect.repeat({ while: (still) => still, schedule: Schedule.spaced(stateEvery) }),
    // Most often called by a finalizer, where a limit counts only over what may be interrupted.
    Effect.interruptible,
    Effect.timeoutOption(stopLimit)
  )
  if (Option.isNone(gone)) {
    yield* Effect.logWarning("the embedded PostgreSQL has not ended yet").pipe(Effect.annotateLogs({ pid: state.pid }))
  }
})
