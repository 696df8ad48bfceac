/**
 * Exclusive named locks that a process holds for as long as it lives and stays connected.
 *
 * The lock is a session's advisory lock: PostgreSQL gives it back the moment the session ends, however the process
 * ended. The row in `lake.lock_holder` only tells people who holds it. A holder that loses its connection has lost the
 * lock, and learns it by `lost`; it cannot learn it before somebody else may hold it, so what must never happen twice
 * needs a fence of its own (the commits have one).
 */
import { Clock, Duration, Effect, ExecutionStrategy, Exit, Schedule, Schema, Scope } from "effect"
import { SqlError } from "@effect/sql/SqlError"
import { hostname } from "node:os"
import { connect, type DedicatedConnection } from "./DedicatedConnection.ts"
import { fromSql } from "./Migrations.ts"
import { PostgresUrl } from "./PostgresUrl.ts"

export const migrations = [
  fromSql("postgres/create-lock-holder", `
    create table lake.lock_holder (
      name text primary key,
      backend_pid int not null,
      pid int not null,
      host text not null,
      started_at timestamptz not null default now(),
      purpose text not null
    )
  `)
]

/** Somebody else holds the lock. `pid` is 0 and `host` is `unknown` where the holder has not said yet. */
export class LockHeld extends Schema.TaggedError<LockHeld>()("LockHeld", {
  name: Schema.String,
  pid: Schema.Number,
  host: Schema.String,
  startedAt: Schema.DateFromSelf,
  purpose: Schema.String
}) {
  override get message() {
    const since = this.startedAt.toISOString()
    return `${this.name} is held by process ${this.pid} on ${this.host} since ${since} (${this.purpose})`
  }
}

export interface SessionLock {
  /** Succeeds when the lock is lost although its scope is open. */
  readonly lost: Effect.Effect<void>
}

/** First part of the advisory key; the second is the name's hash. */
const lockClass = 1870
/** How long a second comer waits: the session of a process killed this instant takes a moment to end. */
const patience = Duration.seconds(1)
const patienceEvery = Duration.millis(50)
const heartbeatEvery = Duration.seconds(5)
const heartbeatLimit = Duration.seconds(15)
const tidyLimit = Duration.seconds(2)

const holderOf = Effect.fnUntraced(function*(connection: DedicatedConnection, name: string) {
  // Only the row of the session that holds the lock now; a killed holder leaves its row behind.
  const [row] = yield* connection.query(
    `select h.pid, h.host, h.started_at, h.purpose
       from pg_locks l join lake.lock_holder h on h.backend_pid = l.pid and h.name = $2
      where l.locktype = 'advisory' and l.granted and l.classid = $1
        and l.objid::bigint = hashtext($2)::bigint & 4294967295 and l.objsubid = 2
        and l.database = (select oid from pg_database where datname = current_database())`,
    [lockClass, name]
  )
  return row === undefined
    ? new LockHeld({ name, pid: 0, host: "unknown", startedAt: new Date(0), purpose: "unknown" })
    : new LockHeld({
      name,
      pid: Number(row["pid"]),
      host: String(row["host"]),
      startedAt: new Date(row["started_at"] as Date),
      purpose: String(row["purpose"])
    })
})

const tryLock = Effect.fnUntraced(function*(connection: DedicatedConnection, name: string) {
  const [row] = yield* connection.query("select pg_try_advisory_lock($1, hashtext($2)) as got", [lockClass, name])
  return row?.["got"] === true
})

const writeHolder = (connection: DedicatedConnection, name: string, purpose: string) =>
  connection.query(
    `insert into lake.lock_holder (name, backend_pid, pid, host, purpose) values ($1, pg_backend_pid(), $2, $3, $4)
     on conflict (name) do update set backend_pid = excluded.backend_pid, pid = excluded.pid, host = excluded.host,
       started_at = now(), purpose = excluded.purpose`,
    [name, process.pid, hostname(), purpose]
  )

const heartbeat = (connection: DedicatedConnection) =>
  connection.query("select 1").pipe(
    Effect.timeoutFail({
      duration: heartbeatLimit,
      onTimeout: () => new SqlError({ cause: new Error("no answer"), message: "heartbeat" })
    }),
    Effect.repeat(Schedule.spaced(heartbeatEvery)),
    Effect.ignore
  )

/**
 * Takes the lock `name` until the scope closes, or fails with `LockHeld`. `purpose` tells people what for. The tables
 * of {@link migrations} must exist.
 */
export const acquire = (
  name: string,
  purpose: string
): Effect.Effect<SessionLock, LockHeld | SqlError, PostgresUrl | Scope.Scope> =>
  Effect.gen(function*() {
    // Of its own, so that a comer who is refused leaves no connection behind.
    const scope = yield* Effect.flatMap(Effect.scope, (outer) => Scope.fork(outer, ExecutionStrategy.sequential))
    return yield* hold(name, purpose).pipe(Scope.extend(scope), Effect.onError(() => Scope.close(scope, Exit.void)))
  }).pipe(Effect.withSpan("SessionLock.acquire", { attributes: { name } }))

const hold = (name: string, purpose: string) =>
  Effect.gen(function*() {
    const connection = yield* connect(yield* PostgresUrl, `lock ${name}`)
    const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(patience)
    while (!(yield* tryLock(connection, name))) {
      if ((yield* Clock.currentTimeMillis) > deadline) return yield* yield* holderOf(connection, name)
      yield* Effect.sleep(patienceEvery)
    }
    yield* writeHolder(connection, name, purpose)
    // Tidy only: without the session that holds the lock the row says nothing.
    yield* Effect.addFinalizer(() =>
      connection.query("delete from lake.lock_holder where name = $1 and backend_pid = pg_backend_pid()", [name]).pipe(
        Effect.ignore,
        Effect.interruptible,
        Effect.timeoutOption(tidyLimit)
      )
    )
    const beating = yield* Effect.forkScoped(Effect.zipRight(heartbeat(connection), connection.abandon))
    return { lost: Effect.raceFirst(connection.lost, Effect.asVoid(beating.await)) }
  })
