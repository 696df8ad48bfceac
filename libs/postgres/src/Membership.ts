/**
 * Who of several processes works what, without a leader: each tells PostgreSQL every second that it lives, sees who else does, and all reckon the same
 * shares from that. Times are the database's, so no clock of a process matters.
 *
 * A hint, not a fence: two members may think for some seconds that a thing is theirs, so what must never happen twice needs a fence of its own.
 */
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { Array as Arr, Duration, Effect, Schedule, type Scope, Stream, SubscriptionRef } from "effect"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { fromSql } from "./Migrations.ts"

export const migrations = [
  fromSql("postgres/create-member", `
    create table lake.member (
      group_name text not null,
      member_id text not null,
      heartbeat_at timestamptz not null,
      pid int not null,
      host text not null,
      primary key (group_name, member_id)
    )
  `)
]

const heartbeatEvery = Duration.seconds(1)
/** A member that says nothing for so long has lost its share to the others. */
const liveForSeconds = 6
/** Rows of killed members are of no use to anybody after that. */
const forgottenAfterSeconds = 600
const leaveLimit = Duration.seconds(2)

export interface Membership {
  readonly id: string
  /** Ids of all members that live, this one among them, sorted; as of the last heartbeat that came through. */
  readonly members: Effect.Effect<ReadonlyArray<string>>
  /** Emits when members have come or gone. */
  readonly changes: Stream.Stream<ReadonlyArray<string>>
}

/** Those of `items` that are the member's, when all members deal the same items out in turn. Both lists are sorted. */
export const shareOf = <A>(items: ReadonlyArray<A>, members: ReadonlyArray<string>, id: string): ReadonlyArray<A> => {
  const place = members.indexOf(id)
  return place < 0 ? [] : items.filter((_, at) => at % members.length === place)
}

/** Lives from now on; answers the others that do. */
const beat = (sql: SqlClient, group: string, id: string) =>
  Effect.map(
    sql<{ readonly id: string }>`
      with own as (
        insert into lake.member (group_name, member_id, heartbeat_at, pid, host)
        values (${group}, ${id}, clock_timestamp(), ${process.pid}, ${hostname()})
        on conflict (group_name, member_id) do update set heartbeat_at = clock_timestamp()
      )
      select member_id as id from lake.member
      where group_name = ${group} and member_id <> ${id} and heartbeat_at > clock_timestamp() - make_interval(secs => ${liveForSeconds})`,
    (rows): ReadonlyArray<string> => [...rows.map((row) => row.id), id].sort()
  )

/** Takes part in the group until the scope closes, which tells the others at once. The tables of {@link migrations} must exist. */
export const join = (group: string): Effect.Effect<Membership, SqlError, SqlClient | Scope.Scope> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient
    const id = yield* Effect.sync(randomUUID)
    yield* sql`
      delete from lake.member
      where group_name = ${group} and heartbeat_at < clock_timestamp() - make_interval(secs => ${forgottenAfterSeconds})`
    const leave = sql`delete from lake.member where group_name = ${group} and member_id = ${id}`
    // Registered first, so that a join which is interrupted leaves no row; runs after the last heartbeat.
    yield* Effect.addFinalizer(() => leave.pipe(Effect.ignore, Effect.interruptible, Effect.timeoutOption(leaveLimit)))
    const live = yield* SubscriptionRef.make(yield* beat(sql, group, id))
    yield* beat(sql, group, id).pipe(
      Effect.tap((members) => SubscriptionRef.set(live, members)),
      // While the database is away nobody can commit; the last known shares do no harm.
      Effect.ignore,
      Effect.repeat(Schedule.spaced(heartbeatEvery)),
      Effect.delay(heartbeatEvery),
      Effect.forkScoped
    )
    const same = Arr.getEquivalence<string>((a, b) => a === b)
    return { id, members: SubscriptionRef.get(live), changes: Stream.drop(Stream.changesWith(live.changes, same), 1) }
  }).pipe(Effect.withSpan("Membership.join", { attributes: { group } }))
