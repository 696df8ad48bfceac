// One file with everything that a sender can get wrong. Nothing of it stops a stage; each line ends where the rules say, and bronze has its bytes.
import { createHash } from "node:crypto"
import { gzipSync } from "node:zlib"
import { Effect, Layer, Redacted } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Rule } from "@voltlake/domain/Rules"
import { EventLog, type NewRecord } from "@voltlake/event-log/EventLog"
import * as PostgresEventLog from "@voltlake/event-log/PostgresEventLog"
import * as Postgres from "@voltlake/postgres/Postgres"
import { TestLake, waitForNoLag } from "@voltlake/testing/TestLake"

let ids = 0
const event = (change: Readonly<Record<string, unknown>> = {}) =>
  JSON.stringify({
    event_id: `e${ids++}`,
    vehicle_id: "v1",
    event_time: "2025-06-01T10:00:00Z",
    ingest_time: "2025-06-01T10:00:01Z",
    source: "made",
    payload: { battery_percent: 50.5, speed_mph: 12.25, odometer_miles: 1000 },
    ...change
  })
const payload = (change: Readonly<Record<string, unknown>>) =>
  event({ payload: { battery_percent: 50.5, speed_mph: 12.25, odometer_miles: 1000, ...change } })
const rawBattery = (json: string) => event().replace("50.5", json)

const deep = 100_000

/** What follows a line in the file; the product takes off both. */
type End = "\n" | "\r\n"

interface Line {
  readonly value: Uint8Array
  readonly expected: Rule | "clean"
  readonly end: End
}

const line = (value: string | Uint8Array, expected: Rule | "clean", end: End = "\n"): Line =>
  ({ value: typeof value === "string" ? Buffer.from(value) : value, expected, end })

const lines: ReadonlyArray<Line> = [
  line("", "malformed_json"),
  line("", "malformed_json", "\r\n"),
  line("   ", "malformed_json"),
  line(Uint8Array.of(0xff, 0xfe, 0x00, 0x80), "malformed_json"),
  line(Buffer.concat([Buffer.from(event().slice(0, -1)), Buffer.from(",\"x\":\""), Uint8Array.of(0xc3, 0x28), Buffer.from("\"}")]), "malformed_json"),
  line(Uint8Array.of(0), "malformed_json"),
  line("hello", "malformed_json"),
  line("\ufeff" + event(), "malformed_json"),
  line(event().slice(0, -3), "malformed_json"),
  line(event().replace(/\}$/, ",}"), "malformed_json"),
  line("[1,2,]", "malformed_json"),
  line(rawBattery("NaN"), "malformed_json"),
  line(rawBattery("-Infinity"), "malformed_json"),
  line(event() + event(), "malformed_json"),
  line("{\"a\":".repeat(deep), "malformed_json"),
  line("null", "not_an_event"),
  line("true", "not_an_event"),
  line("17", "not_an_event"),
  line("\"text\"", "not_an_event"),
  line("[]", "not_an_event"),
  line(`[${event()}]`, "not_an_event"),
  line("[".repeat(deep) + "]".repeat(deep), "not_an_event"),
  line("{}", "missing_event_id"),
  line("{\"a\":".repeat(deep) + "1" + "}".repeat(deep), "missing_event_id"),
  line(event({ event_id: null }), "missing_event_id"),
  line(event({ event_id: 5 }), "missing_event_id"),
  line(event({ event_id: "" }), "missing_event_id"),
  line(event({ event_id: "a\u0000b" }), "missing_event_id"),
  line(event({ event_id: "é".repeat(128) + "x" }), "missing_event_id"),
  line(event({ event_id: ["e"], vehicle_id: null }), "missing_event_id"),
  line(event({ vehicle_id: undefined }), "missing_vehicle_id"),
  line(event({ vehicle_id: { id: "v" } }), "missing_vehicle_id"),
  line(event({ vehicle_id: "v".repeat(257) }), "missing_vehicle_id"),
  line(event({ vehicle_id: "\u0000" }), "missing_vehicle_id"),
  line(event({ event_time: 1_748_772_000 }), "invalid_event_time"),
  line(event({ event_time: "2032-90-02T00:00:00Z" }), "invalid_event_time"),
  line(event({ event_time: "2025-06-01" }), "invalid_event_time"),
  line(event({ event_time: "2100-01-01T00:00:00Z" }), "future_event_time"),
  line(payload({ battery_percent: "full" }), "invalid_battery_percent"),
  line(payload({ battery_percent: [50] }), "invalid_battery_percent"),
  line(rawBattery("1e400"), "invalid_battery_percent"),
  line(payload({ battery_percent: -1 }), "battery_out_of_range"),
  line(payload({ battery_percent: 100.5 }), "battery_out_of_range"),
  line(payload({ speed_mph: true }), "invalid_speed_mph"),
  line(payload({ speed_mph: -0.25 }), "negative_speed"),
  line(payload({ odometer_miles: {} }), "invalid_odometer_miles"),

  line(event(), "clean"),
  line(event(), "clean", "\r\n"),
  line(` \t${event()} `, "clean"),
  // A carriage return that ends no line is a byte like any other.
  line(`\r${event()}`, "clean"),
  line(event({ event_time: "1970-01-01T00:00:00Z" }), "clean"),
  line(event({ event_id: "é".repeat(128) }), "clean"),
  line(event({ event_id: "a\"b\\c\nd\u2028" }), "clean"),
  line(event({ vehicle_id: "🚗'); DROP TABLE x; --" }), "clean"),
  line(event({ source: "x".repeat(1_000_000) }), "clean"),
  line(event({ source: { a: [1, null] } }), "clean"),
  line(payload({ battery_percent: "50.5", speed_mph: "1.25e1" }), "clean"),
  line(payload({ battery_percent: null, speed_mph: null, odometer_miles: null }), "clean"),
  line(rawBattery("50,\"speed_mph\":7"), "clean"),
  line(rawBattery("50").replace("12.25", "1e300"), "clean"),
  line(`{"event_id":"first-of-two",${event().slice(1)}`, "clean"),
  // Without a newline after it: the file's last line.
  line(event({ event_id: "last" }), "clean")
]

