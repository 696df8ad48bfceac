/**
 * Transactions whose end is a value. `SqlClient.withTransaction` turns a failed COMMIT or ROLLBACK into a defect, and
 * takes the ROLLBACK that the server answers to the COMMIT of a broken transaction for success; both matter where a
 * commit moves a position.
 */
import { SqlClient, TransactionConnection } from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import { Context, Effect, Exit, Option, Schema } from "effect"
import { faultOf } from "./SqlFault.ts"

/**
 * The connection was lost during COMMIT: the transaction may have happened. Look for its effect before doing anything
 * again.
 */
export class CommitUnknown extends Schema.TaggedError<CommitUnknown>()("CommitUnknown", { reason: Schema.String }) {
  override get message() {
    return `whether the transaction was committed is unknown: ${this.reason}`
  }
}

const rolledBack = new SqlError({
  cause: new Error("a statement had failed"),
  message: "the transaction was rolled back at its commit"
})

const commit = (connection: Connection) =>
  connection.executeRaw("COMMIT", []).pipe(
    Effect.mapError((error) => {
      const fault = faultOf(error)
      return fault.outcome === "NotApplied" ? error : new CommitUnknown({ reason: fault.reason })
    }),
    Effect.flatMap((result) =>
      typeof result === "object" && result !== null && "command" in result && result.command === "ROLLBACK"
        ? Effect.fail(rolledBack)
        : Effect.void
    )
  )

/**
 * Runs the statements of `effect` in one transaction and commits it. Any failure of `effect` rolls back. Every error
 * but `CommitUnknown` says that nothing was applied. Inside another transaction it only takes part in that one.
 */
export const transaction = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError | CommitUnknown, R | SqlClient> =>
  Effect.flatMap(
    Effect.serviceOption(TransactionConnection),
    (outer) => (Option.isSome(outer) ? effect : begin(effect))
  )

const inTransaction = <A, E, R>(effect: Effect.Effect<A, E, R>, connection: Connection) =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) =>
    Context.add(context, TransactionConnection, [connection, 0] as const))

/** Closes the connection, which the pool then drops: what it hands out is a client of the driver, though the type does not say so. */
const discard = (connection: Connection) =>
  Effect.sync(() => {
    const { pg } = connection as unknown as { readonly pg?: { readonly end: () => Promise<void> } }
    void pg?.end().catch(() => undefined)
  })

const begin = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError | CommitUnknown, R | SqlClient> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.scoped(Effect.gen(function*() {
      const sql = yield* SqlClient
      const connection = yield* sql.reserve
      yield* connection.executeRaw("BEGIN", [])
      const exit = yield* restore(inTransaction(effect, connection)).pipe(Effect.exit)
      if (Exit.isSuccess(exit)) {
        yield* commit(connection)
        return exit.value
      }
      // A connection that is gone has rolled back by itself; one that is not, and did not, must not serve anybody else.
      yield* connection.executeRaw("ROLLBACK", []).pipe(Effect.catchAll(() => discard(connection)))
      return yield* exit
    }))
  ).pipe(Effect.withSpan("Transaction.transaction"))
