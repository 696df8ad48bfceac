/** Runs over a real PostgreSQL: what is noted of them, and that they go on where they stood. */
import { expect, layer } from "@effect/vitest"
import { SqlClient } from "@effect/sql"
import { Deferred, Duration, Effect, Fiber, Option, Ref, Schedule } from "effect"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as TestPostgres from "@voltlake/testing/TestPostgres"
import type { Dag, Task } from "./Dag.ts"
import * as Leadership from "./Leadership.ts"
import * as Orchestrator from "./Orchestrator.ts"
import * as RunStore from "./RunStore.ts"
import * as RunTables from "./RunTables.ts"

const postgres = TestPostgres.migrated([...OpsEvents.migrations, ...RunTables.migrations])

type AnyTask = Task<unknown, never>

const task = (name: string, after: ReadonlyArray<string>, run: AnyTask["run"], more: Partial<AnyTask> = {}): AnyTask => ({
  name,
  after,
  retries: 0,
  retryDelay: Duration.millis(300),
  timeout: Duration.minutes(1),
  run,
  ...more
})

const dag = (name: string, tasks: ReadonlyArray<AnyTask>, more: Partial<Dag<unknown, never>> = {}): Dag<unknown, never> => ({
  name,
  description: "for a test",
  schedule: undefined,
  stuckAfter: Duration.hours(1),
  tasks,
  ...more
})

const limit = { schedule: Schedule.spaced(Duration.millis(50)).pipe(Schedule.upTo(Duration.seconds(20))) }

/** Waits until there is something. */
const eventually = <A, E, R>(what: string, find: Effect.Effect<A | undefined | false, E, R>) =>
  Effect.repeat(find, { ...limit, until: (found) => found !== undefined && found !== false }).pipe(
    Effect.andThen(find),
    Effect.flatMap((found) => found === undefined || found === false ? Effect.dieMessage(`${what} did not come`) : Effect.succeed(found as A))
  )

const ended = (id: string) =>
  eventually("the run's end", Effect.map(RunStore.find(id), (run) => run.endedAt === null ? undefined : run))

const trigger = (name: string) =>
  Effect.flatMap(RunStore.create({ dag: name, kind: "manual", logicalTime: new Date("2026-11-26T12:00:00Z") }), (id) => Effect.succeed(id!))

const fresh = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.zipRight(sql`TRUNCATE ops.leader, ops.dag, ops.dag_run, ops.dag_task, ops.dag_attempt, ops.dag_log, ops.events RESTART IDENTITY`, effect))

const running = (...dags: ReadonlyArray<Dag<unknown, never>>) => Effect.fork(Orchestrator.run(Effect.succeed(dags)))

const events = Effect.map(OpsEvents.newest(100), (all) => all.map(({ kind, severity }) => `${severity} ${kind}`))

