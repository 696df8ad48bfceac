/**
 * That a model's rows depend on what matters for their unit alone (see `domain/GoldModel`), proved on made-up rows of silver: the model is computed over all
 * of them, and over those that matter for some of the units, in other orders. The units' rows must be the same.
 *
 * That is what lets a run compute touched units only. What is proved holds for the made-up rows; a model that is otherwise for others (`count(*) > 1000`) is
 * not found out here.
 */
import { Effect } from "effect"
import { type GoldModel, grainLength, ModelInvalid } from "@voltlake/domain/GoldModel"
import { signals } from "@voltlake/domain/TelemetryEvent"
import type { AppendColumn, Connection, QueryError, SqlValue } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import { boundSql, sourceName, sourceSql } from "./ModelCheck.ts"
import { ownColumns } from "./ModelUnits.ts"

interface Row {
  readonly [column: string]: string | number | bigint | null
  readonly event_us: bigint
}

const minute = 60_000_000n
const day = 1440n * minute

/** Of a midnight. */
const midnightUs = 1_710_028_800_000_000n

const before1970Us = -30_000_000n

/** Minutes from midnight: some days, more and more events towards midnight, so that each distance in time comes before. */
const instants = [-2900, -1560, -700, -300, -72, -59, -36, -12, -2, -1, 0, 1, 3, 20, 50, 190, 780, 1500]

const vehicles = ["veh-1", "VEH-1", "veh-2", "\u00e9 3"]

const floor = (us: bigint, length: bigint): bigint => us - ((us % length) + length) % length

/** Always the same numbers, below 2^31. */
const numbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = Number((BigInt(state) * 1_103_515_245n + 12_345n) % 2_147_483_648n)
    return Math.floor((state / 2_147_483_648) * below)
  }
}

/** Some hundred rows: ties in time, nothing in what may be nothing, and what was sent on another day than it happened. */
const makeRows = ({ lookback }: GoldModel): ReadonlyArray<Row> => {
  const next = numbers(20_250_301)
  const around = instants.map((minutes) => midnightUs + BigInt(minutes) * minute)
  const times = [...around, midnightUs - lookback, midnightUs - lookback - minute, before1970Us]
  const rows: Array<Row> = []
  for (const time of times) {
    for (const vehicle of vehicles) {
      for (let count = next(4); count > 0; count--) {
        const at = rows.length
        const event_us = time + [0n, 0n, 17_000_000n, 59_999_999n][next(4)]!
        const sometimes = (value: number) => (next(5) === 0 ? null : value)
        const values = [sometimes(next(1001) / 10), sometimes(next(3) * (next(900) / 10)), sometimes(next(100_000) / 10)]
        rows.push({
          event_id: `event ${at}`,
          vehicle_id: vehicle,
          event_us,
          ingest_us: next(6) === 0 ? null : event_us + BigInt(next(3)) * day + 1_500_000n,
          source: [null, "simulator", "Simulator"][next(3)]!,
          ...Object.fromEntries(signals.map(({ name }, index) => [name, values[index % values.length]!])),
          topic: "telemetry_raw",
          partition: next(2),
          offset: BigInt(1000 - at)
        })
      }
    }
  }
  return rows
}

const tables = { made: "gold_proof_made", reversed: "gold_proof_reversed", shuffled: "gold_proof_shuffled" } as const
type Table = (typeof tables)[keyof typeof tables]

const types: ReadonlyArray<readonly [name: string, type: "varchar" | "bigint" | "double" | "integer"]> = [
  ["event_id", "varchar"],
  ["vehicle_id", "varchar"],
  ["event_us", "bigint"],
  ["ingest_us", "bigint"],
  ["source", "varchar"],
  ...signals.map(({ name }) => [name, "double"] as const),
  ["topic", "varchar"],
  ["partition", "integer"],
  ["offset", "bigint"]
]

