/** Gold tables that were brought on step by step are what one computation over all of silver gives, whatever came in between. */
import { expect, it } from "@effect/vitest"
import { Effect, Either, Option } from "effect"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as ModelCheck from "./ModelCheck.ts"
import * as ModelTable from "./ModelTable.ts"

const { event, fillSilver, inProcess, send } = StageLake

const { build, checked } = ModelFiles

const order = (model: GoldModel.GoldModel) => model.key.map((name) => `"${name}"`).join(", ")

/** What the table holds, as text. */
const held = (model: GoldModel.GoldModel) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* (yield* Tables).load(ModelTable.identifier(model))
    const { files } = yield* Scan.plan(metadata)
    const columns = (yield* checked(model)).columns.map(({ name }) => `"${name}"`).join(", ")
    return (yield* connection.table(`SELECT ${columns} FROM ${yield* ReadSql.relation(currentSchema(metadata), metadata, files)} ORDER BY ${order(model)}`)).rows
  }))

const overSilver = (sql: (source: string) => string) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* LakeTables.ensure(telemetryClean)
    const all = yield* SnapshotSource.all(telemetryClean, metadata)
    yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${ModelCheck.sourceName} AS ${ModelCheck.sourceSql(all)}`)
    return (yield* connection.table(sql(ModelCheck.sourceName))).rows
  }))

/** The model over all of silver at once. */
const recomputed = (model: GoldModel.GoldModel) => overSilver(() => `SELECT * FROM (${ModelCheck.boundSql(model)}) ORDER BY ${order(model)}`)

const expectExact = Effect.forEach(ModelFiles.all, (model) =>
  Effect.gen(function*() {
    yield* build(model)
    expect(yield* held(model), model.name).toEqual(yield* recomputed(model))
  }), { discard: true })

interface Row {
  readonly vehicle: string
  readonly us: bigint
  readonly battery: number | null
  readonly speed: number | null
  readonly odometer: number | null
}

/** Silver's rows in the order of events. */
const silverRows = Effect.map(
  overSilver((source) => `SELECT vehicle_id, event_us, battery_percent, speed_mph, odometer_miles FROM ${source} ORDER BY event_us, topic, "partition", "offset"`),
  (rows) => rows.map(([vehicle, us, battery, speed, odometer]) => ({ vehicle, us, battery, speed, odometer }) as Row)
)

const floor = (us: bigint, length: bigint) => us - (((us % length) + length) % length)
const minute = 60_000_000n
const dayUs = 86_400_000_000n

const grouped = <A, K>(all: ReadonlyArray<A>, keyOf: (one: A) => K) => {
  const groups = new Map<K, Array<A>>()
  for (const one of all) groups.set(keyOf(one), [...groups.get(keyOf(one)) ?? [], one])
  return groups
}

/** `vehicle_day`, in JavaScript and row by row. */
const vehicleDays = (rows: ReadonlyArray<Row>) =>
  Array.from(grouped(rows, ({ us, vehicle }) => `${vehicle} ${floor(us, dayUs)}`), ([key, events]) => {
    const miles = events.flatMap(({ odometer }) => odometer ?? [])
    const levels = events.flatMap(({ battery }) => battery === null ? [] : [Math.round(battery * 1e6)])
    const changes = levels.slice(1).map((level, index) => level - levels[index]!)
    const sum = (of: ReadonlyArray<number>) => of.reduce((total, one) => total + one, 0) / 1e6
    const speeds = Array.from(grouped(events.filter(({ speed }) => speed !== null), ({ us }) => floor(us, minute)).values())
    const moving = speeds.filter((ofMinute) => ofMinute.some(({ speed }) => speed! > 0)).length
    const gaps = events.slice(1).map(({ us }, index) => Number(us - events[index]!.us) / 1e6)
    return [
      key, miles.length === 0 ? null : miles.at(-1)! - miles[0]!, miles[0] ?? null, miles.at(-1) ?? null, sum(changes.map((change) => Math.max(-change, 0))),
      sum(changes.map((change) => Math.max(change, 0))), moving, speeds.length - moving, events.length, gaps.length === 0 ? null : Math.max(...gaps)
    ]
  }).sort()

/** `fleet_soc_distribution`, likewise. */
const socDistribution = (rows: ReadonlyArray<Row>) =>
  [...new Set(rows.map(({ us }) => floor(us, minute)))].flatMap((at) => {
    const last = new Map<string, Row>()
    for (const row of rows) if (row.battery !== null && row.us < at + minute) last.set(row.vehicle, row)
    const counting = Array.from(last.values()).filter(({ us }) => floor(us, minute) >= at - 60n * minute)
    const bands = counting.map(({ battery }) => Math.min(Math.floor(battery! / 10), 9))
    return Array.from(grouped(bands, (band) => band), ([band, vehicles]) => `${at} ${band} ${vehicles.length}`)
  }).sort()

const expectIndependent = Effect.gen(function*() {
  const rows = yield* silverRows
  const micros = (text: unknown) => BigInt(Date.parse(`${String(text).replace(" ", "T")}Z`)) * 1000n
  const number = (one: unknown) => (one === null ? null : Number(one))
  const days = (yield* held(ModelFiles.named("vehicle_day"))).map(([vehicle, day, ...rest]) => [`${vehicle} ${micros(day)}`, ...rest.map(number)])
  expect(days.sort()).toEqual(vehicleDays(rows))
  const bands = (yield* held(ModelFiles.named("fleet_soc_distribution"))).map(([at, band, vehicles]) => `${micros(at)} ${band} ${vehicles}`)
  expect(bands.sort()).toEqual(socDistribution(rows))
})

const someLines = (seed: number, count = 150) => TelemetryLines.make(SeededRandom.make(seed), count, { copies: 0.2, malformed: 0.05 }).lines

/** Some vehicles in the hours around a midnight: what one event says matters for minutes, and for the next day. */
const nightly = (seed: number) => {
  const random = SeededRandom.make(seed)
  return Array.from({ length: 30 }, (_, index) =>
    event({
      id: `night ${seed} ${index}`,
      vehicle: `night-${random.below(5)}`,
      time: new Date(Date.parse("2025-03-04T20:00:00Z") + random.below(480 * 60_000)).toISOString(),
      battery: random.next() < 0.2 ? null : random.below(1000) / 10,
      speed: random.below(3) * 20,
      odometer: random.below(1000) / 8
    }))
}

const lake = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.provide(effect, StageLake.durable) as Effect.Effect<A, E>, 240_000)

const at = (id: string, time: string, more: object = {}) => event({ id, time, ...more })

lake("are exact after every round: late events, copies, several days, merging, retention and a vehicle that is forgotten", Effect.gen(function*() {
  yield* fillSilver
  yield* expectExact
  for (const round of [1, 2, 3]) {
    yield* send(round % 2, [...someLines(round), ...nightly(round)])
    yield* fillSilver
    yield* expectExact
  }
  yield* expectIndependent
  // A month late, and years.
  yield* send(0, [at("late", "2025-01-30T23:30:00Z"), at("later", "1969-12-31T23:59:30Z", { battery: 3 }), at("soon", "2025-03-02T00:00:00Z")])
  yield* fillSilver
  yield* expectExact
  yield* inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    yield* Effect.forEach(ModelFiles.all, (model) => Compaction.compactTable(connection, ModelTable.identifier(model), { filesMin: 2 }), { discard: true })
  }))
  yield* send(1, someLines(4))
  yield* fillSilver
  yield* expectExact
  const kept = Math.floor(Date.now() / 86_400_000) - Date.parse("2025-02-28") / 86_400_000
  yield* inProcess(DayRetention.run({ bronzeDays: Option.none(), silverDays: Option.some(kept) }, false))
  yield* send(1, [at("later still", "2025-01-30T23:31:00Z")])
  yield* fillSilver
  yield* expectExact
  yield* inProcess(Forget.run({ vehicleId: "vehicle-3", dropReferences: false, dryRun: false }))
  yield* expectExact
  yield* expectIndependent
}))

lake("are brought on by what is new alone", Effect.gen(function*() {
  const model = ModelFiles.named("vehicle_minute_metrics")
  yield* send(0, [at("a", "2025-03-01T08:00:00Z"), at("b", "2025-03-01T09:00:00Z"), at("c", "2025-03-02T09:00:00Z", { vehicle: "v2" })])
  yield* fillSilver
  expect(yield* build(model)).toMatchObject({ kind: "full", days: 2, rows: 3n })
  expect(yield* build(model)).toMatchObject({ kind: "unchanged", days: 0 })
  yield* send(0, [at("d", "2025-03-02T09:00:30Z", { vehicle: "v2" }), at("e", "2025-03-02T09:00:30Z", { vehicle: "v3" })])
  yield* fillSilver
  expect(yield* build(model)).toMatchObject({ kind: "touched", units: 2, days: 1, rows: 2n })
  // An event matters for an hour of minutes; only those that have events have rows.
  const soc = ModelFiles.named("fleet_soc_distribution")
  yield* build(soc)
  yield* send(0, [at("f", "2025-03-02T09:10:00Z", { battery: 95 })])
  yield* fillSilver
  expect(yield* build(soc)).toMatchObject({ kind: "touched", units: 61, days: 1, rows: 2n })
}))

lake("say what they were computed from, and a run that was overtaken is given up", Effect.gen(function*() {
  const model = ModelFiles.named("vehicle_day")
  yield* send(0, [at("a", "2025-03-01T08:00:00Z")])
  yield* fillSilver
  const context = yield* Effect.context<Effect.Effect.Context<ReturnType<typeof build>>>()
  const other = Effect.orDie(Effect.asVoid(Effect.provide(build(model), context)))
  expect(yield* Effect.flip(build(model, () => other))).toMatchObject({ _tag: "BatchSuperseded" })
  expect(yield* build(model)).toMatchObject({ kind: "unchanged" })
  expect(yield* held(model)).toEqual(yield* recomputed(model))
}))

const broken = (name: string, sql: string, more = "") =>
  Either.getOrThrow(GoldModel.parse(name, `-- name: ${name}\n-- description: d\n-- key: vehicle_id, day_ts\n-- time: day_ts\n-- grain: day\n-- refresh: batch\n${more}${sql}`))

lake("stay as they were where a model's rows are not as it says", Effect.gen(function*() {
  yield* send(0, [at("a", "2025-03-01T08:00:00Z"), at("b", "2025-03-01T08:00:10Z")])
  yield* fillSilver
  const day = "date_trunc('day', event_ts)"
  const cases = [
    [broken("twice", `SELECT vehicle_id, ${day} AS day_ts, event_id FROM silver.telemetry_clean`), "its key is not unique: 2 rows have (vehicle_id, day_ts) = (v1, 2025-03-01"],
    [broken("uneven", "SELECT vehicle_id, event_ts AS day_ts, event_id FROM silver.telemetry_clean"), "not the beginning of a day"],
    [broken("absent", `SELECT CASE WHEN false THEN vehicle_id END AS vehicle_id, ${day} AS day_ts FROM silver.telemetry_clean`), "no value in a column of the key"],
    [broken("tested", `SELECT vehicle_id, ${day} AS day_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`, "-- test: n > 2\n"), "fail its test n > 2"]
  ] as const
  for (const [model, reason] of cases) {
    const refused = yield* Effect.flip(build(model))
    expect(refused).toMatchObject({ _tag: "ModelBroken" })
    expect(refused.message).toContain(reason)
    expect(yield* held(model)).toEqual([])
  }
}))
