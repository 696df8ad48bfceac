// Going on with another log under the topic's name: two logs in memory, and whoever reads the topic finds the second from some moment on.
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as StageLake from "@voltlake/testing/StageLake"
import * as LogAdoption from "./LogAdoption.ts"

const { bronze, drain, inProcess, query, send, topic } = StageLake

const lake = <A, E>(title: string, body: Effect.Effect<A, E, Layer.Layer.Success<typeof StageLake.durable>>) =>
  it.live(title, () => Effect.provide(body, StageLake.durable))

/** A log that is the given one until it is switched to another, as a topic that is deleted and made again under its readers. */
const switching = Effect.gen(function*() {
  let current = yield* EventLog
  const second = Context.get(yield* Layer.build(Layer.fresh(MemoryEventLog.layer)), EventLog)
  const log = EventLog.of({
    identity: Effect.suspend(() => current.identity),
    ensureTopic: (...args) => current.ensureTopic(...args),
    partitions: (...args) => current.partitions(...args),
    append: (...args) => current.append(...args),
    olderThan: (...args) => current.olderThan(...args),
    trim: (...args) => current.trim(...args),
    open: (...args) =>
      Effect.map(current.open(...args), (reader) => ({
        ...reader,
        assigned: Effect.suspend(() => Effect.map(current.partitions(args[0]), (all) => all.map((bounds) => ({ ...bounds, generation: 0 })))),
        read: (...range) => Effect.scoped(Effect.flatMap(current.open(...args), (now) => now.read(...range)))
      }))
  })
  return { log, replace: Effect.sync(() => void (current = second)) }
})

const rows = Effect.map(
  query(({ bronze: all }) => `SELECT topic || '-' || "partition" || '/' || "offset" || ' ' || "value"::VARCHAR AS row FROM ${all} ORDER BY ALL`),
  (found) => found.map(({ row }) => row)
)

const adopt = (force = false) => inProcess(LogAdoption.adopt(topic, { force }))

describe("Adopting a log", () => {
  lake("goes on with the other log from its first offset, in a bronze that runs, and keeps what was read before", Effect.scoped(Effect.gen(function*() {
    const { log, replace } = yield* switching
    yield* Effect.gen(function*() {
      yield* send(0, ["a", "b"])
      yield* send(1, ["c"])
      yield* inProcess(Effect.gen(function*() {
        const stage = yield* bronze()
        const drained = drain(Effect.succeed(stage))
        yield* drained
        yield* replace
        yield* send(0, ["x"])
        yield* drained
        expect(yield* stage.hindrances).toEqual([0, 1].map((partition) => expect.stringContaining(`LogReplaced: telemetry_raw-${partition} `)))
        const adopted = yield* adopt()
        expect(adopted).toMatchObject({ name: "telemetry_raw~2", before: "telemetry_raw" })
        expect(adopted.differences.length).toBeGreaterThan(0)
        yield* drained
        expect(yield* stage.hindrances).toEqual([])
        yield* send(1, ["y"])
        yield* drained
      }))
      expect(yield* rows).toEqual([
        "telemetry_raw-0/0 a",
        "telemetry_raw-0/1 b",
        "telemetry_raw-1/0 c",
        "telemetry_raw~2-0/0 x",
        "telemetry_raw~2-1/0 y"
      ])
      expect(Position.encode(Progress.position(yield* StageLake.progress(telemetryRaw)))).toBe(
        "{\"telemetry_raw-0\":\"2\",\"telemetry_raw-1\":\"1\",\"telemetry_raw~2-0\":\"1\",\"telemetry_raw~2-1\":\"1\"}"
      )
      // The log that is read now is known again in its turn.
      expect(yield* Effect.flip(adopt())).toMatchObject({ _tag: "NothingToAdopt" })
    }).pipe(Effect.provideService(EventLog, log))
  })))

  lake("is refused where the log is the one that was read, unless forced", Effect.gen(function*() {
    yield* send(0, ["a"])
    expect((yield* Effect.flip(adopt())).message).toContain("bronze has read nothing of it yet")
    yield* inProcess(drain(bronze()))
    const refused = yield* Effect.flip(adopt())
    expect(refused.message).toContain("this is the log that bronze has read: nothing to adopt")
    expect((yield* adopt(true)).name).toBe("telemetry_raw~2")
    yield* inProcess(drain(bronze()))
    expect(yield* rows).toEqual(["telemetry_raw-0/0 a", "telemetry_raw~2-0/0 a"])
    expect((yield* adopt(true)).name).toBe("telemetry_raw~3")
  }))

  lake("happens once where two do it at a time", Effect.gen(function*() {
    yield* send(0, ["a"])
    yield* inProcess(drain(bronze()))
    const catalog = yield* Catalog
    const isAboutTo = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const slow = Catalog.of({
      ...catalog,
      swap: (request) => Effect.zipRight(Effect.zipRight(Deferred.succeed(isAboutTo, undefined), Deferred.await(mayGoOn)), catalog.swap(request))
    })
    const other = yield* Effect.fork(Effect.either(adopt(true).pipe(Effect.provideService(Catalog, slow))))
    yield* Deferred.await(isAboutTo)
    yield* adopt(true)
    yield* Deferred.succeed(mayGoOn, undefined)
    expect(yield* Fiber.join(other)).toMatchObject({ _tag: "Left", left: { _tag: "AdoptedMeanwhile", name: "telemetry_raw~2" } })
    const { metadata } = yield* inProcess(LakeTables.load(telemetryRaw))
    expect(metadata.snapshots).toHaveLength(2)
  }))
})
