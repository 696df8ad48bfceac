/** Rows are removed on purpose: gold follows, the counters go on adding up, and what is gone is gone from every file. */
import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Chunk, Duration, Effect, Option, Stream } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Progress from "@voltlake/domain/Progress"
import { lakeTables, qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import * as GoldProgress from "@voltlake/gold/GoldProgress"
import * as Expression from "@voltlake/iceberg/Expression"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Acknowledge from "@voltlake/maintenance/Acknowledge"
import * as Cleaner from "@voltlake/maintenance/Cleaner"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import * as Removal from "@voltlake/maintenance/Removal"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { literal } from "@voltlake/query-engine/SqlText"
import * as GoldLake from "@voltlake/testing/GoldLake"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as Verify from "./Verify.ts"

const { bronze, drain, event, gold, inProcess, query, record, send, silver, topic } = StageLake

const verify = inProcess(Verify.run(topic))
const breaches = Effect.map(verify, (report) => Verify.breaches(report).map(({ equation, subject }) => `${subject}: ${equation}`))

const at = (id: string, time: string, more: object = {}) => event({ id, time, ...more })

const vehicle = "vehicle-7"
const bytes = (text: string) => new TextEncoder().encode(text)

/** What names the vehicle, and is no event. */
const rejectsOfIt = [
  record("no event at all", { key: bytes(vehicle) }),
  `{"event_id": 7, "vehicle_id": "${vehicle}"}`,
  `{"vehicle_id":"${vehicle}", cut off`,
  `{"event_id":"escaped","vehicle_id":"vehicle\\u002d7","event_time":"2025-03-01T08:00:00Z","payload":{"speed_mph":10}}`
]

/** What holds its id, and is of others. */
const others = [
  event({ id: "longer", vehicle: `${vehicle}1` }),
  event({ id: vehicle, vehicle: "vehicle-8" }),
  record(event({ id: "by key", vehicle: "vehicle-9" }), { key: bytes(vehicle) })
]

const filled = Effect.gen(function*() {
  const { lines } = TelemetryLines.make(SeededRandom.make(5), 400, { copies: 0.1, malformed: 0.1 })
  yield* send(0, [...lines.slice(0, 250), ...rejectsOfIt])
  yield* GoldLake.fill
  yield* send(1, [...lines.slice(250), ...others])
  yield* GoldLake.fill
})

const sql = (statement: string) =>
  Effect.flatMap(SqlClient.SqlClient, (client) => client.unsafe<Readonly<Record<string, unknown>>>(statement))
const goldState = Effect.flatMap(SqlClient.SqlClient, GoldProgress.read)

const minutesOf = (condition: string) => sql(`SELECT * FROM gold_vehicle_minute_metrics WHERE ${condition} ORDER BY 1, 2`)

const clean = query((tables) => `SELECT vehicle_id, event_id, "partition", "offset" FROM ${tables.clean} ORDER BY ALL`)

const forget = (more: Partial<Forget.Request> = {}) =>
  inProcess(Forget.run({ vehicleId: vehicle, dropReferences: false, dryRun: false, ...more }))

const removedRows = ({ removed }: Forget.Forgotten) => removed.map(({ contract, rows }) => [contract.name, rows])

/** Data files that are in the store, whoever names them, and hold the vehicle's id in some way. */
const filesWithIt = inProcess(Effect.gen(function*() {
  const store = yield* ObjectStore
  const connection = yield* (yield* QueryEngine).connect
  const objects = Chunk.toReadonlyArray(yield* Stream.runCollect(store.list("")))
  const found: Array<string> = []
  for (const { key } of objects.filter((object) => object.key.endsWith(".parquet"))) {
    const path = yield* store.localFile(key)
    const column = key.includes("telemetry_clean") ? "vehicle_id" : `try(decode("value"))`
    const isIt = `regexp_matches(${column}, '^${vehicle}$|"vehicle_id": ?"vehicle(-|\\\\u002d)7"')`
    const [row] = yield* connection.rows(`SELECT count(*) AS n FROM read_parquet(${literal(path)}) WHERE ${isIt}`)
    if (row!["n"] !== 0n) found.push(key)
  }
  return found
}))

const cleanUp = inProcess(drain(Cleaner.make({ gracePeriod: Duration.zero })))

const tag = (contract: TableContract, name: string) =>
  inProcess(Effect.gen(function*() {
    const changes = [{ table: LakeTables.identifier(contract), actions: [Action.setReference({ name, type: "tag" })] }]
    yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes })
  }))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("forgetting a vehicle", (it) => {
  it.effect("takes its rows out of all tables, files and gold, and nothing else", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const keptRows = (yield* clean).filter((row) => row["vehicle_id"] !== vehicle)
      const keptMinutes = yield* minutesOf(`vehicle_id <> '${vehicle}'`)
      const progress = Progress.encode(yield* StageLake.progress(telemetryClean))
      const planned = yield* forget({ dryRun: true })
      expect(yield* filesWithIt).not.toEqual([])
      const done = yield* forget()
      expect(removedRows(done)).toEqual(removedRows(planned))
      expect(Number(done.removed[1]!.rows)).toBeGreaterThan(0)
      expect(done.removed[2]!.rows).toBe(3n)
      // Every event of it is in bronze once or more, and the rejects.
      expect(done.removed[0]!.rows >= done.removed[1]!.rows + 3n).toBe(true)
      expect(yield* clean).toEqual(keptRows)
      expect(Progress.encode(yield* StageLake.progress(telemetryClean))).toBe(progress)
      // Gold has not followed yet, which is nobody's fault.
      expect(yield* breaches).toEqual([])
      const before = yield* goldState
      yield* inProcess(drain(gold()))
      const after = yield* goldState
      expect(after.silverRemoval).not.toBe(before.silverRemoval)
      expect(Progress.position(after.progress)).toEqual(Progress.position(before.progress))
      expect(yield* breaches).toEqual([])
      expect(yield* minutesOf(`vehicle_id <> '${vehicle}'`)).toEqual(keptMinutes)
      expect(yield* sql(`SELECT vehicle_id FROM gold_vehicle_minute_metrics WHERE vehicle_id = '${vehicle}'
        UNION ALL SELECT vehicle_id FROM vehicle_signal_latest WHERE vehicle_id = '${vehicle}'`)).toEqual([])
      yield* cleanUp
      expect(yield* filesWithIt).toEqual([])
      expect(removedRows(yield* forget())).toEqual(lakeTables.map(({ name }) => [name, 0n]))
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
    })))

  it.effect("is followed by a gold that was behind, and by silver: an event of it that comes again is new", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      yield* send(0, [event({ id: "e1", vehicle }), event({ id: "e2", vehicle: "vehicle-8" })])
      yield* StageLake.fillSilver
      yield* forget()
      yield* send(0, [event({ id: "e1", vehicle }), event({ id: "e2", vehicle: "vehicle-8" })])
      yield* inProcess(drain(bronze()))
      yield* inProcess(drain(silver()))
      yield* inProcess(drain(gold()))
      expect(yield* breaches).toEqual([])
      expect((yield* clean).filter((row) => row["vehicle_id"] === vehicle).map((row) => row["event_id"])).toEqual(["e1"])
      expect((yield* minutesOf(`vehicle_id = '${vehicle}'`)).map((row) => row["event_count"])).toEqual([1n])
    })))

  it.effect("also leaves no row that silver had not read yet", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      yield* send(0, [event({ id: "e1", vehicle }), event({ id: "e2", vehicle: "vehicle-8" })])
      yield* inProcess(drain(bronze()))
      yield* Effect.all([forget(), Effect.zipRight(Effect.yieldNow(), inProcess(drain(silver())))], { concurrency: 2 })
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect((yield* clean).filter((row) => row["vehicle_id"] === vehicle)).toEqual([])
    })))

  it.effect("beside stages and merging takes exactly its rows", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const keptRows = (yield* clean).filter((row) => row["vehicle_id"] !== vehicle).length
      yield* send(0, Array.from({ length: 50 }, (_, at) => event({ id: `more${at}`, vehicle: `vehicle-${100 + at}` })))
      const merging = inProcess(Effect.gen(function*() {
        const connection = yield* (yield* QueryEngine).connect
        yield* Effect.forEach(lakeTables, (table) => Compaction.compactTable(connection, LakeTables.identifier(table), { filesMin: 2 }), { discard: true })
      }))
      yield* Effect.all([forget(), merging, GoldLake.fill], { concurrency: "unbounded" })
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      const now = yield* clean
      expect(now.length).toBe(keptRows + 50)
      expect(now.filter((row) => row["vehicle_id"] === vehicle)).toEqual([])
    })))

  // Rows that came between the look at a table and the commit stay, and gold has merged them.
  for (const scope of [{ type: "vehicle" }, { type: "before", time: "2025-03-02T00:00:00Z" }, { type: "any" }] as const) {
    it.effect(`leaves in gold what is left of it (${scope.type})`, () =>
      GoldLake.fresh(Effect.gen(function*() {
        yield* send(0, [
          at("a", "2025-03-01T10:00:00Z", { battery: 20 }), at("b", "2025-03-01T10:00:30Z", { battery: 10, speed: 99 }), at("c", "2025-03-01T10:00:40Z"),
          at("d", "2025-03-01T10:00:50Z", { vehicle: "v2", battery: 70 }), at("e", "2025-03-03T10:00:00Z", { vehicle: "v2" })
        ])
        yield* GoldLake.fill
        const condition = { contract: telemetryClean, filter: Expression.everything, sql: `event_id IN ('b', 'd')` }
        const [removed] = yield* inProcess(Removal.run({ conditions: [condition], scope, dryRun: false }))
        expect(removed).toMatchObject({ rows: 2n })
        yield* inProcess(drain(gold()))
        expect(yield* breaches).toEqual([])
        expect(yield* minutesOf("true")).toMatchObject([
          { vehicle_id: "v1", event_count: 2n, max_speed_mph: 30, min_battery_percent: 20 },
          { vehicle_id: "v2", event_count: 1n }
        ])
        expect(Array.from((yield* goldState).progress.values())).toMatchObject([{ position: 5n, rows: 3n, skipped: 2n }])
      })))
  }

  it.effect("is refused where a tag keeps an old snapshot, unless that goes too", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      yield* tag(telemetryClean, "audit")
      const refused = yield* Effect.flip(forget())
      expect(refused).toMatchObject({ _tag: "ForgetRefused" })
      expect(refused.message).toContain("audit of silver.telemetry_clean")
      yield* forget({ dropReferences: true })
      yield* cleanUp
      expect(yield* filesWithIt).toEqual([])
    })))
})

