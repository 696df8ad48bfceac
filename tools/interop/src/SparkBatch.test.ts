/** Gold by batch on Spark is gold by batch, to the last digit: both engines compute each model over the same lake, whatever came to it in between. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Either, Option } from "effect"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import { BatchEngine, type Engine } from "@voltlake/gold/BatchEngine"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as ModelCheck from "@voltlake/gold/ModelCheck"
import * as ModelTable from "@voltlake/gold/ModelTable"
import * as SparkBatch from "@voltlake/gold/SparkBatch"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as Installed from "./Installed.ts"
import * as SparkLake from "./SparkLake.ts"

const installed = await Installed.install("spark")

const { event, fillSilver, inProcess, send } = StageLake

const order = (model: GoldModel) => model.key.map((name) => `"${name}"`).join(", ")

const tableOf = (model: GoldModel) => inProcess(Effect.flatMap(Tables, (tables) => tables.load(ModelTable.identifier(model))))

/** What the table holds, as text. */
const held = (model: GoldModel) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* (yield* Tables).load(ModelTable.identifier(model))
    const { files } = yield* Scan.plan(metadata)
    const columns = (yield* ModelFiles.checked(model)).columns.map(({ name }) => `"${name}"`).join(", ")
    return (yield* connection.table(`SELECT ${columns} FROM ${yield* ReadSql.relation(currentSchema(metadata), metadata, files)} ORDER BY ${order(model)}`)).rows
  }))

/** The model over all of silver at once, by DuckDB. */
const recomputed = (model: GoldModel) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* LakeTables.ensure(telemetryClean)
    const all = yield* SnapshotSource.all(telemetryClean, metadata)
    yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${ModelCheck.sourceName} AS ${ModelCheck.sourceSql(all)}`)
    return (yield* connection.table(`SELECT * FROM (${ModelCheck.boundSql(model)}) ORDER BY ${order(model)}`)).rows
  }))

/** Brings the model's table to silver by Spark. What is told of the engine may be another. */
const build = (model: GoldModel, changed: (engine: Engine) => Engine = (engine) => engine) =>
  Effect.flatMap(SparkLake.Spark, (settings) =>
    inProcess(Effect.gen(function*() {
      const engine = changed(yield* SparkBatch.make(settings))
      return yield* GoldBatch.build(yield* ModelFiles.checked(model)).pipe(Effect.provideService(BatchEngine, engine))
    })))

/** What Spark works through, which must be gone after each run. */
const left = inProcess(Effect.flatMap(Catalog, (catalog) => Effect.map(catalog.list, (all) => all.map(render).filter((name) => name.startsWith("gold_staging.")))))

const expectAlike = (model: GoldModel, kind: GoldBatch.Built["kind"]) =>
  Effect.gen(function*() {
    expect(yield* build(model)).toMatchObject({ kind })
    const rows = yield* held(model)
    expect(rows.length, model.name).toBeGreaterThan(0)
    expect(rows, model.name).toEqual(yield* recomputed(model))
    // What says which silver it was computed from is as by the other engine: it finds nothing to do.
    expect(yield* ModelFiles.build(model)).toMatchObject({ kind: "unchanged" })
    expect(yield* build(model)).toMatchObject({ kind: "unchanged" })
    expect(yield* left).toEqual([])
  })

const expectAllAlike = (kind: GoldBatch.Built["kind"]) => Effect.forEach(ModelFiles.all, (model) => expectAlike(model, kind), { discard: true })

const someLines = (seed: number) => TelemetryLines.make(SeededRandom.make(seed), 150, { copies: 0.2, malformed: 0.05 }).lines

/** Some vehicles around a midnight, with figures of which engines make decimals each in its way. */
const nightly = (seed: number) => {
  const random = SeededRandom.make(seed)
  const odd = [0.1234565, 2.5e-6, 1.0000005, 99.9999995, 123456789.1234567, 999999999999.25, 12345678901234.5]
  return Array.from({ length: 40 }, (_, index) =>
    event({
      id: `night ${seed} ${index}`,
      vehicle: `night-${random.below(5)}`,
      time: new Date(Date.parse("2025-03-04T20:00:00Z") + random.below(480 * 60_000)).toISOString(),
      battery: random.next() < 0.2 ? null : random.below(1000) / 10,
      speed: random.next() < 0.3 ? odd[random.below(odd.length)]! : random.below(3) * 20,
      odometer: random.below(1000) / 8
    }))
}

describe.skipIf(Either.isLeft(installed))("gold by batch on Spark", () =>
  layer(SparkLake.layer(Either.getOrThrow(installed)), { excludeTestServices: true, timeout: 120_000 })((it) => {
    it.effect("has the rows that DuckDB computes, of each model, after each thing that may come", () =>
      Effect.gen(function*() {
        yield* send(0, [...someLines(1), ...nightly(1)])
        yield* fillSilver
        yield* expectAllAlike("full")
        // Late by a month and by years, and again around midnight.
        const late = [event({ id: "late", time: "2025-01-30T23:30:00Z" }), event({ id: "later", time: "1969-12-31T23:59:30Z", battery: 3 })]
        yield* send(1, [...nightly(2), ...late])
        yield* fillSilver
        yield* expectAllAlike("touched")
        const kept = Math.floor(Date.now() / 86_400_000) - Date.parse("2025-02-28") / 86_400_000
        yield* inProcess(DayRetention.run({ bronzeDays: Option.none(), silverDays: Option.some(kept) }, false))
        yield* expectAllAlike("touched")
        yield* inProcess(Forget.run({ vehicleId: "night-3", dropReferences: false, dryRun: false }))
        yield* expectAllAlike("full")
        for (const model of ModelFiles.all) expect((yield* tableOf(model)).metadata.location).not.toContain("staged")
      }), 200_000)
  }))
