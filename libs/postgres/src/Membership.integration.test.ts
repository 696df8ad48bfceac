import { SqlClient } from "@effect/sql/SqlClient"
import { describe, expect, layer as withLayer, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Schedule, Scope, Stream } from "effect"
import * as Membership from "./Membership.ts"
import * as Migrations from "./Migrations.ts"
import * as Postgres from "./Postgres.ts"
import { temporaryFolder } from "./testing/TemporaryFolder.ts"

const server = Layer.provideMerge(
  Layer.effectDiscard(Migrations.run(Membership.migrations)),
  Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => Postgres.embedded(folder)))
)

/** A member that lives until its scope is closed. */
const member = (group: string) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const joined = yield* Scope.extend(Membership.join(group), scope)
    return { ...joined, leave: Scope.close(scope, Exit.void) }
  })

const until = (of: Membership.Membership, count: number) =>
  Effect.retry(Effect.filterOrFail(of.members, (members) => members.length === count), Schedule.spaced("50 millis").pipe(Schedule.upTo("20 seconds")))

withLayer(server, { excludeTestServices: true, timeout: 60_000 })("Membership", (it) => {
  it.effect("tells every member who else lives, and at once who has left", () =>
    Effect.gen(function*() {
      const first = yield* member("a")
      expect(yield* first.members).toEqual([first.id])
      const change = yield* Effect.fork(Stream.runHead(first.changes))
      const second = yield* member("a")
      const stranger = yield* member("b")
      expect(yield* second.members).toEqual([first.id, second.id].sort())
      expect(yield* until(first, 2)).toEqual([first.id, second.id].sort())
      expect((yield* Fiber.join(change))._tag).toBe("Some")
      yield* second.leave
      const sql = yield* SqlClient
      expect(yield* sql`select member_id as id from lake.member where group_name = 'a'`).toEqual([{ id: first.id }])
      expect(yield* until(first, 1)).toEqual([first.id])
      yield* first.leave
      yield* stranger.leave
    }))

  it.effect("counts a member out that has not been heard of for some seconds", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient
      const insert = (id: string, age: string) =>
        sql`insert into lake.member values ('c', ${id}, clock_timestamp() - ${age}::interval, 1, 'h')`
      yield* insert("fresh", "1 second")
      yield* insert("dead", "10 seconds")
      yield* insert("forgotten", "1 day")
      const own = yield* member("c")
      expect(yield* own.members).toEqual(["fresh", own.id].sort())
      expect(yield* sql`select 1 from lake.member where member_id = 'forgotten'`).toEqual([])
      // Nobody renews it: it is out once its time is over.
      expect(yield* until(own, 1)).toEqual([own.id])
      yield* own.leave
    }))
})

describe("shareOf", () => {
  const items = ["p-0", "p-1", "p-2", "p-3", "p-4"]
  it("gives each thing to exactly one member, and nearly as many to each", () => {
    const members = ["a", "b", "c"]
    const shares = members.map((id) => Membership.shareOf(items, members, id))
    expect(shares).toEqual([["p-0", "p-3"], ["p-1", "p-4"], ["p-2"]])
  })
  it("gives nothing to one that is no member, and all to a sole one", () => {
    expect(Membership.shareOf(items, ["a"], "b")).toEqual([])
    expect(Membership.shareOf(items, ["a"], "a")).toEqual(items)
  })
})
