import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Fiber, type Layer, Option, TestClock } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean, telemetryRaw, type TableContract } from "@voltlake/domain/Tables"
import * as Action from "@voltlake/iceberg/Action"
import * as Scan from "@voltlake/iceberg/Scan"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Type from "@voltlake/iceberg/Type"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as Compaction from "./Compaction.ts"
import * as Compactor from "./Compactor.ts"

const { bronze, event, inProcess, query, send, silver } = StageLake

type DurableParts = Layer.Layer.Success<typeof StageLake.durable>

const lake = <A, E>(title: string, body: Effect.Effect<A, E, DurableParts>) => it.live(title, () => Effect.provide(body, StageLake.durable), 60_000)

const settings = { filesMin: 4 }
const table = (contract: TableContract) => LakeTables.identifier(contract)

const plan = (contract: TableContract) => inProcess(Effect.flatMap(LakeTables.load(contract), ({ metadata }) => Scan.plan(metadata)))
const fileCount = (contract: TableContract) => Effect.map(plan(contract), ({ files }) => files.length)

const compact = (contract: TableContract) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* Compaction.compactTable(connection, table(contract), settings)
  }))

const rowsOf = (contract: TableContract) =>
  query((relations) => `SELECT * FROM ${contract === telemetryRaw ? relations.bronze : relations.clean} ORDER BY topic, "partition", "offset"`)

/** A commit for each round, in bronze and in silver. */
const rounds = (count: number) =>
  inProcess(Effect.gen(function*() {
    const [toBronze, toSilver] = [yield* bronze(), yield* silver()]
    for (let round = 0; round < count; round++) {
      yield* send(round % 2, TelemetryLines.make(SeededRandom.make(round), 60, { copies: 0.2, malformed: 0.1 }).lines)
      yield* toBronze.step
      yield* toSilver.step
    }
  }))

describe("Compaction", () => {
  lake("makes one file of a partition's many, with the same rows, counters and position", Effect.gen(function*() {
    yield* rounds(6)
    for (const contract of [telemetryRaw, telemetryClean]) {
      const before = { rows: yield* rowsOf(contract), progress: Progress.encode(yield* StageLake.progress(contract)) }
      const partitions = new Set((yield* plan(contract)).files.map(({ file }) => String(file.partition)))
      const merged = yield* compact(contract)
      expect(merged.length).toBeGreaterThan(0)
      expect(yield* fileCount(contract)).toBe(partitions.size)
      expect({ rows: yield* rowsOf(contract), progress: Progress.encode(yield* StageLake.progress(contract)) }).toEqual(before)
      expect(yield* compact(contract)).toEqual([])
    }
    // The stages go on from where they were.
    yield* rounds(1)
    const progress = yield* StageLake.progress(telemetryClean)
    expect(Progress.check(progress)).toEqual(Either.right(progress))
  }))

  lake("sorts the rows of the files it makes", Effect.gen(function*() {
    yield* send(1, ["a", "b"].map((id) => event({ id, vehicle: "v2" })))
    yield* StageLake.fillSilver
    yield* send(0, ["c", "d"].map((id) => event({ id, vehicle: "v1", time: "2025-03-01T08:00:00Z" })))
    yield* StageLake.fillSilver
    yield* compact(telemetryClean)
    yield* compact(telemetryRaw)
    expect((yield* query(({ clean }) => `SELECT vehicle_id FROM ${clean}`)).map((row) => row["vehicle_id"])).toEqual(["v1", "v1", "v2", "v2"])
    expect((yield* query((relations) => `SELECT "partition" AS p FROM ${relations.bronze}`)).map((row) => row["p"])).toEqual([0, 0, 1, 1])
    const { files } = yield* plan(telemetryClean)
    expect(files.map(({ file }) => file.sortOrderId)).toEqual([LakeTables.sortOrderId])
  }))

  lake("runs beside writers: no commit of theirs fails, and no row is lost or doubled", Effect.gen(function*() {
    yield* rounds(4)
    const writing = yield* Effect.fork(rounds(12))
    let merges = 0
    while (Option.isNone(yield* Fiber.poll(writing))) {
      merges += (yield* compact(telemetryRaw)).length + (yield* compact(telemetryClean)).length
    }
    yield* Fiber.join(writing)
    expect(merges).toBeGreaterThan(0)
    const progress = yield* StageLake.progress(telemetryClean)
    const bronzeProgress = yield* StageLake.progress(telemetryRaw)
    expect((yield* rowsOf(telemetryRaw)).length).toBe(Number(Progress.total(bronzeProgress, "rows")))
    expect((yield* rowsOf(telemetryClean)).length).toBe(Number(Progress.total(progress, "rows")))
    expect(Progress.position(progress)).toEqual(Progress.position(bronzeProgress))
  }))

  lake("two at once: one merges, the other leaves it", Effect.gen(function*() {
    yield* rounds(6)
    const before = yield* rowsOf(telemetryRaw)
    yield* Effect.all([compact(telemetryRaw), compact(telemetryRaw), compact(telemetryRaw)], { concurrency: "unbounded" })
    expect(yield* rowsOf(telemetryRaw)).toEqual(before)
    expect(yield* fileCount(telemetryRaw)).toBe(1)
  }))
})