/** Makes the rows a table. `groups` has a bit for each group of units for which the row matters. */
const fill = Effect.fnUntraced(function*(connection: Connection, table: Table, rows: ReadonlyArray<Row>, groups: (row: Row) => number) {
  yield* connection.run(`CREATE OR REPLACE TEMP TABLE ${table} (${types.map(([name, type]) => `${quoted(name)} ${type}`).join(", ")}, groups INTEGER)`)
  const columns = types.map(([name, type]) => ({ type, at: (row: number) => rows[row]![name] ?? null }) as AppendColumn)
  yield* connection.append(table, rows.length, [...columns, { type: "integer", at: (row) => groups(rows[row]!) }])
})

interface Unit {
  /** Of `key`. */
  readonly own: ReadonlyArray<SqlValue>
  readonly bucketUs: bigint
}

const keyOf = ({ bucketUs, own }: Unit): string => JSON.stringify([...own.map(String), String(bucketUs)])

/** The rows of each unit as text, in an order of their own. Those without a key are broken, and not of any unit. */
type Answer = ReadonlyMap<string, { readonly unit: Unit; readonly rows: ReadonlyArray<string> }>

const answerOf = Effect.fnUntraced(function*(connection: Connection, model: GoldModel, table: Table, where: string) {
  const relation = `(SELECT *, make_timestamp(event_us) AS event_ts, make_timestamp(ingest_us) AS ingest_ts FROM ${table} WHERE ${where})`
  yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${sourceName} AS ${sourceSql(relation)}`)
  const rows = yield* connection.rows(boundSql(model)).pipe(
    Effect.mapError((error) => {
      const reason = `over made-up rows of silver its SQL fails: ${error.reason.trim().split("\n")[0]}`
      return new ModelInvalid({ source: model.name, reason })
    })
  )
  const own = ownColumns(model)
  const found = new Map<string, { readonly unit: Unit; readonly rows: Array<string> }>()
  for (const row of rows) {
    const time = row[model.time]
    if (typeof time !== "bigint" || own.some((name) => row[name] === null)) continue
    const unit: Unit = { own: own.map((name) => row[name]!), bucketUs: floor(time, grainLength(model.grain)) }
    const known = found.get(keyOf(unit)) ?? { unit, rows: [] }
    known.rows.push(JSON.stringify(Object.values(row).map(String)))
    found.set(keyOf(unit), known)
  }
  for (const one of found.values()) one.rows.sort()
  return found as Answer
})

const isSame = (a: Answer, b: Answer, key: string): boolean => (a.get(key)?.rows ?? []).join("\n") === (b.get(key)?.rows ?? []).join("\n")

/** Whether a row of silver matters for the unit. */
const matters = (model: GoldModel, row: Row, unit: Unit): boolean => {
  const length = grainLength(model.grain)
  return floor(row.event_us, length) <= unit.bucketUs && unit.bucketUs <= floor(row.event_us + model.lookback, length) &&
    ownColumns(model).every((name, index) => row[name] === unit.own[index])
}

const whereOf = (model: GoldModel, { bucketUs, own }: Unit) => {
  const isOwn = ownColumns(model).map((name, index) => `${quoted(name)} = ${typeof own[index] === "string" ? literal(own[index]) : String(own[index])}`)
  // As `matters`: the end of its lookback lies in the unit or after it.
  const isTimely = [`event_us >= ${bucketUs - model.lookback}`, `event_us < ${bucketUs + grainLength(model.grain)}`]
  return { own: ["true", ...isOwn].join(" AND "), time: isTimely.join(" AND ") }
}

/** What is said of a unit whose rows are not the same. */
const reasonOf = Effect.fnUntraced(function*(connection: Connection, model: GoldModel, all: Answer, unit: Unit) {
  const key = keyOf(unit)
  for (const table of Object.values(tables)) {
    const other = yield* answerOf(connection, model, table, "true")
    if ([...all.keys(), ...other.keys()].some((one) => !isSame(all, other, one))) {
      return "its rows are others when silver's rows come in another order; order by columns that leave no ties"
    }
  }
  const own = ownColumns(model)
  const time = new Date(Number(unit.bucketUs / 1000n)).toISOString()
  const what = [...own.map((name, index) => `${name} = ${String(unit.own[index])}`), `${model.time} = ${time}`].join(", ")
  const from = own.length === 0 ? "rows of silver" : `rows of silver with this ${own.join(" and ")}`
  const { own: isOwn, time: isTimely } = whereOf(model, unit)
  const advice = isSame(all, yield* answerOf(connection, model, tables.made, isOwn), key)
    ? `it needs ${from} of other times: raise lookback, take a longer grain, or make ${model.time} of event_ts alone`
    : isSame(all, yield* answerOf(connection, model, tables.made, isTimely), key)
    ? `it needs rows of silver with another ${own.join(" or ")}: let windows, groups and joins go by ${own.join(" and ")}, or take that out of the key`
    : `its rows of the ${model.grain} must follow from ${from} of that ${model.grain}, and of the lookback before, by event_ts`
  return `made-up rows of silver show that a row does not follow from what matters for it (${what}): ${advice}`
})

/** Four groups of units: each unit is in one of the first two and in one of the others, and its neighbours are mostly in the other. */
const groupsOf = (units: ReadonlyArray<Unit>): ReadonlyMap<string, number> => {
  const next = numbers(7)
  const ranks = (values: ReadonlyArray<string>) => new Map([...new Set(values)].map((value, index) => [value, index]))
  const owns = ranks(units.map(({ own }) => JSON.stringify(own.map(String))).sort())
  const buckets = ranks([...units].sort((a, b) => (a.bucketUs < b.bucketUs ? -1 : 1)).map(({ bucketUs }) => String(bucketUs)))
  return new Map(units.map((unit) => {
    const parity = (owns.get(JSON.stringify(unit.own.map(String)))! + buckets.get(String(unit.bucketUs))!) % 2
    return [keyOf(unit), (1 << parity) | (4 << next(2))]
  }))
}

/** Fails for a model that cannot be kept by units. The connection's source becomes one of made-up rows. */
export const prove = Effect.fn("ModelProof.prove")(function*(connection: Connection, model: GoldModel) {
  const rows = makeRows(model)
  yield* fill(connection, tables.made, rows, () => 0)
  const all = yield* answerOf(connection, model, tables.made, "true")
  const own = ownColumns(model)
  const length = grainLength(model.grain)
  const reached = rows.flatMap((row) =>
    [row.event_us, row.event_us + model.lookback].map((us): Unit => ({ own: own.map((name) => row[name] ?? null), bucketUs: floor(us, length) })))
  const answered = Array.from(all.values(), ({ unit }) => unit)
  const units = new Map([...reached, ...answered].filter((unit) => !unit.own.includes(null)).map((unit) => [keyOf(unit), unit]))
  const groups = groupsOf(Array.from(units.values()))
  const members = Array.from(units, ([key, unit]) => ({ unit, groups: groups.get(key)! }))
  const groupsOfRow = (row: Row) => members.reduce((bits, one) => (matters(model, row, one.unit) ? bits | one.groups : bits), 0)
  const next = numbers(11)
  yield* fill(connection, tables.reversed, rows.toReversed(), groupsOfRow)
  const shuffled = rows.map((row) => ({ row, at: next(1_000_000) })).sort((a, b) => a.at - b.at).map(({ row }) => row)
  yield* fill(connection, tables.shuffled, shuffled, groupsOfRow)
  for (const [bit, table] of [[1, tables.reversed], [2, tables.shuffled], [4, tables.shuffled], [8, tables.reversed]] as const) {
    const some = yield* answerOf(connection, model, table, `groups & ${bit} <> 0`)
    const other = members.find(({ groups: bits, unit }) => (bits & bit) !== 0 && !isSame(all, some, keyOf(unit)))
    if (other !== undefined) return yield* new ModelInvalid({ source: model.name, reason: yield* reasonOf(connection, model, all, other.unit) })
  }
}) satisfies (connection: Connection, model: GoldModel) => Effect.Effect<void, ModelInvalid | QueryError>
