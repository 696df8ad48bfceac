/** Maintenance over an embedded lake, of which a part breaks. */
import { NodeContext } from "@effect/platform-node"
import { expect, it } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import { StageHealth } from "@voltlake/stage-runner/Stage"
import * as Lake from "./Lake.ts"
import * as Stages from "./Stages.ts"

it.live("maintenance that stops by a bug says so, and gives its lock to whoever stands by", () =>
  Effect.gen(function*() {
    const folder = yield* temporaryFolder
    yield* Lake.use(folder, (opened) =>
      Effect.scoped(Effect.gen(function*() {
        const catalog = yield* Catalog
        const broken = Catalog.of({ ...catalog, expiredFiles: () => Effect.dieMessage("a bug of ours") })
        const home: Stages.Home = { ...opened, purpose: "test", whenStopped: "others go on" }
        yield* Effect.forkScoped(Effect.provideService(Stages.run("maintenance", home), Catalog, broken))
        const health = yield* StageHealth
        const isAtRest = Effect.map(health.all, (all) => all.length === 3 && all.every(({ state, reason }) => state === "waiting" && reason.includes("after 1m")))
        yield* Effect.repeat(isAtRest, { until: (itIs) => itIs, schedule: Schedule.spaced("50 millis") })
        const states = yield* health.all
        expect(states.find(({ stage }) => stage === "maintenance")?.reason).toContain("it stopped, and begins anew after 1m: a bug of ours")
        expect(states.find(({ stage }) => stage === "compaction")?.reason).toBe("it begins anew after 1m")
        yield* SessionLock.acquire("voltlake maintenance", "another process")
        const events = yield* OpsEvents.newest(9, { severity: "ERROR" })
        expect(events.map(({ kind, message }) => `${kind} ${message}`)).toEqual(["stage_stopped maintenance stopped by a bug: a bug of ours"])
      })))
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(NodeContext.layer))), 60_000)