const content = Buffer.concat(lines.flatMap(({ end, value }, index) => [value, Buffer.from(index === lines.length - 1 ? "" : end)]))

const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("hex")
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex").toUpperCase()
const hexOrNull = (bytes: Uint8Array | null | undefined) => (bytes === null || bytes === undefined ? null : hex(bytes))

const clean = lines.filter(({ expected }) => expected === "clean")
const rejected = lines.filter(({ expected }) => expected !== "clean")
const rules = rejected.reduce<Record<string, number>>((sums, { expected }) => ({ ...sums, [expected]: (sums[expected] ?? 0) + 1 }), {})

/** Records appended straight to the log, as another producer may: without key, value, or with bytes that are no text. */
const records: ReadonlyArray<NewRecord> = [
  { timestampMs: Date.parse("2026-01-01T00:00:00Z"), key: null, value: null, headers: [] },
  { timestampMs: 0, key: Uint8Array.of(0xff, 0x00), value: null, headers: [{ key: "", value: null }] },
  { timestampMs: 1, key: new Uint8Array(0), value: new Uint8Array(0), headers: [] },
  { timestampMs: 2, key: null, value: Buffer.from(event({ event_id: "keyless" })), headers: [{ key: "h", value: Uint8Array.of(0, 0xff) }] },
  { timestampMs: 3, key: Buffer.from("another"), value: Buffer.from(event({ event_id: "keyless" })), headers: [] }
]

const append = (url: string) =>
  Effect.gen(function*() {
    const log = yield* EventLog
    return yield* log.append("telemetry_raw", new Map([[3, records]]))
  }).pipe(
    Effect.provide(PostgresEventLog.layer.pipe(Layer.provide(Postgres.fromUrl(Redacted.make(url))))),
    Effect.runPromise
  )

