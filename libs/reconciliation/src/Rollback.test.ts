/** A table is rolled back, and the stages go on: in the end everything is as if nothing had happened, and nothing is called a breach in between. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { telemetryClean, telemetryRaw, telemetryRejected, type TableContract } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as GoldProgress from "@voltlake/gold/GoldProgress"
import * as Rollback from "@voltlake/maintenance/Rollback"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as LakeStatus from "./LakeStatus.ts"
import * as Verify from "./Verify.ts"

const { bronze, drain, gold, inProcess, query, send, silver, topic } = StageLake

const breaches = Effect.map(inProcess(Verify.run(topic)), (report) => Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))
const rows = Effect.map(inProcess(LakeStatus.read(topic)), ({ stages }) => stages.map((stage) => stage.rows))

/** Three rounds through all stages, in two partitions, with copies and rejects. */
const filled = Effect.gen(function*() {
  for (const round of [0, 1, 2]) {
    // Copies within a round only: of two in different partitions the one stays that comes first, and rounds are read together later on.
    yield* send(round % 2, TelemetryLines.make(SeededRandom.make(round), 100, { copies: 0.2, malformed: 0.1 }).lines)
    yield* GoldLake.fill
  }
})

/** The snapshot that was current `back` commits ago. */
const earlier = (contract: TableContract, back: number) =>
  Effect.map(StageLake.metadata(contract), ({ snapshots }) => snapshots.at(-1 - back)!.snapshotId)

const rollback = (contract: TableContract, snapshotId: bigint, acceptLoss = false) =>
  inProcess(Rollback.rollback({ contract, snapshotId, topic, acceptLoss }))

const minutes = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT * FROM gold_vehicle_minute_metrics ORDER BY 1, 2`)
const epoch = Effect.map(Effect.flatMap(SqlClient.SqlClient, GoldProgress.read), ({ silverEpoch }) => silverEpoch)

/** Keys with their places. */
const kept = query(({ clean, rejected }) => `
  SELECT vehicle_id || '/' || event_id AS key, "partition", "offset" FROM ${clean}
  UNION ALL SELECT rule, "partition", "offset" FROM ${rejected} ORDER BY ALL`)

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("a rollback", (it) => {
  it.effect("of bronze makes it read the same offsets again, while silver waits where it is", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = { kept: yield* kept, minutes: yield* minutes, rows: yield* rows }
      const [done] = yield* rollback(telemetryRaw, yield* earlier(telemetryRaw, 1))
      expect(done).toMatchObject({ table: "bronze.telemetry_raw", offsets: 100n })
      expect(yield* breaches).toEqual([])
      expect(yield* inProcess(Effect.flatMap(silver(), (stage) => stage.step))).toBe("idle")
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect({ kept: yield* kept, minutes: yield* minutes, rows: yield* rows }).toEqual(before)
      expect(yield* epoch).toBe(0)
    })))

  it.effect("of silver takes both its tables back, and gold is filled again", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = { kept: yield* kept, minutes: yield* minutes }
      // What another engine did to silver is what one would want to be rid of.
      yield* inProcess(OtherEngine.overwrite(telemetryClean, { rows: (all) => `SELECT * REPLACE (speed_mph + 1 AS speed_mph) FROM ${all}` }))
      const done = yield* rollback(telemetryRejected, yield* earlier(telemetryRejected, 2))
      expect(done.map(({ offsets, table }) => [table, offsets])).toEqual([["silver.telemetry_clean", 200n], ["silver.telemetry_rejected", 200n]])
      // Gold has read further, and waits until silver has noted it.
      expect(yield* inProcess(Effect.flatMap(gold(), (stage) => Effect.zip(stage.step, stage.hindrances)))).toEqual([
        "idle",
        [expect.stringContaining("was rewound")]
      ])
      expect(yield* breaches).toEqual([])
      yield* inProcess(drain(silver()))
      yield* inProcess(drain(gold()))
      expect(yield* epoch).toBe(1)
      expect(yield* breaches).toEqual([])
      expect({ kept: yield* kept, minutes: yield* minutes }).toEqual(before)
    })))

  it.effect("of silver is seen by gold also where silver went further before gold looked", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      yield* rollback(telemetryClean, yield* earlier(telemetryClean, 1))
      yield* send(0, [StageLake.event({ id: "more" })])
      yield* inProcess(Effect.zipRight(drain(bronze()), drain(silver())))
      yield* inProcess(drain(gold()))
      expect(yield* epoch).toBe(1)
      expect(yield* breaches).toEqual([])
    })))

  it.effect("to where the log holds nothing any more is refused, unless the loss is accepted", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const to = yield* earlier(telemetryRaw, 1)
      yield* (yield* EventLog).trim({ topic, partition: 0 }, 150n)
      const refused = yield* Effect.flip(rollback(telemetryRaw, to))
      expect(refused._tag).toBe("RollbackRefused")
      expect(refused.message).toContain("the log holds telemetry_raw-0 from offset 150 on, and reading would go on at 100")
      expect(yield* breaches).toEqual([])
      yield* rollback(telemetryRaw, to, true)
      yield* inProcess(drain(bronze({ acceptLoss: true })))
      expect(yield* breaches).toEqual([])
    })))

  it.effect("to a snapshot that is no ancestor is refused", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const refused = yield* Effect.flip(rollback(telemetryRaw, 1n))
      expect(refused._tag).toBe("RollbackRefused")
      expect(refused.message).toContain("no ancestor")
    })))
})
