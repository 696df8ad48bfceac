/** Removals in between: a batch of silver that is under way, a comparison, a rollback. In the end nothing is lost that should be there, and nothing is left. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { telemetryClean, telemetryRaw } from "@voltlake/domain/Tables"
import * as GoldCompare from "@voltlake/gold/GoldCompare"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as Expression from "@voltlake/iceberg/Expression"
import * as Scan from "@voltlake/iceberg/Scan"
import * as ReadTable from "@voltlake/iceberg/test/ReadTable"
import * as TableState from "@voltlake/iceberg/test/TableState"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import * as RecoverPosition from "@voltlake/maintenance/RecoverPosition"
import * as Removal from "@voltlake/maintenance/Removal"
import * as Rollback from "@voltlake/maintenance/Rollback"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as Verify from "./Verify.ts"

const { bronze, drain, event, gold, inProcess, query, record, send, silver, stepOnce, topic } = StageLake

const verify = inProcess(Verify.run(topic))
const breaches = Effect.map(verify, (report) => Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))
/** As found so many minutes from now. */
const breachesIn = (minutes: number) =>
  Effect.clockWith((clock) => {
    const later: typeof clock = Object.assign(Object.create(clock) as typeof clock, {
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (ms) => ms + minutes * 60_000)
    })
    return Effect.withClock(breaches, later)
  })

const vehicles = Effect.map(query(({ clean }) => `SELECT DISTINCT vehicle_id AS v FROM ${clean} ORDER BY 1`), (rows) => rows.map(({ v }) => v))
const forget = (vehicleId: string) => inProcess(Forget.run({ vehicleId, dropReferences: false, dryRun: false }))
const sql = (statement: string) => Effect.flatMap(SqlClient.SqlClient, (client) => client.unsafe<Readonly<Record<string, unknown>>>(statement))

const model = ModelFiles.named("vehicle_minute_metrics")

