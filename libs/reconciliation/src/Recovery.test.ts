/** What a lake loses that an operator can bring back: its catalog, and a table's position. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Progress from "@voltlake/domain/Progress"
import { lakeTables, telemetryClean, telemetryRaw, telemetryRejected, type TableContract } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as RecoverPosition from "@voltlake/maintenance/RecoverPosition"
import * as Register from "@voltlake/maintenance/Register"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as Verify from "./Verify.ts"

const { inProcess, query, send, topic } = StageLake

const breaches = Effect.map(inProcess(Verify.run(topic)), (report) => Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))
const round = (seed: number) => send(seed % 2, TelemetryLines.make(SeededRandom.make(seed), 80, { copies: 0.2, malformed: 0.1 }).lines)
const filled = Effect.forEach([0, 1, 2], (seed) => Effect.zipRight(round(seed), GoldLake.fill))
const progressOf = (contract: TableContract) => Effect.map(StageLake.progress(contract), Progress.encode)
const count = Effect.map(
  query(({ bronze, clean, rejected }) => `SELECT (SELECT count(*) FROM ${bronze}) AS b, (SELECT count(*) FROM ${clean}) AS c, (SELECT count(*) FROM ${rejected}) AS r`),
  ([row]) => row!
)

/** A snapshot of the same rows by an engine that knows nothing of ours, after which ours are expired. */
const forget = (contract: TableContract) =>
  inProcess(Effect.gen(function*() {
    yield* OtherEngine.overwrite(contract, { rows: (all) => `SELECT * FROM ${all}` })
    yield* OtherEngine.expireAll(contract)
  }))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("a lake", (it) => {
  it.effect("whose catalog is lost is not begun anew beside its files, and goes on once they are registered", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = { count: yield* count, progress: yield* Effect.forEach(lakeTables, progressOf) }
      yield* Effect.provide(
        Effect.gen(function*() {
          const refused = yield* Effect.flip(StageLake.fillSilver)
          expect(refused._tag).toBe("TableUnregistered")
          expect(refused.message).toContain("voltlake tables register")
          expect(yield* (yield* Catalog).list).toEqual([])
          const registered = yield* inProcess(Register.register())
          expect(registered.map(({ table }) => table)).toEqual(["bronze.telemetry_raw", "silver.telemetry_clean", "silver.telemetry_rejected"])
          expect({ count: yield* count, progress: yield* Effect.forEach(lakeTables, progressOf) }).toEqual(before)
          expect(yield* inProcess(Register.register())).toEqual([])
          yield* round(3)
          yield* GoldLake.fill
          expect(yield* breaches).toEqual([])
        }),
        Layer.fresh(MemoryCatalog.layer)
      )
    })))

  it.effect("whose bronze lost its position stops, and goes on once it is computed from the rows", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = { count: yield* count, progress: yield* progressOf(telemetryRaw) }
      yield* forget(telemetryRaw)
      const missing = yield* Effect.flip(StageLake.stepOnce(StageLake.bronze()))
      expect(missing.message).toContain("voltlake tables recover-position bronze.telemetry_raw")
      yield* inProcess(RecoverPosition.recover(telemetryRaw))
      expect({ count: yield* count, progress: yield* progressOf(telemetryRaw) }).toEqual(before)
      yield* round(3)
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
    })))

  it.effect("whose silver lost its position recovers both its tables, and reads the last copies again", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = yield* count
      yield* forget(telemetryClean)
      yield* inProcess(RecoverPosition.recover(telemetryRejected))
      expect(yield* progressOf(telemetryClean)).toBe(yield* progressOf(telemetryRejected))
      yield* GoldLake.fill
      expect(yield* count).toEqual(before)
      expect(yield* breaches).toEqual([])
    })))

  it.effect("that knows its position keeps it", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const known = yield* Effect.flip(inProcess(RecoverPosition.recover(telemetryClean)))
      expect(known._tag).toBe("PositionKnown")
      expect(yield* Effect.either(inProcess(LakeTables.load(telemetryClean)))).toMatchObject({ _tag: "Right" })
    })))
})
