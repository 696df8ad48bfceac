/**
 * How everything else gets at PostgreSQL: `SqlClient` and `PgClient` over a bounded pool, and the URL for connections
 * of one's own.
 *
 * A server that falls silent (a network that swallows packets, a machine that is gone) would keep a statement waiting for a quarter of an hour. So a
 * connection of its own asks it all the time, and where it does not answer, all connections are closed: what waits on them fails, its outcome unknown.
 * Statements themselves may take long.
 *
 * Beyond the driver's defaults: `int8` columns are `bigint`, `timestamp` columns are read as UTC and the session's time
 * zone is UTC, `bytea` is decoded natively. Lost connections leave the pool by themselves, and the next statement gets
 * a new one. For transactions use {@link "./Transaction.ts"}: the client's own `withTransaction` turns a failed commit
 * into a defect.
 */
import { Reactivity } from "@effect/experimental"
import { PgClient } from "@effect/sql-pg"
import { SqlClient } from "@effect/sql/SqlClient"
import { type SqlError } from "@effect/sql/SqlError"
import { Context, Duration, Effect, Layer, Redacted, Schedule, Schema } from "effect"
import * as Pg from "pg"
import { connect, destroySocket, keepAliveOptions } from "./DedicatedConnection.ts"
import * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { PostgresUrl } from "./PostgresUrl.ts"
import { faultOf } from "./SqlFault.ts"

export const connectionsMax = 10
const connectLimit = Duration.seconds(10)
const idleLimit = Duration.minutes(1)
const keepAliveAfter = Duration.seconds(10)
/** A pool that does not close by then is left: the process ends anyway. */
const closeLimit = Duration.seconds(3)
/** A server that answers nothing for so long is taken for gone. */
const silenceLimit = Duration.seconds(15)
/** No statement of ours takes so long; one that does is stuck. */
const statementLimit = Duration.minutes(15)
/** Of a client that vanished within a transaction: its row locks would keep all others waiting. */
const idleInTransactionLimit = Duration.minutes(1)
const sessionOptions = [
  "-c TimeZone=UTC",
  `-c statement_timeout=${Duration.toMillis(statementLimit)}`,
  `-c idle_in_transaction_session_timeout=${Duration.toMillis(idleInTransactionLimit)}`,
  keepAliveOptions
].join(" ")

/** Nothing answered as a PostgreSQL that lets us in. The reason never holds the password. */
export class PostgresUnavailable extends Schema.TaggedError<PostgresUnavailable>()("PostgresUnavailable", {
  reason: Schema.String,
  /** Whether waiting can help (the server is away), or somebody has to act (a wrong password). */
  retryable: Schema.Boolean
}) {
  override get message() {
    return `PostgreSQL is not available: ${this.reason}`
  }
}

/** Numbers of types in PostgreSQL's catalog (pg_type.dat). */
const oid = { bytea: 17, int8: 20, timestamp: 1114 } as const

const parsers = new Map<number, (text: string) => unknown>([
  [oid.int8, (text) => BigInt(text)],
  [oid.bytea, (text) => Buffer.from(text.slice(2), "hex")],
  [oid.timestamp, (text) => new Date(`${text.replace(" ", "T")}Z`)]
])

// Results come in the text format: the driver decodes every value to a string first, which the binary one does not
// survive.
const types: Pg.CustomTypesConfig = {
  getTypeParser: (id: number, format?: "text" | "binary") =>
    parsers.get(id) ?? Pg.types.getTypeParser(id, format as "text")
}

const openPool = (url: Redacted.Redacted, applicationName: string) =>
  new Pg.Pool({
    connectionString: Redacted.value(url),
    application_name: applicationName,
    max: connectionsMax,
    connectionTimeoutMillis: Duration.toMillis(connectLimit),
    idleTimeoutMillis: Duration.toMillis(idleLimit),
    keepAlive: true,
    keepAliveInitialDelayMillis: Duration.toMillis(keepAliveAfter),
    options: sessionOptions,
    types
  })

/**
 * A session that the server ends says so first (FATAL), which the driver takes for an error of the statement alone: the
 * connection would go back to the pool, and the next statement would find it dead with an unknown outcome. Ended here,
 * before that statement's callback.
 */
