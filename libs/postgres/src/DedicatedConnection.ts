/** One connection apart from the pool, for what lives in a session: advisory locks and notifications. */
import { SqlError } from "@effect/sql/SqlError"
import { Deferred, Duration, Effect, Redacted, type Scope } from "effect"
import * as Pg from "pg"

const connectLimit = Duration.seconds(10)
/** How long the server may take to say goodbye; then the socket is closed, since a server that hangs must not keep this process. */
const endLimit = Duration.seconds(2)
/** The operating system asks an idle peer after so long, so that one which vanished without a word is noticed. */
const keepAliveAfter = Duration.seconds(10)

/** The server asks an idle client as well, so that a lock or a transaction of a machine that is gone is given back within half a minute. */
export const keepAliveOptions = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

type Rows = ReadonlyArray<Readonly<Record<string, unknown>>>

export interface DedicatedConnection {
  /** Answers rows as objects; `bigint` columns come as strings here. */
  readonly query: (text: string, values?: ReadonlyArray<unknown>) => Effect.Effect<Rows, SqlError>
  /** Succeeds once the connection is gone for a reason other than its scope's end. */
  readonly lost: Effect.Effect<void>
  /** Calls back for each notification on the channels that this session listens to. */
  readonly onNotification: (handle: (channel: string, payload: string) => void) => Effect.Effect<void>
  /** Closes the socket without a word, for a server that no longer answers: the session's locks go with it. */
  readonly abandon: Effect.Effect<void>
}

const failed = (message: string) => (cause: unknown) => new SqlError({ cause, message })

const make = (url: Redacted.Redacted, purpose: string): Pg.Client =>
  new Pg.Client({
    connectionString: Redacted.value(url),
    application_name: `voltlake ${purpose}`,
    connectionTimeoutMillis: Duration.toMillis(connectLimit),
    options: keepAliveOptions,
    keepAlive: true,
    keepAliveInitialDelayMillis: Duration.toMillis(keepAliveAfter)
  })

/** Closes without the server's answer. */
export const destroySocket = (client: Pg.Client) =>
  Effect.sync(() => {
    // Not in the driver's types.
    ;(client as unknown as { readonly connection: { readonly stream: { readonly destroy: () => void } } }).connection.stream.destroy()
  })

/** Connects; the scope's end closes. `purpose` shows in pg_stat_activity. */
export const connect = (
  url: Redacted.Redacted,
  purpose: string
): Effect.Effect<DedicatedConnection, SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const lost = yield* Deferred.make<void>()
    let isClosing = false
    const client = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        const fresh = make(url, purpose)
        // Without a listener a broken connection would end the whole process.
        fresh.on("error", () => Deferred.unsafeDone(lost, Effect.void))
        fresh.on("end", () => {
          if (!isClosing) Deferred.unsafeDone(lost, Effect.void)
        })
        return Effect.as(
          Effect.tryPromise({ try: () => fresh.connect(), catch: failed("Failed to acquire connection") }),
          fresh
        )
      }),
      (open) =>
        Effect.promise(() => {
          isClosing = true
          return open.end().catch(() => undefined)
        }).pipe(Effect.interruptible, Effect.timeoutOption(endLimit), Effect.zipRight(destroySocket(open)))
    )
    return {
      query: (text, values = []) =>
        Effect.tryPromise({
          try: () => client.query(text, [...values]).then((result) => result.rows as Rows),
          catch: failed("Failed to execute statement")
        }),
      lost: Deferred.await(lost),
      abandon: destroySocket(client),
      onNotification: (handle) =>
        Effect.sync(() => {
          client.on("notification", (message) => handle(message.channel, message.payload ?? ""))
        })
    }
  })
