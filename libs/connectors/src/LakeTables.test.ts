import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { lakeTables, telemetryRaw } from "@voltlake/domain/Tables"
import { positionKey } from "@voltlake/iceberg/Snapshot"
import type { Snapshot } from "@voltlake/iceberg/Snapshot"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as LakeTables from "./LakeTables.ts"

const at = (position: bigint): Progress.Progress =>
  Either.getOrThrow(Progress.advance(Progress.empty, [
    { topic: "t", partition: 0, start: 0n, end: position, rows: position, skipped: 0n, lost: 0n, rejected: 0n, duplicates: 0n }
  ]))

const snapshot = (snapshotId: bigint, summary: Record<string, string>): Snapshot => ({
  snapshotId,
  parentSnapshotId: snapshotId === 1n ? undefined : snapshotId - 1n,
  sequenceNumber: snapshotId,
  timestampMs: Number(snapshotId),
  manifestList: "",
  summary: { operation: "append", ...summary },
  schemaId: 0,
  extra: {}
})

const lineage = (...summaries: ReadonlyArray<Record<string, string>>) => (metadata: TableMetadata): TableMetadata => ({
  ...metadata,
  snapshots: summaries.map((summary, index) => snapshot(BigInt(index + 1), summary)),
  currentSnapshotId: summaries.length === 0 ? undefined : BigInt(summaries.length)
})

const progressOf = (edit: (metadata: TableMetadata) => TableMetadata) =>
  StageLake.inProcess(Effect.map(LakeTables.ensure(telemetryRaw), ({ metadata }) => LakeTables.progressOf(telemetryRaw, edit(metadata)))).pipe(
    Effect.provide(StageLake.durable)
  )

describe("LakeTables.progressOf", () => {
  it.live("is that of the nearest snapshot, from the current one back, which has any", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [ReadonlyArray<Record<string, string>>, Progress.Progress]> = [
        [[], Progress.empty],
        [[LakeTables.progressSummary(at(3n))], at(3n)],
        [[LakeTables.progressSummary(at(3n)), LakeTables.progressSummary(at(5n))], at(5n)],
        [[LakeTables.progressSummary(at(3n)), LakeTables.progressSummary(at(5n)), {}, {}], at(5n)],
        [[{}, LakeTables.progressSummary(at(3n)), {}], at(3n)],
        // An older damaged one does not matter.
        [[{ [LakeTables.progressKey]: "?" }, LakeTables.progressSummary(at(3n)), {}], at(3n)]
      ]
      for (const [summaries, expected] of cases) expect(yield* progressOf(lineage(...summaries))).toEqual(Either.right(expected))
    }))

  it.live("is missing where others' snapshots are all there are: reading from the start would double the rows", () =>
    Effect.gen(function*() {
      const missing = yield* progressOf(lineage({}, {}))
      expect(Either.getLeft(missing)).toMatchObject({ value: { _tag: "ProgressMissing", table: "bronze.telemetry_raw" } })
    }))

  it.live("that cannot be read is named with table and snapshot, and not passed over", () =>
    Effect.gen(function*() {
      const damaged = ["", "{", "[]", "{\"t-0\":{}}", "{\"t-0\":5}", Progress.encode(at(3n)).replace("\"3\"", "\"three\""), "null"]
      for (const text of damaged) {
        const result = yield* progressOf(lineage(LakeTables.progressSummary(at(1n)), { [LakeTables.progressKey]: text }, {}))
        expect(Either.isLeft(result), text).toBe(true)
        expect(Either.getLeft(result)).toMatchObject({ value: { _tag: "ProgressDamaged", table: "bronze.telemetry_raw", snapshotId: 2n } })
      }
    }))

  it.live("survives a commit of an engine that knows nothing of it", () =>
    Effect.gen(function*() {
      yield* StageLake.send(0, ["a", "b"])
      yield* StageLake.inProcess(StageLake.drain(StageLake.bronze()))
      const before = yield* StageLake.progress(telemetryRaw)
      yield* StageLake.inProcess(OtherEngine.overwrite(telemetryRaw, { rows: (all) => `SELECT * FROM ${all}` }))
      const metadata = yield* StageLake.metadata(telemetryRaw)
      expect(metadata.snapshots.at(-1)!.summary[LakeTables.progressKey]).toBeUndefined()
      expect(yield* StageLake.progress(telemetryRaw)).toEqual(before)
      yield* StageLake.send(0, ["c"])
      yield* StageLake.inProcess(StageLake.drain(StageLake.bronze()))
      expect(yield* StageLake.query(({ bronze }) => `SELECT count(*) AS rows, count(DISTINCT "offset") AS offsets FROM ${bronze}`))
        .toEqual([{ rows: 3n, offsets: 3n }])
    }).pipe(Effect.provide(StageLake.durable)))
})

describe("LakeTables", () => {
  it("writes the position beside the counters", () => {
    const summary = LakeTables.progressSummary(at(7n))
    expect(Position.decode(summary[positionKey]!)).toEqual(Either.right(Progress.position(at(7n))))
    expect(Progress.decode(summary[LakeTables.progressKey]!)).toEqual(Either.right(at(7n)))
  })

  it.live("makes every table of the lake once, with one partition a day", () =>
    Effect.gen(function*() {
      for (const contract of lakeTables) {
        const made = yield* LakeTables.ensure(contract)
        expect(made.metadata.partitionSpecs.map(({ fields, specId }) => [specId, fields.map((field) => field.name)]))
          .toEqual([[LakeTables.daySpecId, [`${contract.dayOf}_day`]], [LakeTables.unpartitionedSpecId, []]])
        expect(made.metadata.defaultSpecId).toBe(LakeTables.daySpecId)
        expect((yield* LakeTables.ensure(contract)).metadata.tableUuid).toBe(made.metadata.tableUuid)
      }
    }).pipe(StageLake.inProcess, Effect.provide(StageLake.durable)))

  it("never gives two columns of a table the same field id", () => {
    for (const { columns } of lakeTables) {
      const nested = columns.flatMap(({ id, type }) => [id, ...Array.from(JSON.stringify(type).matchAll(/"(?:element-)?id":(\d+)/g), ([, n]) => Number(n))])
      expect(new Set(nested).size).toBe(nested.length)
    }
  })
})