const old = (id: string) => record(event({ id }), { timestampMs: Date.parse("2025-03-01T08:00:00Z") })

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("a removal", (it) => {
  it.effect("keeps a batch of silver out that was read before it and is committed after it", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [event({ id: "a" })])
      yield* GoldLake.fill
      yield* send(0, [event({ id: "b", vehicle: "secret" }), event({ id: "c" })])
      yield* inProcess(drain(bronze()))
      const catalog = yield* Catalog
      const [begun, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const held = Catalog.of({
        ...catalog,
        swap: (swap) => Effect.zipRight(Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(release)), catalog.swap(swap))
      })
      const batch = yield* Effect.fork(Effect.either(Effect.provideService(stepOnce(silver()), Catalog, held)))
      yield* Deferred.await(begun)
      yield* forget("secret")
      yield* Deferred.succeed(release, undefined)
      expect(yield* Fiber.join(batch)).toMatchObject({ left: { _tag: "BronzeStale" } })
      yield* GoldLake.fill
      expect(yield* vehicles).toEqual(["v1"])
      expect(yield* query(({ clean }) => `SELECT count(*) AS n FROM ${clean}`)).toEqual([{ n: 2n }])
      expect(yield* breaches).toEqual([])
    })))

  it.effect("is followed by gold itself, and not found first by the comparison with the batch", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* sql("TRUNCATE lake.gold_model_state")
      yield* send(0, [event({ id: "a" }), event({ id: "b", vehicle: "secret", speed: 77 })])
      yield* GoldLake.fill
      yield* ModelFiles.build(model)
      yield* send(0, [event({ id: "c" }), event({ id: "d", vehicle: "secret", speed: 78 })])
      yield* GoldLake.fill
      yield* forget("secret")
      expect(yield* Effect.flip(inProcess(Effect.flatMap(ModelFiles.checked(model), (found) => GoldCompare.compare(found))))).toMatchObject({ _tag: "GoldBehind" })
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect(yield* sql("SELECT vehicle_id FROM vehicle_signal_latest WHERE vehicle_id = 'secret'")).toEqual([])
    })))

  it.effect("is followed also where only the latest values still have the vehicle", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [event({ id: "a" }), event({ id: "b", vehicle: "secret" })])
      yield* GoldLake.fill
      yield* forget("secret")
      yield* sql("DELETE FROM gold_vehicle_minute_metrics WHERE vehicle_id = 'secret'")
      yield* inProcess(drain(gold()))
      expect(yield* sql("SELECT vehicle_id FROM vehicle_signal_latest WHERE vehicle_id = 'secret'")).toEqual([])
    })))

  it.effect("that gold does not follow for long is a breach", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [event({ id: "a" }), event({ id: "b", vehicle: "secret" })])
      yield* GoldLake.fill
      yield* forget("secret")
      expect(yield* breaches).toEqual([])
      expect(yield* breachesIn(11)).toContain("gold: removals from silver that gold has not followed for ten minutes = 0")
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
    })))

  it.effect("brings nothing back that another engine deletes while it works", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, ["a", "b", "c"].map((id) => event({ id })))
      yield* GoldLake.fill
      const catalog = yield* Catalog
      let isFirst = true
      // Between the removal's files and its commit, once.
      const deleteB = Effect.gen(function*() {
        const { metadata } = yield* LakeTables.load(telemetryClean)
        const { files } = yield* Scan.plan(metadata)
        const { partition, specId } = files[0]!.file
        const over = { content: "equality-deletes", equalityIds: [1], partition, specId, recordCount: 1n } as const
        const deletes = yield* ReadTable.writeForeign(metadata, "SELECT 'b' AS event_id", "{event_id: 1}", over)
        yield* TableState.addDeletes(LakeTables.identifier(telemetryClean), [deletes], "theirs")
      })
      const context = yield* Effect.context<Effect.Effect.Context<ReturnType<typeof inProcess<void, unknown, never>>>>()
      const meddling = Catalog.of({
        ...catalog,
        swap: (swap) => {
          if (!isFirst) return catalog.swap(swap)
          isFirst = false
          return Effect.zipRight(Effect.orDie(Effect.provide(inProcess(deleteB), context) as Effect.Effect<void>), catalog.swap(swap))
        }
      })
      const condition = { contract: telemetryClean, filter: Expression.everything, sql: "event_id = 'a'" }
      const removal = Removal.run({ conditions: [condition], scope: { type: "any" }, dryRun: false })
      expect(yield* Effect.provideService(inProcess(removal), Catalog, meddling)).toMatchObject([{ rows: 1n }])
      expect(yield* query(({ clean }) => `SELECT event_id FROM ${clean}`)).toEqual([{ event_id: "c" }])
    })))

  it.effect("from bronze keeps silver from going back to where it would miss the rows, unless that is accepted", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [old("a")])
      yield* GoldLake.fill
      yield* send(0, [old("b"), old("c")])
      yield* GoldLake.fill
      yield* inProcess(DayRetention.run({ bronzeDays: Option.some(1), silverDays: Option.none() }, false))
      const { snapshots } = yield* StageLake.metadata(telemetryClean)
      const request = { contract: telemetryClean, snapshotId: snapshots.at(-2)!.snapshotId, topic, acceptLoss: false }
      const refused = yield* Effect.flip(inProcess(Rollback.rollback(request)))
      expect(refused.message).toContain("bronze does not hold 2 of the rows any more that silver would read again")
      yield* GoldLake.fill
      expect(yield* query(({ clean }) => `SELECT count(*) AS n FROM ${clean}`)).toEqual([{ n: 3n }])
      expect(yield* inProcess(Rollback.rollback({ ...request, acceptLoss: true }))).toHaveLength(2)
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
    })))

  it.effect("from bronze leaves counters that add up where silver's position is computed from its rows", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [old("a"), old("b"), old("c"), event({ id: "d" })])
      yield* GoldLake.fill
      yield* inProcess(DayRetention.run({ bronzeDays: Option.some(1), silverDays: Option.none() }, false))
      const others = { rows: (all: string) => `SELECT * FROM ${all}` }
      for (const contract of [telemetryClean]) yield* inProcess(OtherEngine.overwrite(contract, others))
      yield* inProcess(OtherEngine.expireAll(telemetryClean))
      const recovered = yield* inProcess(RecoverPosition.recover(telemetryClean))
      expect(Array.from(recovered.values())).toMatchObject([{ rows: 4n, duplicates: 0n, skipped: 0n, rejected: 0n }])
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect(yield* query(({ bronze: all }) => `SELECT count(*) AS n FROM ${all}`)).not.toEqual([{ n: 4n }])
      expect((yield* StageLake.metadata(telemetryRaw)).snapshots.length).toBeGreaterThan(0)
    })))
})