describe("bad input", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
  })
  afterAll(() => lake.close())

  it("is counted by the rule that each line breaks first", async () => {
    const file = await lake.file("bad.ndjson", content)
    expect(await lake.replay([file])).toMatchObject({
      events: lines.length,
      bronze: lines.length,
      silver: clean.length,
      rejected: rejected.length,
      rules,
      duplicates: 0
    })
    expect(await lake.breaches()).toEqual([])
  })

  it("is kept with its rule, and in words its cause, beside the very bytes", async () => {
    const rows = await lake.sql(`SELECT md5("value") AS value, rule, cause FROM silver.telemetry_rejected`)
    expect(rows.map((row) => `${row["value"]} ${row["rule"]}`).sort())
      .toEqual(rejected.map(({ expected, value }) => `${md5(value)} ${expected}`).sort())
    for (const row of rows) {
      expect(row["cause"]).toMatch(/\w{3} \w/)
      expect(String(row["cause"]).length).toBeLessThan(200)
    }
  })

  it("is in bronze byte for byte", async () => {
    const rows = await lake.sql(`SELECT hex("value") AS value FROM bronze.telemetry_raw`)
    expect(rows.map((row) => String(row["value"])).sort()).toEqual(lines.map(({ value }) => hex(value)).sort())
  })

  it("keeps strange but right values as they are", async () => {
    expect(await lake.sql(`SELECT
        max(vehicle_id) FILTER (vehicle_id LIKE '%DROP%') AS vehicle,
        max(event_id) FILTER (contains(event_id, chr(10))) AS event,
        max(length(source)) AS longest,
        -- The first of equal keys counts.
        count(*) FILTER (event_id = 'first-of-two') AS first_id,
        count(*) FILTER (speed_mph = 7) AS first_speed,
        count(*) FILTER (event_id = 'last') AS without_newline,
        count(*) FILTER (speed_mph = 1e300) AS huge
      FROM silver.telemetry_clean`)).toEqual([{
      vehicle: "🚗'); DROP TABLE x; --",
      event: "a\"b\\c\nd\u2028",
      longest: 1_000_000,
      first_id: 1,
      first_speed: 1,
      without_newline: 1,
      huge: 1
    }])
  })

  it("as gzip, and on standard input, is the same again", async () => {
    const again = { events: lines.length, bronze: lines.length, silver: 0, rejected: rejected.length, rules, duplicates: clean.length }
    expect(await lake.replay([await lake.file("bad.gz", gzipSync(content))])).toMatchObject(again)
    expect(await lake.replay(["-"], { input: content })).toMatchObject(again)
    const rows = await lake.sql(`SELECT md5("value") AS value, count(*) AS times FROM bronze.telemetry_raw GROUP BY "value"`)
    const distinct = new Set(lines.map(({ value }) => md5(value)))
    expect(new Set(rows.map((row) => row["value"]))).toEqual(distinct)
    expect(rows.reduce((sum, row) => sum + Number(row["times"]), 0)).toBe(3 * lines.length)
    expect(await lake.breaches()).toEqual([])
  })

  it("that is no input at all sends nothing", async () => {
    const nothing = { events: 0, bronze: 0, silver: 0, rejected: 0, rules: {}, duplicates: 0 }
    expect(await lake.replay([await lake.file("empty.ndjson", "")])).toMatchObject(nothing)
    expect(await lake.replay(["-"], { input: new Uint8Array(0) })).toMatchObject(nothing)
  })

  it("appended to the log by others, without key or value, goes the same way", async () => {
    const start = lake.start(["--source", "none"])
    const before = await waitForNoLag(await start.address())
    const { url } = await lake.json<{ readonly url: string }>(["pg"])
    const [range] = await append(url)
    const after = await waitForNoLag(await start.address())
    expect(after.stages[1]?.rows).toBe((before.stages[1]?.rows ?? 0) + records.length)
    expect(after.rejected).toBe(before.rejected + 3)
    expect(after.duplicates).toBe(before.duplicates + 1)
    const kept = await lake.sql(`SELECT hex("key") AS key, hex("value") AS value, epoch_ms("timestamp") AS ms, len(headers) AS headers,
        headers[1]."key" AS header, hex(headers[1]."value") AS header_value
      FROM bronze.telemetry_raw WHERE "partition" = 3 AND "offset" >= ${range?.start} ORDER BY "offset"`)
    expect(kept).toEqual(records.map(({ headers, key, timestampMs, value }) => ({
      key: hexOrNull(key),
      value: hexOrNull(value),
      ms: timestampMs,
      headers: headers.length,
      header: headers[0]?.key ?? null,
      header_value: hexOrNull(headers[0]?.value)
    })))
    expect(await lake.sql(`SELECT "key" IS NULL AS keyless, "value" IS NULL AS valueless, rule, cause FROM silver.telemetry_rejected
      WHERE "partition" = 3 AND "offset" >= ${range?.start} ORDER BY "offset"`)).toEqual([
      { keyless: true, valueless: true, rule: "malformed_json", cause: "the record has no value" },
      { keyless: false, valueless: true, rule: "malformed_json", cause: "the record has no value" },
      { keyless: false, valueless: false, rule: "malformed_json", cause: "the value is empty" }
    ])
    await start.kill("SIGINT")
    expect(await lake.breaches()).toEqual([])
  })
})
