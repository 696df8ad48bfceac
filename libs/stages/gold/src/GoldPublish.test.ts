/** What PostgreSQL has of a batch model is what its Iceberg table has, whatever happened to either. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import type * as GoldModel from "@voltlake/domain/GoldModel"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import * as Forget from "@voltlake/maintenance/Forget"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as GoldPublish from "./GoldPublish.ts"
import * as GoldTable from "./GoldTable.ts"
import * as ModelTable from "./ModelTable.ts"
import * as RowsBetween from "./RowsBetween.ts"

const { event, fillSilver, inProcess, send } = StageLake

const models = ["vehicle_day", "fleet_soc_distribution"].map(ModelFiles.named)
const { build, checked } = ModelFiles
const publish = (model: GoldModel.GoldModel) => inProcess(Effect.flatMap(checked(model), GoldPublish.publish))

/** Rows that only one side has, once both are in the engine. */
const differences = (model: GoldModel.GoldModel) =>
  inProcess(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const connection = yield* (yield* QueryEngine).connect
    const found = yield* checked(model)
    const { metadata } = yield* ModelTable.ensure(found)
    const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, (yield* Scan.plan(metadata)).files)
    yield* RowsBetween.fetch(sql, connection, found.columns, `SELECT * FROM ${GoldTable.tableName(model)}`, "of_postgres")
    const [count] = yield* connection.rows(`SELECT count(*) AS rows, (SELECT count(*) FROM (
      (FROM of_postgres EXCEPT ALL FROM ${relation}) UNION ALL (FROM ${relation} EXCEPT ALL FROM of_postgres))) AS differing FROM ${relation}`)
    return { rows: Number(count!["rows"]), differing: Number(count!["differing"]) }
  }))

const expectSame = Effect.forEach(models, (model) =>
  Effect.gen(function*() {
    yield* build(model)
    yield* publish(model)
    expect(yield* differences(model), model.name).toMatchObject({ differing: 0 })
  }), { discard: true })

const reset = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.zipRight(sql`TRUNCATE lake.gold_model_state`, sql.unsafe(models.map((model) => `DROP TABLE IF EXISTS ${GoldTable.tableName(model)};`).join(""))))

const fresh = <A, E, R>(effect: Effect.Effect<A, E, R>) => GoldLake.fresh(Effect.zipRight(reset, effect))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("a published model", (it) => {
  it.effect("has the same rows in PostgreSQL as in Iceberg after every step", () =>
    fresh(Effect.gen(function*() {
      yield* fillSilver
      yield* expectSame
      yield* send(0, TelemetryLines.make(SeededRandom.make(3), 200, { copies: 0.2, malformed: 0.05 }).lines)
      yield* send(1, [
        event({ id: "first", time: "0001-01-01T00:00:00Z" }), event({ id: "before 1970", time: "1969-12-31T23:59:00Z", odometer: 0.1 }),
        event({ id: "none", time: "2025-03-07T10:00:00Z", battery: null, odometer: null, speed: null, vehicle: "v'\"\\ü" })
      ])
      yield* fillSilver
      yield* expectSame
      yield* send(1, [event({ id: "new day", time: "2025-03-09T10:00:00Z" })])
      yield* fillSilver
      for (const model of models) {
        yield* build(model)
        expect(yield* publish(model)).toMatchObject({ days: 1 })
        expect(yield* publish(model)).toMatchObject({ days: 0 })
      }
      yield* expectSame
      // A day that is gone altogether.
      yield* inProcess(Forget.run({ vehicleId: "v'\"\\ü", dropReferences: false, dryRun: false }))
      yield* expectSame
    })))

  it.effect("is readable by the role that reads gold, where there is one", () =>
    fresh(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE ROLE gold_reader`
      yield* send(0, [event({ id: "a" })])
      yield* fillSilver
      yield* expectSame
      expect(yield* sql`SELECT has_table_privilege('gold_reader', 'gold_vehicle_day', 'SELECT') AS may`).toEqual([{ may: true }])
    })))

  it.effect("is published once more where its table or its columns are others", () =>
    fresh(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* send(0, [event({ id: "a" })])
      yield* fillSilver
      yield* expectSame
      yield* sql`ALTER TABLE gold_vehicle_day ADD COLUMN x integer`
      yield* expectSame
      yield* sql`UPDATE lake.gold_model_state SET table_uuid = gen_random_uuid()`
      yield* sql`DELETE FROM gold_vehicle_day`
      yield* expectSame
      const [comment] = yield* sql<{ readonly text: string }>`SELECT obj_description('gold_vehicle_day'::regclass) AS text`
      expect(comment?.text).toBe(models[0]!.description)
      // Comments follow the model, and the table stays as it is.
      yield* sql`COMMENT ON COLUMN gold_vehicle_day.events IS 'another'`
      yield* expectSame
      const [column] = yield* sql<{ readonly text: string }>`SELECT col_description(attrelid, attnum) AS text FROM pg_attribute
        WHERE attrelid = 'gold_vehicle_day'::regclass AND attname = 'events'`
      expect(column?.text).toBe("All events")
      const [key] = yield* sql<{ readonly text: string }>`SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint
        WHERE conrelid = 'gold_vehicle_day'::regclass AND contype = 'p'`
      expect(key?.text).toBe("PRIMARY KEY (vehicle_id, day_ts)")
    })))
})
