/** Live gold against batch: equal where nobody touched it, found and mended where somebody did, and never compared with what is further on. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import type * as GoldModel from "@voltlake/domain/GoldModel"
import * as Forget from "@voltlake/maintenance/Forget"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as GoldCompare from "./GoldCompare.ts"

const { event, fillSilver, inProcess, send } = StageLake

const { build, checked } = ModelFiles
const [vehicles, fleet] = [ModelFiles.named("vehicle_minute_metrics"), ModelFiles.named("fleet_minute_metrics")]
const models = [vehicles, fleet]
const compare = (model: GoldModel.GoldModel) => inProcess(Effect.flatMap(checked(model), (found) => GoldCompare.compare(found)))
const buildAll = Effect.forEach(models, (model) => build(model), { discard: true })

const sql = (statement: string) => Effect.flatMap(SqlClient.SqlClient, (client) => client.unsafe(statement))
const everything = Effect.all([sql("SELECT * FROM gold_vehicle_minute_metrics ORDER BY 1, 2"), sql("SELECT * FROM gold_fleet_minute_metrics ORDER BY 1")])

const lines = (seed: number) => TelemetryLines.make(SeededRandom.make(seed), 200, { copies: 0.2, malformed: 0.05 }).lines

/** Odd values besides: sums of many digits, none at all, times before 1970. */
const odd = [
  event({ id: "o1", speed: "33.333333333333336" }), event({ id: "o2", speed: "1e300", vehicle: "v2" }), event({ id: "o3", speed: "123456789.123456" }),
  event({ id: "o4", speed: null, battery: null, time: "1969-12-31T23:59:59.999Z" }), event({ id: "o5", speed: "0.0000005", time: "0001-01-01T00:00:00Z" })
]

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("the comparison", (it) => {
  const lake = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
    it.effect(name, () => GoldLake.fresh(Effect.zipRight(sql("TRUNCATE lake.gold_model_state"), effect)) as Effect.Effect<A, E>)

  lake("finds live and batch equal, to the last digit", Effect.gen(function*() {
    for (const round of [1, 2, 3]) {
      yield* send(round % 2, [...lines(round), ...(round === 2 ? odd : [])])
      yield* GoldLake.fill
      yield* buildAll
      for (const model of models) {
        const found = yield* compare(model)
        expect(found).toMatchObject({ differing: 0, waiting: 0, samples: [] })
        expect(found.units).toBeGreaterThan(0)
      }
    }
    yield* inProcess(Forget.run({ vehicleId: "vehicle-3", dropReferences: false, dryRun: false }))
    yield* buildAll
    expect(yield* Effect.flip(compare(vehicles))).toMatchObject({ _tag: "GoldBehind" })
    yield* GoldLake.fill
    for (const model of models) expect(yield* compare(model)).toMatchObject({ differing: 0 })
  }))

  lake("mends what differs, says what it was, and touches nothing else", Effect.gen(function*() {
    yield* send(0, [...lines(1), ...odd])
    yield* GoldLake.fill
    yield* buildAll
    const before = yield* everything
    yield* sql("UPDATE gold_vehicle_minute_metrics SET event_count = event_count + 1 WHERE vehicle_id = 'vehicle-7'")
    yield* sql("DELETE FROM gold_vehicle_minute_metrics WHERE vehicle_id = 'v1' AND minute_ts > '2000-01-01'")
    yield* sql(`INSERT INTO gold_vehicle_minute_metrics (vehicle_id, minute_ts, event_count, speed_sum, speed_count)
      VALUES ('nobody', '2025-03-01 08:00', 1, 0, 0)`)
    yield* sql("UPDATE gold_fleet_minute_metrics SET speed_sum = speed_sum + 0.000001 WHERE minute_ts = '0001-01-01 00:00'")
    const [changed] = yield* sql("SELECT count(*)::int AS n FROM gold_vehicle_minute_metrics WHERE vehicle_id = 'vehicle-7'")
    const found = yield* compare(vehicles)
    expect(found.differing).toBe(Number((changed as { readonly n: number }).n) + 2)
    expect(found.samples.find(({ unit }) => unit[0] === "nobody")).toEqual({
      unit: ["nobody", "2025-03-01T08:00:00.000Z"], live: [expect.arrayContaining(["nobody", "1", "0"])], batch: []
    })
    expect(yield* compare(fleet)).toMatchObject({ differing: 1 })
    expect(yield* everything).toEqual(before)
    for (const model of models) expect(yield* compare(model)).toMatchObject({ differing: 0 })
  }))

  lake("leaves units for the next time that live gold has moved since, and mends others at its own position", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), event({ id: "b", vehicle: "v2" }), event({ id: "c", time: "2025-03-01T09:00:00Z" })])
    yield* GoldLake.fill
    yield* buildAll
    yield* send(0, [event({ id: "d" }), event({ id: "e", vehicle: "v9" })])
    yield* GoldLake.fill
    const before = yield* everything
    yield* sql("UPDATE gold_vehicle_minute_metrics SET max_speed_mph = 1 WHERE vehicle_id IN ('v1', 'v2')")
    // v1's first minute has moved, and v9's is not the batch's yet.
    expect(yield* compare(vehicles)).toMatchObject({ units: 2, differing: 2 })
    expect((yield* everything)[0].filter((row) => (row as { readonly max_speed_mph: number }).max_speed_mph === 1)).toHaveLength(1)
    yield* buildAll
    expect(yield* compare(vehicles)).toMatchObject({ units: 2, differing: 1 })
    expect(yield* everything).toEqual(before)
  }))

  lake("waits where live gold is behind", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* fillSilver
    yield* buildAll
    const behind = yield* Effect.flip(compare(vehicles))
    expect(behind.message).toContain("live gold has not read as far as the batch")
    yield* GoldLake.fill
    expect(yield* compare(vehicles)).toMatchObject({ differing: 0, units: 1 })
  }))
})