describe("Compactor", () => {
  it.effect("merges what has come together, and the rest once a partition has been at rest for an hour", () =>
    Effect.provide(
      Effect.gen(function*() {
        yield* rounds(3)
        yield* inProcess(Effect.gen(function*() {
          const stage = yield* Compactor.make([table(telemetryRaw)], settings)
          const files = Effect.map(Effect.flatMap(LakeTables.load(telemetryRaw), ({ metadata }) => Scan.plan(metadata)), (found) => found.files.length)
          expect(yield* stage.step).toBe("idle")
          expect(yield* files).toBe(3)
          yield* rounds(1)
          expect(yield* stage.step).toBe("advanced")
          expect(yield* files).toBe(1)
          yield* rounds(2)
          expect(yield* stage.step).toBe("idle")
          expect(yield* files).toBe(3)
          yield* TestClock.adjust("59 minutes")
          expect(yield* stage.step).toBe("idle")
          yield* TestClock.adjust("1 minute")
          expect(yield* stage.step).toBe("advanced")
          expect(yield* files).toBe(1)
          yield* TestClock.adjust("3 hours")
          expect(yield* stage.step).toBe("idle")
        }))
      }),
      StageLake.durable
    ), 60_000)

  lake("tells which table it cannot merge, merges the others, and that one once it can", Effect.gen(function*() {
    yield* rounds(4)
    const change = (actions: ReadonlyArray<Action.Action<unknown>>) =>
      Effect.flatMap(Transaction.newCommitId, (commitId) =>
        Transaction.commit({ commitId, changes: [{ table: table(telemetryRaw), actions }] }))
    yield* inProcess(change([Action.evolveSchema([{ change: "add", column: "digest", type: Type.fixed(16) }])]))
    yield* inProcess(Effect.gen(function*() {
      const stage = yield* Compactor.make([table(telemetryRaw), table(telemetryClean)], settings)
      const [raw, clean] = [yield* fileCount(telemetryRaw), yield* fileCount(telemetryClean)]
      expect(yield* stage.step).toBe("advanced")
      expect(yield* stage.hindrances).toEqual([
        "bronze.telemetry_raw is not maintained: memory://store/bronze/telemetry_raw cannot be written here: column digest is of the type fixed[16]"
      ])
      expect(yield* fileCount(telemetryRaw)).toBe(raw)
      expect(yield* fileCount(telemetryClean)).toBeLessThan(clean)
      yield* change([Action.evolveSchema([{ change: "drop", column: "digest" }])])
      expect(yield* stage.step).toBe("advanced")
      expect(yield* stage.hindrances).toEqual([])
      expect(yield* fileCount(telemetryRaw)).toBeLessThan(raw)
    }))
  }))
})
