import { PgClient } from "@effect/sql-pg"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as GoldCompare from "@voltlake/gold/GoldCompare"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as GoldPublish from "@voltlake/gold/GoldPublish"
import * as MinuteRetention from "@voltlake/gold/MinuteRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as StageLake from "@voltlake/testing/StageLake"
import * as Verify from "./Verify.ts"

const { event, inProcess, send, topic } = StageLake

const days = ["2025-03-01", "2025-03-02", "2025-03-03", "2025-03-04"]

const someEvents = (name: string) =>
  days.flatMap((day, at) => ["a", "b"].map((vehicle) => event({ id: `${name} ${at} ${vehicle}`, vehicle, time: `${day}T23:59:30Z`, battery: 10 * at })))

const daysIn = (table: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.map(sql.unsafe<{ readonly day: string }>(`SELECT DISTINCT minute_ts::date::text AS day FROM ${table} ORDER BY 1`), (rows) => rows.map(({ day }) => day)))

const breaches = inProcess(Effect.map(Verify.run(topic), Verify.breaches))

const batch = (name: string) =>
  inProcess(Effect.gen(function*() {
    const checked = yield* GoldModels.load(name)
    yield* GoldBatch.build(checked)
    if (checked.model.refresh === "batch") yield* GoldPublish.publish(checked)
    else expect(yield* GoldCompare.compare(checked)).toMatchObject({ differing: 0, waiting: 0 })
  }))

/** Days are kept from this one on. */
const keepFrom = (day: string) => Effect.suspend(() => MinuteRetention.run(Math.floor((Date.now() - Date.parse(day)) / 86_400_000)))

const minute = "date_trunc('minute', event_ts)"
const earlier = "-- name: aaa\n-- description: for a test\n-- key: at_ts\n-- time: at_ts\n-- grain: minute\n-- refresh: batch\n" +
  `SELECT ${minute} AS at_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY ${minute}`

const models = ["vehicle_minute_metrics", "fleet_minute_metrics", "fleet_soc_distribution", "vehicle_day"]

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("tables of minutes", (it) => {
  it.effect("are kept for some days in PostgreSQL, whatever comes late, and for ever in Iceberg", () =>
    GoldLake.fresh(Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* send(0, someEvents("first"))
      yield* GoldLake.fill
      for (const name of models) yield* batch(name)
      expect(yield* daysIn("gold_fleet_soc_distribution")).toEqual(days)
      // As a run leaves it that is killed: what is to go is there yet, and no breach.
      yield* sql`UPDATE lake.gold_progress SET minutes_from = 20150`
      expect(yield* breaches).toEqual([])
      // A table of an earlier model, with another time, keeps nobody from anything.
      yield* sql`INSERT INTO lake.gold_model (name, text) VALUES ('aaa', ${earlier})`
      yield* sql`CREATE TABLE gold_aaa (another timestamp)`
      const removed = yield* inProcess(keepFrom("2025-03-03"))
      yield* sql`DELETE FROM lake.gold_model`
      expect(removed).toEqual({ gold_vehicle_minute_metrics: 4, gold_fleet_minute_metrics: 2, gold_fleet_soc_distribution: 2 })
      const check = Effect.gen(function*() {
        for (const name of models) yield* batch(name)
        for (const table of ["vehicle_minute_metrics", "fleet_minute_metrics", "fleet_soc_distribution"]) {
          expect(yield* daysIn(`gold_${table}`), table).toEqual(["2025-03-03", "2025-03-04"])
        }
        expect(yield* breaches).toEqual([])
      })
      yield* check
      yield* send(0, someEvents("late"))
      yield* GoldLake.fill
      yield* check
      expect(yield* sql`SELECT count(*)::int AS n FROM gold_vehicle_day`).toEqual([{ n: 8 }])
      // What is not kept does not keep a vehicle from being forgotten, where it has nothing else.
      yield* send(0, [event({ id: "old", vehicle: "old", time: "2025-03-01T10:00:00Z" })])
      yield* GoldLake.fill
      for (const vehicleId of ["a", "old"]) {
        yield* inProcess(Forget.run({ vehicleId, dropReferences: false, dryRun: false }))
        yield* inProcess(StageLake.drain(StageLake.gold()))
      }
      yield* check
      expect(yield* sql`SELECT DISTINCT vehicle_id FROM gold_vehicle_minute_metrics UNION SELECT vehicle_id FROM vehicle_signal_latest`).toEqual([{ vehicle_id: "b" }])
      // A longer time brings nothing back, and a filling anew goes by it too.
      expect(yield* inProcess(keepFrom("2025-02-01"))).toEqual({
        gold_vehicle_minute_metrics: 0, gold_fleet_minute_metrics: 0, gold_fleet_soc_distribution: 0
      })
      yield* sql`UPDATE lake.gold_progress SET silver_epoch = -1`
      yield* inProcess(StageLake.drain(StageLake.gold()))
      yield* check
    })))
})
