/**
 * A real PostgreSQL for one machine, from the programs that npm installed, under a data directory.
 *
 * It belongs to the data directory, not to a process: whoever comes first starts it, others use the same, and one that
 * was left running by a killed process is taken over. Every user holds a shared advisory lock; on leaving, whoever can
 * take it exclusively is the last, and stops the server. Tools that hold no lock (psql) keep nothing alive.
 *
 * Not guaranteed: that the port stays the same from one start to the next, though the last one is taken again where it
 * is free.
 */
import { Clock, Duration, Effect, ExecutionStrategy, Exit, Option, Redacted, Ref, Schedule, Scope } from "effect"
import type { SqlError } from "@effect/sql/SqlError"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { connect, type DedicatedConnection } from "./DedicatedConnection.ts"
import {
  ClusterUnusable,
  type EmbeddedPostgresError,
  NoServerRunning,
  ServerStartFailed
} from "./EmbeddedPostgresError.ts"
import { type Binaries, locate } from "./internal/Binaries.ts"
import * as Cluster from "./internal/Cluster.ts"
import { attempt } from "./internal/FileAccess.ts"
import { ensureRunning, inspect, stop as stopServer } from "./internal/ServerProcess.ts"
import { systemFolder, systemFolders } from "./internal/SystemFolder.ts"
import { faultOf } from "./SqlFault.ts"

/** Recovery after a crash reads up to `max_wal_size` again, which takes minutes on a slow disk. */
const startLimit = Duration.minutes(5)
const rejoinEvery = Duration.millis(200)
const leaveLimit = Duration.seconds(10)

/** Two-part keys, which PostgreSQL keeps apart from the one-part ones that others may use. */
const usersLock = "1869, 1"

export interface EmbeddedOptions {
  /** Where the cluster may lie when the server's account cannot reach the data directory, the best first. */
  readonly systemFolders: ReadonlyArray<string>
}

const urlAt = (cluster: Cluster.Cluster, port: number) =>
  Redacted.make(`postgres://${Cluster.userName}:${cluster.password}@127.0.0.1:${port}/${Cluster.databaseName}`)

interface Server {
  readonly cluster: Cluster.Cluster
  readonly binaries: Binaries
}

const prepare = Effect.fnUntraced(function*(dataDir: string, options: EmbeddedOptions) {
  const unique = yield* Cluster.uniqueName
  const home = yield* Cluster.chooseHome(dataDir, options.systemFolders)
  const copies = home.account === undefined
    ? Effect.succeed(home.folder)
    : systemFolder(options.systemFolders, home.account)
  const binaries = yield* locate(home.account, copies, unique)
  const cluster = yield* Cluster.ensure(dataDir, home, binaries, yield* Clock.currentTimeMillis)
  return { cluster, binaries }
})

interface Membership {
  readonly url: Redacted.Redacted
  readonly port: number
  readonly connection: DedicatedConnection
  /** Closes the connection. */
  readonly end: Effect.Effect<void>
}

/** Takes part: connects and holds the shared lock. Fails with SqlError while somebody is stopping the server. */
const takePart = Effect.fnUntraced(function*(server: Server) {
  const { port } = yield* ensureRunning(server.cluster, server.binaries, startLimit)
  const url = urlAt(server.cluster, port)
  const scope = yield* Effect.flatMap(Effect.scope, (outer) => Scope.fork(outer, ExecutionStrategy.sequential))
  const end = Scope.close(scope, Exit.void)
  const connection = yield* Effect.gen(function*() {
    const connection = yield* connect(url, "embedded user")
    // Waits for a user on its way out, who ends this session with the server; but not for one who hangs.
    yield* connection.query("set lock_timeout = '10s'")
    yield* connection.query(`select pg_advisory_lock_shared(${usersLock})`)
    return connection
  }).pipe(Scope.extend(scope), Effect.onError(() => end))
  return { url, port, connection, end } satisfies Membership
})

const giveUp = (server: Server) => (error: SqlError | EmbeddedPostgresError) => {
  if (error._tag !== "SqlError") return error
  const { code, reason } = faultOf(error)
  const path = server.cluster.data
  return code === "28P01"
    ? new ClusterUnusable({ path, reason: "the server does not accept the password kept beside it" })
    : new ServerStartFailed({ path, reason, log: "" })
}

const joinPatiently = (server: Server) =>
  takePart(server).pipe(
    Effect.retry({
      while: (error) => error._tag === "SqlError" && faultOf(error).code !== "28P01",
      schedule: Schedule.spaced(rejoinEvery).pipe(Schedule.upTo(startLimit))
    }),
    Effect.mapError(giveUp(server))
  )

/** Gives the shared lock back; whoever then gets the exclusive one is the last and stops the server. */
const leave = Effect.fnUntraced(function*(server: Server, connection: DedicatedConnection) {
  const isLast = yield* connection.query(`select pg_advisory_unlock_shared(${usersLock})`).pipe(
    Effect.zipRight(connection.query(`select pg_try_advisory_lock(${usersLock}) as last`)),
    Effect.map(([row]) => row?.["last"] === true),
    Effect.interruptible,
    Effect.timeoutOption(leaveLimit)
  )
  if (!Option.getOrElse(isLast, () => false)) return
  yield* Effect.logDebug("last user leaves, stopping the embedded PostgreSQL")
  yield* stopServer(server.cluster, server.binaries)
})

