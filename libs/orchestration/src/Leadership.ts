/**
 * Of several orchestrators one works. It holds a row that it renews, not a lock of its session: a process that is frozen keeps its session, and would keep
 * its locks. Who finds the row run out takes it over under a new term.
 *
 * A leader that was replaced may not know it yet. So each change that it makes to a run asks for its term in the same transaction ({@link fenced}), and
 * what tasks do outside is theirs to make safe: commits are, by what they require.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import { Duration, Effect, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { transaction } from "@voltlake/postgres/Transaction"

export interface Term {
  readonly holder: string
  readonly term: bigint
}

/** Another process leads: this one stops what it does, and stands by. */
export class LeadershipLost extends Schema.TaggedError<LeadershipLost>()("LeadershipLost", {}) {
  override get message() {
    return "another orchestrator has taken over"
  }
}

/** How long a leader that says nothing stays the leader. */
export const expiration = Duration.seconds(6)
export const renewEvery = Duration.seconds(2)

const holds = `${Duration.toMillis(expiration)} milliseconds`

interface Row {
  readonly term: string
}

const newHolder = Effect.sync(() => randomUUID())

/** Takes the lead where nobody has it. Answers the term, or who leads. */
export const take = Effect.fn("Leadership.take")(function*() {
  const sql = yield* SqlClient
  const holder = yield* newHolder
  const [taken] = yield* sql<Row>`
    INSERT INTO ops.leader (holder, host, pid, term, until) VALUES (${holder}::uuid, ${hostname()}, ${process.pid}, 1, clock_timestamp() + ${holds}::interval)
    ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, host = excluded.host, pid = excluded.pid, term = leader.term + 1, until = excluded.until
      WHERE leader.until < clock_timestamp()
    RETURNING term::text`
  return taken === undefined ? undefined : { holder, term: BigInt(taken.term) } satisfies Term
})

/** Who leads, for people. */
export const leader = Effect.flatMap(SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly host: string; readonly pid: number }>`SELECT host, pid FROM ops.leader WHERE until >= clock_timestamp()`,
    (rows) => rows[0]
  ))

export const renew = Effect.fn("Leadership.renew")(function*({ holder, term }: Term) {
  const sql = yield* SqlClient
  const renewed = yield* sql`UPDATE ops.leader SET until = clock_timestamp() + ${holds}::interval
    WHERE holder = ${holder}::uuid AND term = ${String(term)}::bigint RETURNING term`
  if (renewed.length === 0) return yield* new LeadershipLost()
})

/** So that the next one need not wait. */
export const giveUp = Effect.fn("Leadership.giveUp")(function*({ holder, term }: Term) {
  const sql = yield* SqlClient
  yield* sql`UPDATE ops.leader SET until = '-infinity' WHERE holder = ${holder}::uuid AND term = ${String(term)}::bigint`
})

/** Runs statements in a transaction that comes to its end only while the term is the leader's. A takeover waits for it. */
export const fenced = <A, E, R>({ holder, term }: Term, effect: Effect.Effect<A, E, R>) =>
  transaction(Effect.gen(function*() {
    const sql = yield* SqlClient
    // A process that is frozen in here would keep the row: the server ends its session.
    yield* sql`SET LOCAL idle_in_transaction_session_timeout = '4s'`
    const held = yield* sql`SELECT 1 FROM ops.leader WHERE holder = ${holder}::uuid AND term = ${String(term)}::bigint FOR SHARE`
    if (held.length === 0) return yield* new LeadershipLost()
    return yield* effect
  }))
