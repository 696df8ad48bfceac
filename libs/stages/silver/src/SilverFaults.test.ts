/** Every single call of a silver step to store and catalog fails in every way: the tables are old or new, never between, and the next step makes it good. */
import { expect, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean, telemetryRejected } from "@voltlake/domain/Tables"
import * as FaultyParts from "@voltlake/iceberg/test/FaultyParts"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import type { Stage } from "@voltlake/stage-runner/Stage"
import * as StageLake from "@voltlake/testing/StageLake"

const { event } = StageLake

/** Of round n: a new event, one of the round before, and a reject. Other days each, so that each file of a day is a call. */
const round = (n: number) => [
  event({ id: `e${n}`, time: `2025-03-${String((n % 28) + 1).padStart(2, "0")}T00:00:00Z` }),
  event({ id: `e${n - 1}` }),
  event({ id: `f${n}`, time: "2024-01-01T00:00:00Z" }),
  `reject ${n}`
]

/** After round n: two events of each round, one of a round -1, and n copies that bring nothing. */
const after = (rounds: number) => ({ rows: BigInt(rounds * 2 + 1), rejected: BigInt(rounds), read: BigInt(rounds * 4) })

const content = Effect.gen(function*() {
  const clean = yield* LakeTables.load(telemetryClean)
  const rejected = yield* LakeTables.load(telemetryRejected)
  expect(Progress.encode(rejected.progress)).toBe(Progress.encode(clean.progress))
  const connection = yield* (yield* QueryEngine).connect
  const [row] = yield* connection.rows(`
    SELECT (SELECT count(*) FROM ${yield* SnapshotSource.all(telemetryClean, clean.metadata)}) AS rows,
      (SELECT count(*) FROM ${yield* SnapshotSource.all(telemetryRejected, rejected.metadata)}) AS rejected,
      (SELECT count(DISTINCT (vehicle_id, event_id)) FROM ${yield* SnapshotSource.all(telemetryClean, clean.metadata)}) AS keys`)
  expect(row!["keys"]).toBe(row!["rows"])
  return { rows: row!["rows"], rejected: row!["rejected"], read: Position.lag(Position.empty, Progress.position(clean.progress)) }
}).pipe(Effect.scoped)

const steps = <E, R>(stage: Stage<E, R>) => Effect.repeat(stage.step, { while: (outcome) => outcome === "advanced" })

/** A stage of this process, whose steps others may run. */
const own = <E, R, E2, R2>(make: Effect.Effect<Stage<E, R>, E2, R2>) =>
  Effect.gen(function*() {
    const stage = yield* make
    const context = yield* Effect.context<R>()
    return Effect.provide(steps(stage), context)
  })

/** Two processes over one lake: every call of the first one's step fails once, and its next step makes up for it; the second one looks on. */
const everyCallFails = Effect.fnUntraced(function*(kind: FaultyParts.FaultKind) {
  const context = yield* Effect.context<Effect.Effect.Context<typeof content>>()
  const seen = Effect.provide(content, context)
  const toBronze = yield* own(StageLake.bronze())
  const fault: FaultyParts.Fault = { kind, remaining: 0, fired: undefined }
  const fired: Array<string> = []
  const failing = Effect.gen(function*() {
    const stage = yield* StageLake.silver()
    yield* steps(stage)
    for (let n = 1; ; n++) {
      yield* StageLake.send(0, round(n))
      yield* toBronze
      Object.assign(fault, { remaining: n, fired: undefined })
      const exit = yield* Effect.exit(stage.step)
      if (fault.fired === undefined) return
      fired.push(fault.fired)
      const what = `${kind} of call ${n}, ${fault.fired}`
      const found = yield* seen
      expect([after(n), after(n + 1)], what).toContainEqual(found)
      if (Exit.isSuccess(exit)) expect(found, what).toEqual(after(n + 1))
      yield* steps(stage)
      expect(yield* seen, what).toEqual(after(n + 1))
    }
  })
  yield* StageLake.send(0, round(0))
  yield* toBronze
  yield* Effect.provide(StageLake.inProcess(failing), FaultyParts.layer(fault))
  expect(Array.from(new Set(fired))).toEqual(expect.arrayContaining(["localFile", "metadataLocation", "putFile", "putIfAbsent", "swap"]))
})

for (const kind of ["refused", "passing", "lost-answer"] as const) {
  it.live(`a silver step leaves both tables old or both new, whichever call fails, and the next one goes on exactly (${kind})`, () =>
    Effect.provide(StageLake.inProcess(everyCallFails(kind)), StageLake.durable))
}