const daysSince = (day: string) => Math.floor(Date.now() / 86_400_000) - Date.parse(day) / 86_400_000
const retain = (settings: Partial<DayRetention.RetentionSettings>) =>
  inProcess(DayRetention.run({ bronzeDays: Option.none(), silverDays: Option.none(), ...settings }, false))


layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("retention by day", (it) => {
  it.effect("removes events before the oldest day that is kept, and gold follows", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [
        at("a", "2025-03-01T23:59:59.999Z"), at("b", "2025-03-02T00:00:00Z"), at("c", "2025-02-20T10:00:00Z"),
        at("d", "2025-03-05T10:00:00Z", { vehicle: "v2" }), "no event"
      ])
      yield* GoldLake.fill
      const removed = yield* retain({ silverDays: Option.some(daysSince("2025-03-02")) })
      expect(removed.map(({ contract, rows }) => [contract.name, rows])).toEqual([["telemetry_clean", 2n], ["telemetry_rejected", 0n]])
      // A late event comes before gold has followed.
      yield* send(1, [at("late", "2025-03-01T23:59:00Z", { battery: 11 })])
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect((yield* clean).map((row) => row["event_id"])).toEqual(["b", "late", "d"])
      expect((yield* minutesOf("minute_ts < '2025-03-02'")).map((row) => row["min_battery_percent"])).toEqual([11])
      yield* retain({ silverDays: Option.some(daysSince("2025-03-02")) })
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect(yield* minutesOf("minute_ts < '2025-03-02'")).toEqual([])
      expect(yield* retain({ silverDays: Option.some(daysSince("2025-03-02")) })).toMatchObject([{ rows: 0n }, { rows: 0n }])
    })))

  it.effect("removes nothing from bronze that silver has not read", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* send(0, [at("a", "2025-03-01T10:00:00Z"), at("b", "2025-03-01T11:00:00Z")])
      yield* GoldLake.fill
      yield* send(0, [at("c", "2025-03-01T12:00:00Z")])
      yield* inProcess(drain(bronze()))
      // The records' own time is of March 1.
      const keep = { bronzeDays: Option.some(daysSince("2025-03-02")) }
      expect(yield* retain(keep)).toMatchObject([{ rows: 2n }])
      yield* GoldLake.fill
      expect(yield* retain(keep)).toMatchObject([{ rows: 1n }])
      yield* GoldLake.fill
      expect(yield* breaches).toEqual([])
      expect((yield* clean).map((row) => row["event_id"])).toEqual(["a", "b", "c"])
      expect(yield* query((tables) => `SELECT count(*) AS n FROM ${tables.bronze}`)).toEqual([{ n: 0n }])
    })))
})