const endOnFatal = (client: Pg.PoolClient) => {
  // What a pool hands out are clients, though their type is narrower.
  const whole = client as unknown as Pg.Client
  whole.connection.prependListener("errorMessage", ({ code, severity }: Partial<Pg.DatabaseError>) => {
    const fatal = severity === "FATAL" || severity === "PANIC" || code?.startsWith("57P") === true
    if (fatal) void whole.end().catch(() => undefined)
  })
}

const pool = (url: Redacted.Redacted, applicationName: string, open: Set<Pg.Client>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const opened = openPool(url, applicationName)
      // Idle connections that break are dropped by the pool; without a listener they would end the process.
      opened.on("error", () => undefined)
      opened.on("connect", endOnFatal)
      opened.on("connect", (client) => open.add(client as unknown as Pg.Client))
      opened.on("remove", (client) => open.delete(client as unknown as Pg.Client))
      return opened
    }),
    (opened) =>
      Effect.promise(() => opened.end()).pipe(
        Effect.interruptible,
        Effect.timeoutOption(closeLimit),
        Effect.zipRight(closeAll(open))
      )
  )

/** Closes the sockets without a word: statements under way fail. */
const closeAll = (open: ReadonlySet<Pg.Client>) => Effect.suspend(() => Effect.forEach([...open], destroySocket, { discard: true }))

/** Asks the server all the time, for as long as the scope is open; where it falls silent, closes all connections of the pool. */
const watch = (url: Redacted.Redacted, open: ReadonlySet<Pg.Client>, limit: Duration.Duration) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* connect(url, "watches the server")
    const hasFallenSilent = Effect.gen(function*() {
      yield* connection.abandon
      yield* Effect.logWarning("PostgreSQL does not answer, its connections are closed").pipe(Effect.annotateLogs({ limit: Duration.format(limit) }))
      yield* closeAll(open)
    })
    yield* connection.query("select 1").pipe(
      Effect.timeoutFail({ duration: limit, onTimeout: () => "silent" as const }),
      Effect.repeat(Schedule.spaced(Duration.times(limit, 1 / 3))),
      Effect.catchIf((error) => error === "silent", () => hasFallenSilent)
    )
  })).pipe(
    Effect.ignore,
    Effect.repeat(Schedule.spaced(Duration.times(limit, 1 / 3))),
    Effect.forkScoped
  )

const unavailable = (error: SqlError) => {
  const { reason, retryable } = faultOf(error)
  return new PostgresUnavailable({ reason, retryable })
}

const make = Effect.fnUntraced(function*(url: Redacted.Redacted, applicationName: string, silence = silenceLimit) {
  const open = new Set<Pg.Client>()
  const client = yield* PgClient.fromPool({ acquire: pool(url, applicationName, open), applicationName })
  yield* client`select 1`
  yield* watch(url, open, silence)
  return Context.make(PgClient.PgClient, client).pipe(Context.add(SqlClient, client), Context.add(PostgresUrl, url))
}, Effect.mapError(unavailable))

export type Postgres = PgClient.PgClient | SqlClient | PostgresUrl

/**
 * A server of one's own, at `postgres://user:password@host:port/database` (`?sslmode=verify-full` and the like are
 * understood). Fails where it does not answer within 10 seconds; later losses are errors of the statements they hit,
 * and pass when the server is back. `silence`: how long it may answer nothing.
 */
export const fromUrl = (
  url: Redacted.Redacted,
  applicationName = "voltlake",
  silence?: Duration.Duration
): Layer.Layer<Postgres, PostgresUnavailable> =>
  Layer.scopedContext(make(url, applicationName, silence)).pipe(Layer.provide(Reactivity.layer))

/** The server under `dataDir`, started or joined; see {@link EmbeddedPostgres.acquire}. */
export const embedded = (
  dataDir: string,
  options?: EmbeddedPostgres.EmbeddedOptions
): Layer.Layer<Postgres, EmbeddedPostgresError | PostgresUnavailable> =>
  Layer.scopedContext(
    Effect.flatMap(EmbeddedPostgres.acquire(dataDir, options), ({ url }) => make(url, "voltlake"))
  ).pipe(Layer.provide(Reactivity.layer))
