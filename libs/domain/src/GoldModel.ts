/**
 * A gold model: a file of SQL with a header of `-- key: value` lines (and `-- column name: what it holds`). It reads `silver.telemetry_clean` and answers
 * one row for each key.
 *
 * What makes it cheap to keep: its rows fall into units, a span of time (`grain`) and the values of those key columns that are silver's own
 * (`vehicle_id`). A row of silver matters for the unit of its own time, and for those up to `lookback` later. So after new rows only the units that they
 * touch are computed anew, from the rows of silver that matter for them.
 */
import { Either, Schema } from "effect"

const grains = { minute: 60_000_000n, hour: 3_600_000_000n, day: 86_400_000_000n } as const
export type Grain = keyof typeof grains

/** Microseconds. */
export const grainLength = (grain: Grain): bigint => grains[grain]

/** Namespace of the Iceberg tables. */
export const goldNamespace = "gold"

/** Summary key of a gold table's snapshots: the silver that it was computed from. */
export const goldSourceKey = "voltlake.gold-source"

export interface GoldModel {
  /** Of the Iceberg table `gold.<name>` and the PostgreSQL table `gold_<name>`. */
  readonly name: string
  readonly description: string
  /** Columns of which no two rows have the same values. */
  readonly key: ReadonlyArray<string>
  /** The key's column of time: a timestamp in UTC, the beginning of a `grain`. */
  readonly time: string
  readonly grain: Grain
  /** `live`: moved by each commit of silver. `batch`: by each run of the DAG. */
  readonly refresh: "live" | "batch"
  /** Microseconds for which a row of silver goes on to matter. */
  readonly lookback: bigint
  /** Conditions that hold for every row. */
  readonly tests: ReadonlyArray<string>
  /** What columns hold, by name. */
  readonly docs: ReadonlyMap<string, string>
  readonly sql: string
}

/** A model cannot be used. The others are not concerned. */
export class ModelInvalid extends Schema.TaggedError<ModelInvalid>()("ModelInvalid", {
  /** The file, or the model's name. */
  source: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `gold model ${this.source}: ${this.reason}`
  }
}

const once = ["name", "description", "key", "time", "grain", "refresh", "lookback"] as const
type Once = (typeof once)[number]
const repeated = ["test", "column"] as const

const isOnce = (key: string): key is Once => (once as ReadonlyArray<string>).includes(key)

const nameForm = /^[a-z][a-z0-9_]{0,49}$/
const lookbackForm = /^(\d{1,5}) (minute|hour|day)s?$/

/** `-- key: value`; a line of two dashes alone ends the header, as does the first line of SQL. */
const headerLine = /^--\s*([a-z]+)(?:\s+(\w+))?:\s*(.*?)\s*$/

/** Reads a model's text. `source` names it in errors. */
export const parse = (source: string, text: string): Either.Either<GoldModel, ModelInvalid> =>
  Either.gen(function*() {
    const invalid = (reason: string) => Either.left(new ModelInvalid({ source, reason }))
    const lines = text.split(/\r?\n/)
    const end = lines.findIndex((line) => line.trim() !== "" && !line.startsWith("--"))
    if (end === -1) return yield* invalid("it has no SQL after its header")
    const single = new Map<Once, string>()
    const tests: Array<string> = []
    const docs = new Map<string, string>()
    for (const [at, line] of lines.slice(0, end).entries()) {
      if (line.trim() === "" || line.trim() === "--") continue
      const [, key, column, value] = headerLine.exec(line) ?? []
      const place = `line ${at + 1}`
      if (key === undefined || value === undefined) return yield* invalid(`${place}: "${line}" is not of the form "-- key: value"`)
      if (value === "") return yield* invalid(`${place}: ${key} has no value`)
      if (key === "test") {
        tests.push(value)
      } else if (key === "column") {
        if (column === undefined) return yield* invalid(`${place}: "${line}" is not of the form "-- column name: what it holds"`)
        docs.set(column, value)
      } else if (!isOnce(key)) {
        return yield* invalid(`${place}: there is no key ${key}; known are ${[...once, ...repeated].join(", ")}`)
      } else if (single.has(key)) {
        return yield* invalid(`${place}: ${key} is given twice`)
      } else {
        single.set(key, value)
      }
    }
    const missing = once.find((key) => key !== "lookback" && !single.has(key))
    if (missing !== undefined) return yield* invalid(`its header does not say ${missing} (a line "-- ${missing}: …")`)
    const name = single.get("name")!
    if (!nameForm.test(name)) return yield* invalid(`name ${name}: small letters, digits and _ are allowed, beginning with a letter, 50 at most`)
    const key = single.get("key")!.split(/\s*,\s*/)
    const time = single.get("time")!
    if (!key.includes(time)) return yield* invalid(`time ${time} is not one of the key's columns (${key.join(", ")})`)
    if (new Set(key).size < key.length) return yield* invalid(`key ${key.join(", ")} names a column twice`)
    const grain = single.get("grain")!
    if (!(grain in grains)) return yield* invalid(`grain ${grain}: known are ${Object.keys(grains).join(", ")}`)
    const refresh = single.get("refresh")!
    if (refresh !== "live" && refresh !== "batch") return yield* invalid(`refresh ${refresh}: live or batch`)
    const lookback = single.get("lookback")
    const [, count, unit] = lookbackForm.exec(lookback ?? "0 minutes") ?? []
    if (count === undefined || unit === undefined) return yield* invalid(`lookback ${lookback}: such as "60 minutes"`)
    return {
      name,
      description: single.get("description")!,
      key,
      time,
      grain: grain as Grain,
      refresh,
      lookback: BigInt(count) * grainLength(unit as Grain),
      tests,
      docs,
      sql: lines.slice(end).join("\n").trim().replace(/;$/, "")
    }
  })
