/** The parts of the orchestrator that only reckon, case by case. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Either } from "effect"
import * as Dag from "./Dag.ts"
import * as RunPlan from "./RunPlan.ts"
import * as Ticks from "./Ticks.ts"

const cron = (text: string, timeZone = "UTC") => Either.getOrThrow(Dag.parseCron("d", { cron: text, timeZone }))
const at = (text: string) => new Date(text)

describe("ticks", () => {
  const tens = cron("*/10 * * * *")
  it.each([
    ["nothing new", "none", "12:00:00", "12:04:00", undefined, 0, "12:10:00"],
    ["on the second", "none", "12:00:00", "12:10:00", "12:10:00", 0, "12:20:00"],
    ["a moment later", "none", "12:00:00", "12:10:01.9", "12:10:00", 0, "12:20:00"],
    ["once only", "none", "12:10:00", "12:10:01.9", undefined, 0, "12:20:00"],
    ["late, and not caught up", "none", "12:00:00", "12:15:00", undefined, 1, "12:20:00"],
    ["late, and caught up", "latest", "12:00:00", "12:15:00", "12:10:00", 0, "12:20:00"],
    ["several missed: none", "none", "08:00:00", "12:15:00", undefined, 25, "12:20:00"],
    ["several missed: the latest", "latest", "08:00:00", "12:15:00", "12:10:00", 24, "12:20:00"],
    ["several missed, the last on time", "none", "11:30:00", "12:10:30", "12:10:00", 3, "12:20:00"],
    ["a clock that was set back: none is run twice", "latest", "12:10:00", "11:59:00", undefined, 0, "12:20:00"]
  ] as const)("%s", (_, catchUp, seen, now, tick, missed, next) => {
    const day = (time: string) => at(`2026-11-26T${time}Z`)
    expect(Ticks.decide(tens, catchUp, day(seen), day(now))).toEqual({ tick: tick === undefined ? undefined : day(tick), missed, next: day(next) })
  })

  // Berlin: 2026-03-29 02:00 becomes 03:00, and 2026-10-25 03:00 becomes 02:00.
  it.each([
    ["a time of day keeps to the clocks in spring", "30 4 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T02:30:00Z", "2026-03-30T02:30:00Z"]],
    ["an hour that is there twice counts once where it is named", "30 2 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]],
    ["one that is not there moves on", "30 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]],
    ["and in autumn", "30 4 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T03:30:00Z", "2026-10-26T03:30:00Z"]],
    ["every half hour goes on through the hour that is not there", "*/30 * * * *", "2026-03-29T00:15:00Z",
      ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]],
    ["and through the one that is there twice", "*/30 * * * *", "2026-10-25T00:15:00Z",
      ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]]
  ])("%s", (_, text, from, expected) => {
    const { ticks } = Ticks.between(cron(text, "Europe/Berlin"), at(from), at("2027-01-01T00:00:00Z"), expected.length)
    expect(ticks.map((tick) => tick.toISOString().replace(".000", ""))).toEqual(expected)
  })

  it("lists the ticks of a time, its beginning included and its end not", () => {
    const days = cron("0 0 * * *")
    const { isAll, ticks } = Ticks.between(days, at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"), 100)
    expect([ticks.length, isAll, ticks[0], ticks.at(-1)]).toEqual([30, true, at("2026-11-01T00:00:00Z"), at("2026-11-30T00:00:00Z")])
    expect(Ticks.between(days, at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"), 7)).toMatchObject({ isAll: false })
  })

  it("goes on from within an hour that is there twice", () => {
    const { ticks } = Ticks.between(cron("30 2 * * *", "Europe/Berlin"), at("2026-10-25T01:10:00Z"), at("2027-01-01T00:00:00Z"), 1)
    expect(ticks).toEqual([at("2026-10-26T01:30:00Z")])
  })

  it("names a schedule that is none", () => {
    const refused = Either.flip(Dag.parseCron("nightly", { cron: "61 * * * *", timeZone: "UTC" }))
    expect(refused).toMatchObject({ right: { message: expect.stringContaining("DAG nightly: schedule \"61 * * * *\"") } })
    expect(Either.isLeft(Dag.parseCron("nightly", { cron: "0 * * * *", timeZone: "Mars/Base" }))).toBe(true)
  })
})

const task = (name: string, ...after: ReadonlyArray<string>): Dag.Task<never, never> => ({
  name,
  after,
  retries: 1,
  retryDelay: Duration.minutes(2),
  timeout: Duration.minutes(10),
  run: () => Effect.succeed({})
})

describe("the order of tasks", () => {
  it.each([
    ["is free where they wait for nothing", [task("b"), task("a")], ["b", "a"]],
    ["follows what they wait for", [task("c", "b"), task("b", "a"), task("a")], ["a", "b", "c"]]
  ])("%s", (_, tasks, expected) => expect(Dag.order({ name: "d", tasks })).toEqual(Either.right(expected)))
  it.each([
    ["two of one name", [task("a"), task("a")], "two tasks a"],
    ["one that is not there", [task("a", "z")], "task a comes after z"],
    ["a circle", [task("a", "b"), task("b", "a"), task("c")], "wait for each other: a, b"]
  ])("is refused for %s", (_, tasks, reason) =>
    expect(Either.flip(Dag.order({ name: "d", tasks }))).toMatchObject({ right: { message: expect.stringContaining(reason) } }))
})

describe("a run's plan", () => {
  const now = at("2026-11-26T12:00:00Z")
  const soon = at("2026-11-26T12:02:00Z")
  const tasks = [task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")]
  const status = (state: RunPlan.TaskState, failures = 0, readyAt?: Date): RunPlan.TaskStatus => ({ state, failures, readyAt })
  const plan = (known: Readonly<Record<string, RunPlan.TaskStatus>>, isCancelled = false) =>
    RunPlan.plan({ tasks }, new Map(Object.entries(known)), now, isCancelled)
  const done = status("succeeded")
  const nothing = { start: [], close: [], end: undefined, wakeAt: undefined }

  it.each<readonly [string, Readonly<Record<string, RunPlan.TaskStatus>>, Partial<RunPlan.Plan>]>([
    ["begins with what waits for nothing", {}, { start: ["a"] }],
    ["waits while that runs", { a: status("running") }, {}],
    ["goes on with all that waited for it alone", { a: done }, { start: ["b", "c"] }],
    ["waits for both", { a: done, b: done, c: status("running") }, {}],
    ["comes to the last", { a: done, b: done, c: done }, { start: ["d"] }],
    ["ends well", { a: done, b: done, c: done, d: done }, { end: "succeeded" }],
    ["waits for a retry", { a: status("waiting", 1, soon) }, { wakeAt: soon }],
    ["tries again when it is time", { a: status("waiting", 1, now) }, { start: ["a"] }],
    ["closes what stands behind a failure, and lets the rest go on", { a: done, b: status("failed", 2), c: status("running") }, {
      close: [{ task: "d", state: "upstream_failed" }]
    }],
    ["ends badly once the rest is done", { a: done, b: status("failed", 2), c: done, d: status("upstream_failed") }, { end: "failed" }],
    ["closes a whole chain at once", { a: status("failed", 2) }, {
      close: ["b", "c", "d"].map((name) => ({ task: name, state: "upstream_failed" as const })),
      end: "failed"
    }]
  ])("%s", (_, known, expected) => expect(plan(known)).toEqual({ ...nothing, ...expected }))

  it("begins nothing once it is cancelled, and ends when what runs has ended", () => {
    const close = ["b", "c", "d"].map((name) => ({ task: name, state: "cancelled" as const }))
    expect(plan({ a: status("running") }, true)).toEqual({ ...nothing, close })
    expect(plan({ a: status("cancelled") }, true)).toEqual({ ...nothing, close, end: "cancelled" })
    expect(plan({ a: done, b: done, c: done, d: done }, true)).toEqual({ ...nothing, end: "succeeded" })
  })

  it.each([
    [0, { state: "waiting", failures: 1, readyAt: at("2026-11-26T12:02:00Z") }],
    [1, { state: "failed", failures: 2, readyAt: undefined }]
  ])("after %s failures before, another leads to its retry exactly two minutes later, or to the end", (before, expected) =>
    expect(RunPlan.afterFailure(tasks[0]!, before, now)).toEqual(expected))
})