/**
 * On the way out without a membership, as in the middle of joining: whoever is last all the same stops what it started.
 */
const leaveUnjoined = Effect.fnUntraced(function*(server: Server) {
  if ((yield* inspect(server.cluster.data))._tag === "Absent") return
  yield* Effect.scoped(Effect.flatMap(takePart(server), ({ connection }) => leave(server, connection)))
}, Effect.interruptible, Effect.timeoutOption(leaveLimit))

/**
 * Makes sure that the data directory's server runs, and answers its URL. Until the scope closes, this process counts as
 * a user of it. If the server dies under us it is started again, on the same port where that is free.
 */
export const acquire = Effect.fn("EmbeddedPostgres.acquire")(function*(
  dataDir: string,
  options: EmbeddedOptions = { systemFolders }
) {
  const server = yield* prepare(dataDir, options)
  const current = yield* Ref.make(Option.none<Membership>())
  const outer = yield* Effect.scope
  // The memberships' scope closes after the finalizer below has used the connection.
  const scope = yield* Scope.fork(outer, ExecutionStrategy.sequential)
  yield* Effect.addFinalizer(() =>
    Effect.flatMap(Ref.get(current), Option.match({
      onNone: () => leaveUnjoined(server),
      onSome: ({ connection }) => leave(server, connection)
    })).pipe(
      Effect.catchAllCause((cause) => Effect.logDebug("leaving the embedded PostgreSQL failed", cause))
    )
  )
  const joined = yield* Scope.extend(joinPatiently(server), scope)
  yield* Ref.set(current, Option.some(joined))
  yield* Effect.forkScoped(Scope.extend(keepJoined(server, current, joined.port), scope))
  return { url: joined.url, port: joined.port }
})

/** Joins again whenever the connection is lost: without the lock another user would think itself the last. */
const keepJoined = (
  server: Server,
  current: Ref.Ref<Option.Option<Membership>>,
  port: number
): Effect.Effect<never, never, Scope.Scope> =>
  Effect.gen(function*() {
    const held = yield* Ref.get(current)
    if (Option.isSome(held)) yield* Effect.zipRight(held.value.connection.lost, held.value.end)
    yield* Ref.set(current, Option.none())
    yield* Effect.logWarning("connection to the embedded PostgreSQL lost, joining again")
    const joined = yield* joinPatiently(server)
    yield* Ref.set(current, Option.some(joined))
    if (joined.port !== port) {
      yield* Effect.logError("the embedded PostgreSQL is back on another port; this process has to be started again")
    }
  }).pipe(
    Effect.catchAll((error) =>
      Effect.zipRight(Effect.logError("the embedded PostgreSQL does not come back", error), Effect.sleep(rejoinEvery))
    ),
    Effect.forever
  )

export interface RunningServer {
  readonly url: Redacted.Redacted
  readonly port: number
  readonly pid: number
  /** Path of its log. */
  readonly log: string
}

/** The data directory's running server. Starts nothing. */
export const serverOf = Effect.fn("EmbeddedPostgres.serverOf")(function*(dataDir: string) {
  const folder = yield* Cluster.findHome(dataDir)
  if (folder === undefined) return yield* new NoServerRunning({ dataDir })
  const state = yield* inspect(join(folder, "cluster", "data"))
  if (state._tag !== "Ready") return yield* new NoServerRunning({ dataDir })
  const cluster = yield* Cluster.open({ folder, account: undefined })
  return { url: urlAt(cluster, state.port), port: state.port, pid: state.pid, log: cluster.log } satisfies RunningServer
})

/** The URL of the data directory's running server. Starts nothing. */
export const urlOf = (dataDir: string) => Effect.map(serverOf(dataDir), ({ url }) => url)

/**
 * Starts the data directory's server where none runs, without becoming a user of it: it runs until {@link stop}, unless
 * a user comes and is the last to leave. `port`, of 127.0.0.1, is taken where it is free; without one, the last start's.
 */
export const start = Effect.fn("EmbeddedPostgres.start")(function*(
  dataDir: string,
  port?: number,
  options: EmbeddedOptions = { systemFolders }
) {
  const { binaries, cluster } = yield* prepare(dataDir, options)
  yield* ensureRunning(cluster, binaries, startLimit, port)
  return yield* serverOf(dataDir)
})

/** Stops the data directory's server, whoever uses it. Does nothing where none runs. */
export const stop = Effect.fn("EmbeddedPostgres.stop")(function*(
  dataDir: string,
  options: EmbeddedOptions = { systemFolders }
) {
  if ((yield* Cluster.findHome(dataDir)) === undefined) return
  const { binaries, cluster } = yield* prepare(dataDir, options)
  yield* stopServer(cluster, binaries)
})

/** Stops the server and removes its data, wherever they lie. */
export const remove = Effect.fn("EmbeddedPostgres.remove")(function*(
  dataDir: string,
  options: EmbeddedOptions = { systemFolders }
) {
  yield* stop(dataDir, options)
  const folder = yield* Cluster.findHome(dataDir)
  for (const path of [folder, join(dataDir, "postgres")]) {
    if (path !== undefined) yield* attempt(path, () => rm(path, { recursive: true, force: true }))
  }
})
