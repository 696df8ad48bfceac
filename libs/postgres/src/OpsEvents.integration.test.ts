import { expect, layer } from "@effect/vitest"
import { SqlClient } from "@effect/sql/SqlClient"
import { Duration, Effect } from "effect"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import * as OpsEvents from "./OpsEvents.ts"

const event = (kind: string, severity: OpsEvents.Severity = "INFO"): OpsEvents.NewEvent => ({ severity, kind, subject: "s", message: kind, facts: {} })

const kinds = (found: ReadonlyArray<OpsEvents.OpsEvent>) => found.map(({ kind, severity }) => `${kind} ${severity}`)

const emptied = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.zipRight(Effect.flatMap(SqlClient, (sql) => sql`TRUNCATE ops.events`), effect)

layer(TestPostgres.migrated(OpsEvents.migrations), { excludeTestServices: true })("Events", (it) => {
  it.effect("are answered without commits, but for those by which rows went, unless they are asked for", () =>
    emptied(Effect.gen(function*() {
      for (const [kind, severity] of [["table_committed", "INFO"], ["run_succeeded", "INFO"], ["table_committed", "WARNING"], ["run_failed", "ERROR"]] as const) {
        yield* OpsEvents.add(event(kind, severity))
      }
      const others = ["run_succeeded INFO", "table_committed WARNING", "run_failed ERROR"]
      expect(kinds(yield* OpsEvents.newest(9))).toEqual(others)
      expect(kinds(yield* OpsEvents.after("0", 9))).toEqual(others)
      expect(kinds(yield* OpsEvents.newest(9, { commits: true }))).toEqual(["table_committed INFO", ...others])
      expect(kinds(yield* OpsEvents.newest(9, { severity: "WARNING" }))).toEqual(others.slice(1))
      expect(kinds(yield* OpsEvents.newest(9, { kind: "table_committed" }))).toEqual(["table_committed INFO", "table_committed WARNING"])
      expect(kinds(yield* OpsEvents.after("0", 9, { kind: "run_failed", severity: "ERROR" }))).toEqual(["run_failed ERROR"])
      expect(kinds(yield* OpsEvents.newest(1))).toEqual(["run_failed ERROR"])
    })))

  it.effect("of a stage that stops are one for each stop, and one once it goes on", () =>
    emptied(Effect.gen(function*() {
      yield* OpsEvents.stageGoesOn("bronze")
      for (const reason of ["a", "a", "b"]) yield* OpsEvents.stageStopped("bronze", reason, {})
      yield* OpsEvents.stageStopped("silver", "a", {})
      yield* OpsEvents.stageGoesOn("bronze")
      yield* OpsEvents.stageGoesOn("bronze")
      yield* OpsEvents.stageStopped("bronze", "b", {})
      const found = yield* OpsEvents.newest(9)
      expect(found.map(({ kind, message, subject }) => [subject, kind, message])).toEqual([
        ["bronze", "stage_stopped", "a"], ["bronze", "stage_stopped", "b"], ["silver", "stage_stopped", "a"], ["bronze", "stage_goes_on", "bronze goes on"],
        ["bronze", "stage_stopped", "b"]
      ])
    })))

  it.effect("are kept for days where they are commits, and for months where not", () =>
    emptied(Effect.gen(function*() {
      const sql = yield* SqlClient
      for (const days of [6, 8, 89, 91]) {
        for (const [kind, severity] of [["table_committed", "INFO"], ["table_committed", "WARNING"], ["run_succeeded", "INFO"]] as const) {
          yield* OpsEvents.add({ ...event(kind, severity), subject: String(days) })
        }
        yield* sql`UPDATE ops.events SET at = now() - ${days}::int * interval '1 day' WHERE subject = ${String(days)}`
      }
      expect(yield* OpsEvents.prune(new Date())).toBe(5)
      const left = yield* OpsEvents.newest(20, { commits: true })
      expect(left.map(({ kind, severity, subject }) => `${subject} ${kind} ${severity}`)).toEqual([
        "6 table_committed INFO", "6 table_committed WARNING", "6 run_succeeded INFO", "8 table_committed WARNING", "8 run_succeeded INFO",
        "89 table_committed WARNING", "89 run_succeeded INFO"
      ])
      expect(yield* OpsEvents.prune(new Date())).toBe(0)
    })))

  it.effect("that are added by many at once are all there, each under an id of its own", () =>
    emptied(Effect.gen(function*() {
      yield* Effect.forEach(Array.from({ length: 60 }, (_, at) => `k${at}`), (kind) => OpsEvents.add(event(kind)), { concurrency: 6 })
      expect(new Set((yield* OpsEvents.after("0", 100)).map(({ id }) => id)).size).toBe(60)
    }).pipe(Effect.timeout(Duration.seconds(30)))))
})
