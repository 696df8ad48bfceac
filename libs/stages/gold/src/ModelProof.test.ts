import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Either } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as GoldModel from "@voltlake/domain/GoldModel"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import * as ModelCheck from "./ModelCheck.ts"
import * as ModelProof from "./ModelProof.ts"

const folder = fileURLToPath(new URL("../../../../models/gold/", import.meta.url))

const modelOf = (text: string) => Either.getOrThrow(GoldModel.parse("test", text))

/** As a model is tried when it is applied; answers how long the proof took. */
const prove = (text: string, isChecked = true) =>
  StageLake.inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    if (isChecked) yield* ModelCheck.check(connection, modelOf(text))
    const began = yield* Clock.currentTimeMillis
    yield* ModelProof.prove(connection, modelOf(text))
    return (yield* Clock.currentTimeMillis) - began
  })).pipe(Effect.provide(StageLake.durable))

const header = (more: Readonly<Record<string, string>> = {}) =>
  Object.entries({ name: "m", description: "d", key: "vehicle_id, day_ts", time: "day_ts", grain: "day", refresh: "batch", ...more })
    .map(([key, value]) => `-- ${key}: ${value}\n`).join("")

const day = "date_trunc('day', event_ts) AS day_ts"
const grouped = (columns: string, from = "silver.telemetry_clean") => `SELECT ${columns} FROM ${from} GROUP BY ALL`
const silver = `(SELECT *, ${day} FROM silver.telemetry_clean)`

/** Looks `minutes` back. */
const recent = (minutes: number) =>
  `WITH e AS (SELECT *, date_trunc('minute', event_ts) AS minute_ts, event_us - (event_us % 60000000 + 60000000) % 60000000 AS minute_us
    FROM silver.telemetry_clean), m AS (SELECT DISTINCT minute_ts, minute_us FROM e)
  SELECT m.minute_ts, count(*) AS n FROM m JOIN e ON e.minute_us <= m.minute_us AND e.minute_us >= m.minute_us - ${minutes * 60_000_000} GROUP BY ALL`
const recentHeader = (lookback: string) => header({ key: "minute_ts", time: "minute_ts", grain: "minute", lookback })

describe("the project's own gold models", () => {
  for (const file of fs.readdirSync(folder)) {
    it.live(`${file} is computed by units as it is over all`, () =>
      Effect.gen(function*() {
        expect(yield* prove(fs.readFileSync(`${folder}${file}`, "utf8"))).toBeLessThan(1000)
      }))
  }
})

describe("a gold model", () => {
  const good: ReadonlyArray<readonly [string, string]> = [
    ["counts", header() + grouped(`vehicle_id, ${day}, count(*) AS n`)],
    ["has a name of its own for what it computes", header({ key: "vehicle, day_ts" }) + grouped(`substring(vehicle_id, 2) AS vehicle, ${day}, count(*) AS n`)],
    ["has other columns of silver's in its key", header({ key: "topic, partition, day_ts" }) + grouped(`topic, "partition", ${day}, count(*) AS n`)],
    ["has what may be nothing in its key", header({ key: "source, day_ts" }) + grouped(`source, ${day}, count(*) AS n`)],
    ["looks back as long as it says", recentHeader("60 minutes") + recent(60)],
    ["looks back less than it says", recentHeader("1 day") + recent(60)]
  ]
  for (const [what, text] of good) it.live(`that ${what} is proved`, () => prove(text))

  const bad: ReadonlyArray<readonly [string, text: string, reason: string]> = [
    [
      "makes vehicles one, unseen by the check",
      header() + grouped(
        `vehicle_id, ${day}, count(*) AS n`,
        "(SELECT coalesce(b.vehicle_id, a.vehicle_id) AS vehicle_id, a.event_ts FROM silver.telemetry_clean AS a " +
          "JOIN silver.telemetry_clean AS b ON substring(a.vehicle_id, 4) = substring(b.vehicle_id, 4))"
      ),
      "must follow from rows of silver with this vehicle_id"
    ],
    [
      "ranks vehicles among each other",
      `${header()}SELECT vehicle_id, day_ts, n, rank() OVER (PARTITION BY day_ts ORDER BY n) AS place FROM (${grouped(`vehicle_id, ${day}, count(*) AS n`)})`,
      "let windows, groups and joins go by vehicle_id"
    ],
    [
      "compares days with days before",
      `${header()}SELECT vehicle_id, day_ts, lag(n) OVER (PARTITION BY vehicle_id ORDER BY day_ts) AS n FROM (${grouped(`vehicle_id, ${day}, count(*) AS n`)})`,
      "raise lookback"
    ],
    ["looks back longer than it says", recentHeader("30 minutes") + recent(60), "raise lookback"],
    ["looks back, and does not say so", header({ key: "minute_ts", time: "minute_ts", grain: "minute" }) + recent(2), "raise lookback"],
    ["goes by the time of sending", header() + grouped("vehicle_id, date_trunc('day', ingest_ts) AS day_ts, count(*) AS n"), "make day_ts of event_ts alone"],
    ["has one time for all", header() + grouped("vehicle_id, TIMESTAMP '2025-01-01' AS day_ts, count(*) AS n"), "make day_ts of event_ts alone"],
    [
      "counts all vehicles beside each",
      header() + grouped("vehicle_id, day_ts, max(of_all) AS of_all", `(SELECT *, count(*) OVER () AS of_all FROM ${silver})`),
      "must follow from rows of silver with this vehicle_id of that day"
    ],
    ["fails on rows", header() + grouped(`vehicle_id, ${day}, CAST(max(event_us) AS INTEGER) AS n`), "over made-up rows of silver its SQL fails"]
  ]
  for (const [what, text, reason] of bad) {
    it.live(`that ${what} is refused, with a unit and advice`, () =>
      Effect.gen(function*() {
        const refused = yield* Effect.flip(prove(text))
        expect(refused).toMatchObject({ _tag: "ModelInvalid" })
        expect(refused.message).toContain(reason)
      }))
  }

  it.live("that goes by the order of rows is refused where the check does not see it", () =>
    Effect.gen(function*() {
      const first = "row_number() OVER (PARTITION BY vehicle_id, event_us)"
      const cases = [
        ["first(event_id)", "silver.telemetry_clean"],
        ["sum(speed_mph)", "silver.telemetry_clean"],
        ["max(place)", `(SELECT *, CASE WHEN ${first} = 1 THEN event_id END AS place FROM silver.telemetry_clean)`]
      ] as const
      for (const [column, from] of cases) {
        const refused = yield* Effect.flip(prove(header() + grouped(`vehicle_id, ${day}, ${column} AS x`, from), false))
        expect(refused.message, column).toContain("in another order")
      }
    }))
})