layer(postgres, { excludeTestServices: true, timeout: 60_000 })("the orchestrator", (it) => {
  const lake = <A, E>(name: string, effect: Effect.Effect<A, E, Effect.Effect.Context<ReturnType<typeof running>> | SqlClient.SqlClient>) =>
    it.effect(name, () => fresh(effect))

  lake("takes tasks in their order, and keeps what came of them", Effect.gen(function*() {
    const order = yield* Ref.make<ReadonlyArray<string>>([])
    const note = (name: string): AnyTask["run"] => ({ attempt, logicalTime }) =>
      Ref.update(order, (all) => [...all, name]).pipe(Effect.zipRight(Effect.logInfo(`this is ${name}`)), Effect.as({ attempt, at: logicalTime.toISOString() }))
    const orchestrator = yield* running(dag("two", [task("second", ["first"], note("second")), task("first", [], note("first"))]))
    const id = yield* trigger("two")
    expect(yield* ended(id)).toMatchObject({ state: "succeeded", kind: "manual" })
    expect(yield* Ref.get(order)).toEqual(["first", "second"])
    expect(yield* RunStore.tasks(id)).toMatchObject([
      { task: "first", state: "succeeded", facts: { attempt: 1, at: "2026-11-26T12:00:00.000Z" } },
      { task: "second", state: "succeeded" }
    ])
    expect((yield* RunStore.logs(id)).map(({ level, message, task: of }) => `${of} ${level} ${message}`)).toEqual([
      "first INFO this is first", "second INFO this is second"
    ])
    expect(yield* events).toEqual(["INFO run_succeeded"])
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("tries a task again after its delay, and gives up after its retries", Effect.gen(function*() {
    const failing = (times: number): AnyTask["run"] => ({ attempt }) => attempt <= times ? Effect.fail(new Error(`no ${attempt}`)) : Effect.succeed({})
    const orchestrator = yield* running(
      dag("once", [task("a", [], failing(1), { retries: 1 })]),
      dag("always", [task("a", [], failing(9), { retries: 1 }), task("b", ["a"], failing(0)), task("c", [], failing(0))])
    )
    const once = yield* trigger("once")
    expect(yield* ended(once)).toMatchObject({ state: "succeeded" })
    const [first, second] = yield* RunStore.attempts(once)
    expect([first, second]).toMatchObject([{ attempt: 1, state: "failed", error: "no 1" }, { attempt: 2, state: "succeeded" }])
    expect(second!.startedAt.getTime() - first!.endedAt!.getTime()).toBeGreaterThanOrEqual(300)
    const always = yield* trigger("always")
    expect(yield* ended(always)).toMatchObject({ state: "failed", reason: "failed: a" })
    expect((yield* RunStore.tasks(always)).map(({ state, task: name }) => [name, state])).toEqual([["a", "failed"], ["b", "upstream_failed"], ["c", "succeeded"]])
    expect(yield* RunStore.attempts(always)).toHaveLength(3)
    expect(yield* events).toEqual(["WARNING task_retried", "INFO run_succeeded", "WARNING task_retried", "ERROR task_failed", "ERROR run_failed"])
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("ends an attempt that takes too long, and one that dies", Effect.gen(function*() {
    const orchestrator = yield* running(
      dag("slow", [task("a", [], () => Effect.never, { timeout: Duration.millis(200) })]),
      dag("buggy", [task("a", [], () => Effect.die(new Error("a bug")))])
    )
    yield* ended(yield* trigger("slow"))
    yield* ended(yield* trigger("buggy"))
    const errors = (yield* OpsEvents.newest(10)).filter(({ kind }) => kind === "task_failed").map(({ message }) => message)
    expect(errors).toEqual([expect.stringContaining("it took longer than 200ms"), expect.stringContaining("a bug")])
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("goes on in another process with a task whose process is gone, and runs none again whose end is noted", Effect.gen(function*() {
    const counts = yield* Ref.make({ first: 0, second: 0 })
    const begun = yield* Deferred.make<void>()
    const seen = yield* Ref.make<ReadonlyArray<string>>([])
    const first = task("first", [], () => Effect.as(Ref.update(counts, (all) => ({ ...all, first: all.first + 1 })), {}))
    const second = task("second", ["first"], ({ commitId, earlierCommitIds }) =>
      Effect.gen(function*() {
        const { second: before } = yield* Ref.updateAndGet(counts, (all) => ({ ...all, second: all.second + 1 }))
        yield* Ref.update(seen, (all) => [...all, commitId])
        if (before === 1) yield* Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
        return { found: earlierCommitIds.length }
      }))
    const one = yield* running(dag("moved", [first, second]))
    yield* eventually("a leader", Leadership.leader)
    const other = yield* running(dag("moved", [first, second]))
    const id = yield* trigger("moved")
    yield* Deferred.await(begun)
    yield* Fiber.interrupt(one)
    expect(yield* ended(id)).toMatchObject({ state: "succeeded" })
    expect(yield* Ref.get(counts)).toEqual({ first: 1, second: 2 })
    const attempts = yield* RunStore.attempts(id)
    expect(attempts.map(({ attempt, state, task: name }) => [name, attempt, state])).toEqual([
      ["first", 1, "succeeded"], ["second", 1, "lost"], ["second", 2, "succeeded"]
    ])
    expect(yield* Ref.get(seen)).toEqual(attempts.slice(1).map(({ commitId }) => commitId))
    expect((yield* RunStore.tasks(id))[1]).toMatchObject({ facts: { found: 1 }, failures: 0 })
    yield* Fiber.interrupt(other)
  }))

  lake("lets no leader note anything once another has taken over", Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const release = yield* Deferred.make<void>()
    const begun = yield* Deferred.make<void>()
    const states = yield* Ref.make<ReadonlyArray<string>>([])
    const frozen = dag("frozen", [task("a", [], () => Effect.as(Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(release)), {}))])
    const orchestrator = yield* Effect.fork(Orchestrator.run(Effect.succeed([frozen]), (state) => Ref.update(states, (all) => [...all, state])))
    const id = yield* trigger("frozen")
    yield* Deferred.await(begun)
    // As after a freeze: somebody else has the next term, and this one does not know.
    yield* sql`UPDATE ops.leader SET holder = gen_random_uuid(), term = term + 1, until = clock_timestamp() + interval '1 hour'`
    yield* Deferred.succeed(release, undefined)
    yield* eventually("its standing by", Effect.map(Ref.get(states), (all) => all.includes("standby")))
    expect(yield* RunStore.attempts(id)).toMatchObject([{ state: "running" }])
    yield* sql`UPDATE ops.leader SET until = '-infinity'`
    expect(yield* ended(id)).toMatchObject({ state: "succeeded" })
    expect((yield* RunStore.attempts(id)).map(({ state }) => state)).toEqual(["lost", "succeeded"])
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("skips ticks while a run is under way, or lets them wait, as the schedule says", Effect.gen(function*() {
    const slow = task("a", [], () => Effect.as(Effect.sleep(Duration.millis(1500)), {}))
    const schedule = { cron: "* * * * * *", timeZone: "UTC", catchUp: "none" } as const
    const orchestrator = yield* running(
      dag("skips", [slow], { schedule: { ...schedule, overlap: "skip" } }),
      dag("waits", [slow], { schedule: { ...schedule, overlap: "wait" } })
    )
    const both = eventually("runs", Effect.map(RunStore.newest(undefined, 100), (runs) => {
      const of = (name: string, state: RunStore.RunState) => runs.filter((run) => run.dag === name && run.state === state)
      return of("skips", "succeeded").length >= 2 && of("waits", "succeeded").length >= 2 && of("skips", "skipped").length >= 1 && runs
    }))
    const runs = yield* both
    expect(runs.filter(({ dag: name, state }) => name === "waits" && state === "skipped")).toEqual([])
    expect(runs.find(({ state }) => state === "skipped")).toMatchObject({ dag: "skips", reason: "the run before was still under way" })
    for (const name of ["skips", "waits"]) {
      const times = runs.filter((run) => run.dag === name && run.startedAt !== null && run.endedAt !== null)
        .sort((a, b) => Number(a.startedAt) - Number(b.startedAt))
      times.slice(1).forEach((run, index) => expect(Number(run.startedAt)).toBeGreaterThanOrEqual(Number(times[index]!.endedAt)))
    }
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("passes over what it missed, or runs the latest, as the schedule says; and says so", Effect.gen(function*() {
    const done = task("a", [], () => Effect.succeed({}))
    // A tick each hour, at a minute that was half an hour ago.
    const minute = new Date(Date.now() - 30 * 60_000).getUTCMinutes()
    const schedule = { cron: `${minute} * * * *`, timeZone: "UTC", overlap: "skip" } as const
    const longAgo = new Date(Date.now() - 5 * 3_600_000)
    for (const name of ["none", "latest", "paused"]) yield* RunStore.know(name, longAgo)
    yield* RunStore.pause("paused", true, longAgo)
    const orchestrator = yield* running(
      dag("none", [done], { schedule: { ...schedule, catchUp: "none" } }),
      dag("latest", [done], { schedule: { ...schedule, catchUp: "latest" } }),
      dag("paused", [done], { schedule: { ...schedule, catchUp: "latest" } })
    )
    const [run] = yield* eventually("the latest", Effect.map(RunStore.newest(undefined, 10), (runs) => runs[0]?.state === "succeeded" && runs))
    expect(run).toMatchObject({ dag: "latest", kind: "scheduled" })
    expect(Date.now() - run!.logicalTime.getTime()).toBeLessThan(3_600_000)
    expect((yield* OpsEvents.newest(10)).filter(({ kind }) => kind === "ticks_missed").map(({ facts, subject }) => [subject, facts["missed"]])).toEqual([
      ["none", 5], ["latest", 4]
    ])
    yield* RunStore.pause("paused", false, longAgo)
    yield* eventually("the run of what goes on", Effect.map(RunStore.newest("paused", 10), (runs) => runs[0]?.state === "succeeded"))
    expect(yield* RunStore.newest(undefined, 10)).toHaveLength(2)
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("cancels a run that waits and one that is under way, and nothing of it goes on", Effect.gen(function*() {
    const stopped = yield* Ref.make(false)
    const begun = yield* Deferred.make<void>()
    const long = task("a", [], () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never).pipe(Effect.onInterrupt(() => Ref.set(stopped, true))))
    const orchestrator = yield* running(dag("long", [long, task("b", ["a"], () => Effect.succeed({}))]))
    const one = yield* trigger("long")
    yield* Deferred.await(begun)
    const next = yield* trigger("long")
    expect(yield* RunStore.cancel(next)).toBe(true)
    expect(yield* ended(next)).toMatchObject({ state: "cancelled", startedAt: null })
    expect(yield* RunStore.cancel(one)).toBe(true)
    expect(yield* ended(one)).toMatchObject({ state: "cancelled" })
    expect((yield* RunStore.tasks(one)).map(({ state }) => state)).toEqual(["cancelled", "cancelled"])
    expect(yield* Ref.get(stopped)).toBe(true)
    expect(yield* RunStore.cancel(one)).toBe(false)
    expect(Option.isSome(yield* Effect.option(RunStore.cancel("nonsense")))).toBe(false)
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("runs a month of days with three at a time, beside what is asked for by hand", Effect.gen(function*() {
    const busy = yield* Ref.make({ now: 0, most: 0 })
    const days = yield* Ref.make<ReadonlyArray<string>>([])
    const enter = Ref.update(busy, ({ most, now }) => ({ now: now + 1, most: Math.max(most, now + 1) }))
    const leave = Ref.update(busy, ({ most, now }) => ({ now: now - 1, most }))
    const work = task("a", [], ({ logicalTime }) =>
      Effect.zipRight(enter, Effect.sleep(Duration.millis(20))).pipe(
        Effect.zipRight(Ref.update(days, (all) => [...all, logicalTime.toISOString().slice(0, 10)])), Effect.ensuring(leave), Effect.as({})))
    for (let day = 1; day <= 30; day++) {
      yield* RunStore.create({ dag: "month", kind: "backfill", logicalTime: new Date(Date.UTC(2026, 10, day)), parallel: 3 })
    }
    const orchestrator = yield* running(dag("month", [work]))
    yield* eventually("all days", Effect.map(RunStore.newest("month", 100), (runs) => runs.every(({ state }) => state === "succeeded")))
    expect([...yield* Ref.get(days)].sort()).toEqual(Array.from({ length: 30 }, (_, index) => `2026-11-${String(index + 1).padStart(2, "0")}`))
    expect((yield* Ref.get(busy)).most).toBeGreaterThan(1)
    expect((yield* Ref.get(busy)).most).toBeLessThanOrEqual(3)
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("says of a run that it is stuck, once, and of one that nobody knows how to run", Effect.gen(function*() {
    const orchestrator = yield* running(dag("stuck", [task("a", [], () => Effect.never)], { stuckAfter: Duration.millis(100) }))
    yield* trigger("stuck")
    const gone = yield* trigger("gone")
    expect(yield* ended(gone)).toMatchObject({ state: "failed", reason: "there is no DAG of this name" })
    yield* eventually("the report", Effect.map(events, (all) => all.includes("ERROR run_stuck")))
    // It has looked at all runs again by then.
    yield* ended(yield* trigger("gone"))
    yield* ended(yield* trigger("gone"))
    expect((yield* events).filter((event) => event === "ERROR run_stuck")).toHaveLength(1)
    yield* Fiber.interrupt(orchestrator)
  }))

  lake("refuses DAGs that cannot be run", Effect.gen(function*() {
    const refused = yield* Effect.flip(Effect.scoped(Orchestrator.run(Effect.succeed([dag("d", []), dag("d", [])]))))
    expect(refused).toMatchObject({ _tag: "DagInvalid" })
  }))
})
