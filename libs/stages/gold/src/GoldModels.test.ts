import { describe, expect, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as GoldModel from "@voltlake/domain/GoldModel"
import * as StageLake from "@voltlake/testing/StageLake"
import * as GoldModels from "./GoldModels.ts"

const folder = fileURLToPath(new URL("../../../../models/gold/", import.meta.url))

const day = "date_trunc('day', event_ts)"
const text = (name: string, refresh: string, vehicle = "vehicle_id") =>
  `-- name: ${name}\n-- description: d\n-- key: vehicle_id, day_ts\n-- time: day_ts\n-- grain: day\n-- refresh: ${refresh}\n` +
  `SELECT vehicle_id, ${day} AS day_ts, count(*) AS n FROM (SELECT ${vehicle}, event_ts FROM silver.telemetry_clean) GROUP BY vehicle_id, ${day}`

describe("a gold model's name", () => {
  for (const file of fs.readdirSync(folder)) {
    it(`${file} may be a file`, () => {
      expect(Either.isRight(GoldModels.read(file, fs.readFileSync(`${folder}${file}`, "utf8"), "file"))).toBe(true)
    })
  }

  const cases = [
    ["vehicle_latest", "batch", "file", "a view of Voltlake's own"],
    ["vehicle_latest", "live", "file", "a view of Voltlake's own"],
    ["vehicle_latest", "batch", "applied", "a view of Voltlake's own"],
    ["vehicle_minute_metrics", "batch", "file", "write refresh: live"],
    ["fleet_minute_metrics", "batch", "applied", "a table that Voltlake itself reads"],
    ["fleet_minute_metrics", "live", "applied", "a table that Voltlake itself reads"]
  ] as const
  for (const [name, refresh, origin, reason] of cases) {
    it(`${name}, ${refresh}, ${origin}, is refused`, () => {
      expect(Either.match(GoldModels.read("m.sql", text(name, refresh), origin), { onLeft: ({ message }) => message, onRight: () => "" })).toContain(reason)
    })
  }

  it("may be any other", () => {
    for (const origin of ["file", "applied"] as const) {
      for (const refresh of ["live", "batch"]) expect(Either.isRight(GoldModels.read("m.sql", text("mine", refresh), origin))).toBe(true)
    }
  })
})

it.live("a model is checked by what it says and by what it does", () =>
  Effect.gen(function*() {
    const check = (vehicle: string) => StageLake.inProcess(GoldModels.check(Either.getOrThrow(GoldModel.parse("m", text("mine", "batch", vehicle)))))
    expect((yield* check("vehicle_id")).columns.map(({ name }) => name)).toEqual(["vehicle_id", "day_ts", "n"])
    expect((yield* Effect.flip(check("substring(vehicle_id, 2) AS vehicle_id"))).message).toContain("has the name of silver's")
    const hidden = "CASE WHEN count(*) OVER (PARTITION BY event_us) = 1 THEN vehicle_id END AS vehicle_id"
    expect((yield* Effect.flip(check(hidden))).message).toContain("made-up rows of silver show")
  }).pipe(Effect.provide(StageLake.durable)))
