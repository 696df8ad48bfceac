import { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { transaction } from "./Transaction.ts"

/** A client whose one connection fails those statements; it says what was sent, and whether the connection was closed. */
const clientThatFails = (fails: (statement: string) => boolean) => {
  const seen = { statements: [] as Array<string>, isClosed: false }
  const connection = {
    pg: {
      end: () => {
        seen.isClosed = true
        return Promise.reject(new Error("it was gone already"))
      }
    },
    executeRaw: (statement: string) =>
      Effect.suspend(() => {
        seen.statements.push(statement)
        return fails(statement) ? new SqlError({ cause: new Error("no answer"), message: "Failed to execute statement" }) : Effect.succeed({})
      })
  }
  return { seen, client: { reserve: Effect.succeed(connection) } as unknown as SqlClient }
}

it.effect.each<readonly [string, boolean]>([
  ["closed where its rollback failed: nobody else may get it", true],
  ["given back where it rolled back", false]
])("a connection is %s", ([_, isBroken]) =>
  Effect.gen(function*() {
    const { client, seen } = clientThatFails((statement) => isBroken && statement === "ROLLBACK")
    expect(yield* Effect.flip(transaction(Effect.fail("no")).pipe(Effect.provideService(SqlClient, client)))).toBe("no")
    expect(seen).toEqual({ statements: ["BEGIN", "ROLLBACK"], isClosed: isBroken })
  }))
