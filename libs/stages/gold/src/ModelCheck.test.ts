import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as ModelCheck from "./ModelCheck.ts"

const folder = fileURLToPath(new URL("../../../../models/gold/", import.meta.url))

const check = (text: string) =>
  StageLake.inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* ModelCheck.check(connection, yield* GoldModel.parse("test", text))
  })).pipe(Effect.provide(StageLake.durable))

const header = (more: Readonly<Record<string, string>> = {}) =>
  Object.entries({ name: "m", description: "d", key: "vehicle_id, day_ts", time: "day_ts", grain: "day", refresh: "batch", ...more })
    .filter(([, value]) => value !== "").map(([key, value]) => `-- ${key}: ${value}\n`).join("")

const day = "date_trunc('day', event_ts)"
const good = `SELECT vehicle_id, ${day} AS day_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`
const withColumn = (column: string) => `SELECT vehicle_id, ${day} AS day_ts, ${column} AS x FROM silver.telemetry_clean GROUP BY vehicle_id, ${day}`

describe("the project's own gold models", () => {
  for (const file of fs.readdirSync(folder)) {
    it.live(`${file} can be used`, () =>
      Effect.gen(function*() {
        const text = fs.readFileSync(`${folder}${file}`, "utf8")
        const model = Either.getOrThrow(GoldModel.parse(file, text))
        expect(file).toBe(`${model.name}.sql`)
        const columns = yield* check(text)
        // Everything but the key says what it holds.
        expect(columns.filter(({ doc, name }) => doc === "" && !model.key.includes(name))).toEqual([])
      }))
  }
})

describe("a gold model", () => {
  it.live("answers its columns with their types", () =>
    Effect.gen(function*() {
      expect((yield* check(header() + good)).map(({ name, type }) => [name, type])).toEqual([["vehicle_id", "text"], ["day_ts", "timestamp"], ["n", "bigint"]])
    }))

  const cases: ReadonlyArray<readonly [string, text: string, reason: string]> = [
    ["without SQL", header(), "no SQL"],
    ["without a key", header({ key: "" }) + good, "does not say key"],
    ["with a line that is no header", `-- hello\n${header()}${good}`, "line 1: \"-- hello\""],
    ["with an unknown key", header({ keys: "a" }) + good, "line 7: there is no key keys"],
    ["with a key twice", `-- name: m\n${header()}${good}`, "name is given twice"],
    ["with a bad name", header({ name: "My Model" }) + good, "small letters"],
    ["whose time is not in its key", header({ time: "n" }) + good, "time n is not one of the key's columns"],
    ["with a grain that is none", header({ grain: "week" }) + good, "known are minute, hour, day"],
    ["with a lookback that is none", header({ lookback: "an hour" }) + good, "such as \"60 minutes\""],
    ["that is no SQL", `${header()}SELECT FROM`, "cannot be read"],
    ["that writes", `${header()}DELETE FROM silver.telemetry_clean`, "cannot be read"],
    ["that reads another table", header() + good.replace("silver.", "bronze."), "it reads bronze.telemetry_clean"],
    ["that reads a file", header() + good.replace("silver.telemetry_clean", "read_csv('/etc/hosts'), silver.telemetry_clean"), "reads from a function"],
    ["that samples", header() + good.replace("clean GROUP", "clean TABLESAMPLE 10% GROUP"), "it samples"],
    ["that knows no such column", header() + good.replace("vehicle_id,", "vehicle,"), "vehicle"],
    ["without a column of its key", header({ key: "vehicle_id, day_ts, z" }) + good, "speaks of the column z"],
    ["that describes a column that is none", header({ "column z": "what" }) + good, "speaks of the column z"],
    ["with a column of a type that others lack", header() + withColumn("sum(CAST(event_us AS BIGINT))"), "HUGEINT; cast it"],
    ["with a column without a name", header() + good.replace(" AS n", ""), "name it by AS"],
    ["that asks the clock", header() + withColumn("max(now())"), "it depends on when it is asked"],
    ["that asks the clock by its other name", header() + withColumn("max(current_date)"), "it depends on when it is asked"],
    ["that throws dice", header() + withColumn("max(random())"), "it calls random"],
    ["that averages", header() + withColumn("avg(speed_mph)"), "divide an exact sum by a count"],
    ["that sums doubles", header() + withColumn("sum(speed_mph)"), "write sum(CAST(speed_mph AS DECIMAL(38, 6)))"],
    ["that sums doubles, less directly", header() + withColumn("sum(CASE WHEN true THEN abs(speed_mph) + 1 END)"), "depends on the order of rows"],
    ["that sums quotients", header() + withColumn("sum(event_us / 2)"), "a quotient is a double"],
    ["whose time is no timestamp", header().replaceAll("day_ts", "n") + good, "its time n is no timestamp"],
    ["with a double in its key", header({ key: "x, day_ts" }) + withColumn("max(speed_mph)"), "is a double"],
    ["with a test that cannot be asked", header({ test: "z > 0" }) + good, "test 'z > 0'"]
  ]
  for (const [what, text, reason] of cases) {
    it.live(`${what} is refused, with the place`, () =>
      Effect.gen(function*() {
        const refused = yield* Effect.flip(check(text))
        expect(refused).toMatchObject({ _tag: "ModelInvalid" })
        expect(refused.message).toContain(reason)
      }))
  }

  it.live("may sum doubles that are cast", () => check(header() + withColumn("sum(CAST(speed_mph AS DECIMAL(38, 6)))")))
})
