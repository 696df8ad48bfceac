/**
 * LISTEN that survives reconnects. Notifications are hints: those sent while the connection was away are lost, so an
 * element is also emitted on every (re)connection, and readers poll besides.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Duration, Effect, Queue, Schedule, Stream } from "effect"
import { connect } from "./DedicatedConnection.ts"
import { PostgresUrl } from "./PostgresUrl.ts"

/** A reader that is behind needs to know only that something happened. */
const bufferedMax = 1024
const reconnectFirst = Duration.millis(100)
const reconnectMax = Duration.seconds(5)

const quoted = (name: string) => `"${name.replaceAll("\"", "\"\"")}"`

/** Emitted on every (re)connection: anything may have been missed. */
export const connected = { _tag: "Connected" } as const

export type Notification =
  | typeof connected
  | { readonly _tag: "Notified"; readonly payload: string }

const backoff = Schedule.exponential(reconnectFirst).pipe(
  Schedule.union(Schedule.spaced(reconnectMax)),
  Schedule.jittered
)

/**
 * Sends to all who listen; inside a transaction when that commits. The payload is under 8000 bytes. (The client's own
 * `notify` passes its payload as a parameter of NOTIFY, which takes none.)
 */
export const notify = (channel: string, payload: string): Effect.Effect<void, SqlError, SqlClient> =>
  Effect.flatMap(SqlClient, (sql) => Effect.asVoid(sql`select pg_notify(${channel}, ${payload})`))

/**
 * Listens until the stream ends, on one connection of its own. Never fails: it reconnects, and says so by {@link
 * connected}.
 */
export const listen = (channel: string): Stream.Stream<Notification, never, PostgresUrl> =>
  Stream.unwrapScoped(Effect.gen(function*() {
    const url = yield* PostgresUrl
    const queue = yield* Effect.acquireRelease(Queue.sliding<Notification>(bufferedMax), Queue.shutdown)
    const once = Effect.scoped(Effect.gen(function*() {
      const connection = yield* connect(url, `listens to ${channel}`)
      yield* connection.onNotification((_, payload) => {
        Queue.unsafeOffer(queue, { _tag: "Notified", payload })
      })
      yield* connection.query(`listen ${quoted(channel)}`)
      yield* Queue.offer(queue, connected)
      yield* connection.lost
    }))
    const attempt = once.pipe(
      Effect.tapError(() => Effect.logDebug("listening failed, trying again")),
      Effect.retry(backoff)
    )
    yield* Effect.forkScoped(Effect.forever(attempt))
    return Stream.fromQueue(queue)
  }))
