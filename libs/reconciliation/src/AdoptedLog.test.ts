// Status and equations where an operator went on with another log under the topic's name.
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as LogAdoption from "@voltlake/bronze/LogAdoption"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as StageLake from "@voltlake/testing/StageLake"
import * as LakeStatus from "./LakeStatus.ts"
import * as Verify from "./Verify.ts"

const { event, inProcess, send, topic } = StageLake

const breaches = Effect.map(inProcess(Verify.run(topic)), Verify.breaches)
const lags = Effect.map(inProcess(LakeStatus.read(topic)), ({ stages }) => stages.map(({ lag }) => lag))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("an adopted log", (it) => {
  it.effect("is what lag and equations are about, while what was read of the former counts as all read", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [event({ id: "a" }), event({ id: "b" })])
      yield* send(1, [event({ id: "c" })])
      yield* GoldLake.fill
      yield* Effect.provide(
        Effect.gen(function*() {
          yield* send(0, [event({ id: "d" })])
          yield* inProcess(LogAdoption.adopt(topic, { force: false }))
          expect(yield* lags).toEqual([0n, 1n, 0n, 0n])
          expect(yield* breaches).toEqual([])
          yield* GoldLake.fill
          expect(yield* lags).toEqual([0n, 0n, 0n, 0n])
          expect(yield* breaches).toEqual([])
          const { stages } = yield* inProcess(LakeStatus.read(topic))
          expect(stages.map(({ rows }) => rows)).toEqual([1n, 4n, 4n, 4n])
        }),
        Layer.fresh(MemoryEventLog.layer)
      )
    })))
})