const removeOne = (contract: TableContract) =>
  inProcess(OtherEngine.overwrite(contract, { rows: (all) => `SELECT * FROM ${all} WHERE "offset" <> (SELECT min("offset") FROM ${all} WHERE "partition" = 1)` }))

layer(GoldLake.postgres, { excludeTestServices: true, timeout: 60_000 })("rows that another engine removed", (it) => {
  it.effect("are reported with the snapshot that did it, however long ago, until they are acknowledged", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      const before = (yield* clean).length
      yield* removeOne(telemetryClean)
      const gone = before - (yield* clean).length
      const by = (yield* StageLake.metadata(telemetryClean)).currentSnapshotId
      // Stages go on, and the snapshot expires.
      yield* send(0, [event({ id: "after", vehicle: "vehicle-8" })])
      yield* GoldLake.fill
      yield* inProcess(OtherEngine.expireAll(telemetryClean))
      const report = yield* verify
      expect(report.unacknowledged).toMatchObject([{ table: qualifiedName(telemetryClean), missing: BigInt(gone), snapshots: [{ snapshotId: by }] }])
      expect(Verify.breaches(report).map(({ equation }) => equation)).toContain("removals by other engines that nobody acknowledged = 0")
      const refused = yield* Effect.flip(inProcess(Acknowledge.run(telemetryClean, BigInt(gone + 1))))
      expect(refused.message).toContain(`${gone} rows are missing, not ${gone + 1}`)
      expect(yield* inProcess(Acknowledge.run(telemetryClean, BigInt(gone)))).toBe(BigInt(gone))
      yield* GoldLake.fill
      expect(yield* verify).toMatchObject({ unacknowledged: [] })
      expect(yield* breaches).toEqual([])
      const again = yield* Effect.flip(inProcess(Acknowledge.run(telemetryClean, 0n)))
      expect(again.message).toContain("no row is missing")
    })))

  it.effect("stop no stage, from bronze and from rejects likewise", () =>
    GoldLake.fresh(Effect.gen(function*() {
      yield* filled
      yield* send(1, [event({ id: "x" }), event({ id: "y" }), "no event"])
      yield* inProcess(drain(bronze()))
      yield* inProcess(OtherEngine.overwrite(telemetryRaw, { rows: (all) => `SELECT * FROM ${all} WHERE NOT contains(decode("value"), '"x"')` }))
      yield* removeOne(telemetryRejected)
      yield* GoldLake.fill
      const { unacknowledged } = yield* verify
      expect(unacknowledged.map(({ missing, table }) => [table, missing])).toEqual([["bronze.telemetry_raw", 1n], ["silver.telemetry_rejected", expect.anything()]])
      yield* inProcess(Acknowledge.run(telemetryRaw, 1n))
      yield* inProcess(Acknowledge.run(telemetryRejected, unacknowledged[1]!.missing))
      expect(yield* breaches).toEqual([])
      expect((yield* clean).some((row) => row["event_id"] === "y")).toBe(true)
    })))
})
