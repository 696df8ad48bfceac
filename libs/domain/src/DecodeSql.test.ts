import { DuckDBInstance } from "@duckdb/node-api"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { decodeSql } from "./DecodeSql.ts"
import type { Rule } from "./Rules.ts"

// The engine itself, without an adapter: this package lies below all adapters.
let instance: DuckDBInstance
beforeAll(async () => {
  instance = await DuckDBInstance.create(":memory:")
})
afterAll(() => instance.closeSync())

const decode = async (values: ReadonlyArray<string>) => {
  const connection = await instance.connect()
  const rows = values.map((sql, index) =>
    `SELECT 't' AS topic, 0 AS "partition", ${index}::BIGINT AS "offset", TIMESTAMPTZ '2026-01-01T00:00:00Z' AS "timestamp",
      NULL::BLOB AS "key", ${sql} AS "value", TIMESTAMPTZ '2026-01-01T00:00:00Z' AS ingested_at`
  )
  const reader = await connection.runAndReadAll(
    `SELECT * FROM (${decodeSql(`(${rows.join(" UNION ALL ")})`)}) ORDER BY "offset"`
  )
  connection.closeSync()
  return reader.getRowObjectsJson()
}

const text = (value: string) => `encode('${value.replaceAll("'", "''")}')`

const good = {
  event_id: "e1",
  vehicle_id: "v1",
  event_time: "2025-06-01T10:00:00Z",
  payload: { battery_percent: 55.5, speed_mph: 12.25, odometer_miles: 1000 }
}
const event = (change: Record<string, unknown>) => text(JSON.stringify({ ...good, ...change }))
const payload = (change: Record<string, unknown>) => event({ payload: { ...good.payload, ...change } })
/** The good event with raw JSON in place of battery's value. */
const rawBattery = (json: string) => text(JSON.stringify(good).replace("55.5", json))

type Expected = Rule | "clean"
const table: ReadonlyArray<readonly [name: string, value: string, expected: Expected]> = [
  ["a good event", event({}), "clean"],
  ["white space around", text(` \n\t${JSON.stringify(good)}\r\n`), "clean"],
  ["no value", "NULL::BLOB", "malformed_json"],
  ["empty bytes", "''::BLOB", "malformed_json"],
  ["white space only", text("  "), "malformed_json"],
  ["not UTF-8", "'\\xFF\\xFE\\x00'::BLOB", "malformed_json"],
  ["not UTF-8 inside a string", "'{\"event_id\":\"\\xC3\\x28\"}'::BLOB", "malformed_json"],
  ["a word", text("hello"), "malformed_json"],
  ["a cut object", text("{\"event_id\":\"e1\""), "malformed_json"],
  ["a trailing comma in an object", text(JSON.stringify(good).replace(/\}$/, ",}")), "malformed_json"],
  ["a trailing comma and space in an array", text("{\"x\":[1, \n]}"), "malformed_json"],
  ["NaN", rawBattery("NaN"), "malformed_json"],
  ["nan", rawBattery("nan"), "malformed_json"],
  ["Infinity", rawBattery("Infinity"), "malformed_json"],
  ["-Infinity", rawBattery("-Infinity"), "malformed_json"],
  ["-inf", rawBattery("-inf"), "malformed_json"],
  ["NaN in a field that nobody reads", text(JSON.stringify({ ...good, x: 7 }).replace("7}", "NaN}")), "malformed_json"],
  ["a leading zero", rawBattery("05"), "malformed_json"],
  ["a leading plus", rawBattery("+5"), "malformed_json"],
  ["two documents", text(`${JSON.stringify(good)}{}`), "malformed_json"],
  ["single quotes", text("{'event_id':'e1'}"), "malformed_json"],
  ["an escape of an unpaired surrogate, which no UTF-8 text can hold", text("{\"event_id\":\"\\ud800\"}"), "malformed_json"],
  ["a byte order mark", text(`\ufeff${JSON.stringify(good)}`), "malformed_json"],
  ["a raw control character in a string", text(JSON.stringify({ ...good, x: "T" }).replace("\"T\"", "\"\t\"")), "malformed_json"],
  ["text that only looks lax, inside strings", event({ source: "NaN, inf ,] ,} \\\" Infinity" }), "clean"],
  ["an escaped quote before lax text", event({ source: "a\"NaN" }), "clean"],
  ["a name that contains inf", event({ source: "Finf", information: 1 }), "clean"],
  ["an array", text("[1]"), "not_an_event"],
  ["a string", text("\"x\""), "not_an_event"],
  ["a number", text("5"), "not_an_event"],
  ["null", text("null"), "not_an_event"],
  ["true", text("true"), "not_an_event"],
  ["an array 100,000 deep", "encode(repeat('[', 100000) || repeat(']', 100000))", "not_an_event"],
  ["an object 100,000 deep", "encode(repeat('{\"a\":', 100000) || '1' || repeat('}', 100000))", "missing_event_id"],
  ["an unclosed object 100,000 deep", "encode(repeat('{\"a\":', 100000))", "malformed_json"],
  ["a value of 1 MB", event({ source: "x".repeat(1_000_000) }), "clean"],
  ["an empty object", text("{}"), "missing_event_id"],
  ["event_id null", event({ event_id: null }), "missing_event_id"],
  ["event_id empty", event({ event_id: "" }), "missing_event_id"],
  ["event_id a number", event({ event_id: 5 }), "missing_event_id"],
  ["event_id a boolean", event({ event_id: true }), "missing_event_id"],
  ["event_id an object", event({ event_id: { a: 1 } }), "missing_event_id"],
  ["event_id of 256 bytes", event({ event_id: "é".repeat(128) }), "clean"],
  ["event_id of 257 bytes", event({ event_id: "é".repeat(128) + "x" }), "missing_event_id"],
  ["event_id with U+0000", event({ event_id: "a\u0000b" }), "missing_event_id"],
  ["event_id with an escape", event({ event_id: "a\"b\\c\nd" }), "clean"],
  ["event_id that reads like a number", event({ event_id: "5" }), "clean"],
  ["event_id the text null", event({ event_id: "null" }), "clean"],
  ["both ids missing", event({ event_id: null, vehicle_id: null }), "missing_event_id"],
  ["vehicle_id null", event({ vehicle_id: null }), "missing_vehicle_id"],
  ["vehicle_id absent", event({ vehicle_id: undefined }), "missing_vehicle_id"],
  ["vehicle_id a list", event({ vehicle_id: ["v"] }), "missing_vehicle_id"],
  ["vehicle_id of 257 bytes", event({ vehicle_id: "v".repeat(257) }), "missing_vehicle_id"],
  ["vehicle_id with U+0000", event({ vehicle_id: "\u0000" }), "missing_vehicle_id"],
  ["event_time absent", event({ event_time: undefined }), "invalid_event_time"],
  ["event_time empty", event({ event_time: "" }), "invalid_event_time"],
  ["event_time a number", event({ event_time: 1_700_000_000 }), "invalid_event_time"],
  ["event_time without a time", event({ event_time: "2025-06-01" }), "invalid_event_time"],
  ["event_time with a space", event({ event_time: "2025-06-01 10:00:00Z" }), "invalid_event_time"],
  ["event_time in basic form", event({ event_time: "20250601T100000Z" }), "invalid_event_time"],
  ["event_time with one-digit fields", event({ event_time: "2025-6-1T1:0:0Z" }), "invalid_event_time"],
  ["event_time with a named zone", event({ event_time: "2025-06-01T10:00:00 UTC" }), "invalid_event_time"],
  ["event_time in words", event({ event_time: "epoch" }), "invalid_event_time"],
  ["event_time infinite", event({ event_time: "infinity" }), "invalid_event_time"],
  ["event_time in month 90", event({ event_time: "2032-90-02T00:00:00Z" }), "invalid_event_time"],
  ["event_time in month 30", event({ event_time: "2001-30-00T00:00:00Z" }), "invalid_event_time"],
  ["event_time on 29 February of a common year", event({ event_time: "2023-02-29T00:00:00Z" }), "invalid_event_time"],
  ["event_time on 29 February of a leap year", event({ event_time: "2024-02-29T00:00:00Z" }), "clean"],
  ["event_time at 24:00", event({ event_time: "2025-06-01T24:00:00Z" }), "invalid_event_time"],
  ["event_time at second 60", event({ event_time: "2025-06-01T10:00:60Z" }), "invalid_event_time"],
  ["event_time without a zone", event({ event_time: "2025-06-01T10:00:00" }), "clean"],
  ["event_time without seconds", event({ event_time: "2025-06-01T10:00Z" }), "clean"],
  ["event_time without seconds, with an offset", event({ event_time: "2025-06-01T10:00+02:00" }), "clean"],
  ["event_time with nanoseconds", event({ event_time: "2025-06-01T10:00:00.123456789Z" }), "clean"],
  ["event_time with twelve fraction digits", event({ event_time: "2025-06-01T10:00:00.123456789012Z" }), "clean"],
  ["event_time with a comma", event({ event_time: "2025-06-01T10:00:00,5Z" }), "clean"],
  ["event_time at offset +18:00", event({ event_time: "2025-06-01T10:00:00+18:00" }), "clean"],
  ["event_time at offset -18:00", event({ event_time: "2025-06-01T10:00:00-18:00" }), "clean"],
  ["event_time at offset +18:01", event({ event_time: "2025-06-01T10:00:00+18:01" }), "invalid_event_time"],
  ["event_time at offset +19:00", event({ event_time: "2025-06-01T10:00:00+19:00" }), "invalid_event_time"],
  ["event_time at offset +05:99", event({ event_time: "2025-06-01T10:00:00+05:99" }), "invalid_event_time"],
  ["event_time in year 0", event({ event_time: "0000-01-01T00:00:00Z" }), "invalid_event_time"],
  ["event_time in year 1", event({ event_time: "0001-01-01T00:00:00Z" }), "clean"],
  ["event_time of 1970", event({ event_time: "1970-01-01T00:00:00Z" }), "clean"],
  ["event_time one day ahead", event({ event_time: "2026-01-02T00:00:00Z" }), "clean"],
  ["event_time more than one day ahead", event({ event_time: "2026-01-02T00:00:00.000001Z" }), "future_event_time"],
  ["event_time of 2100", event({ event_time: "2100-01-01T00:00:00Z" }), "future_event_time"],
  ["event_time at the end of year 9999", event({ event_time: "9999-12-31T23:59:59-18:00" }), "future_event_time"],
  ["payload absent", event({ payload: undefined }), "clean"],
  ["payload null", event({ payload: null }), "clean"],
  ["payload of another shape", event({ payload: "x" }), "clean"],
  ["battery null", payload({ battery_percent: null }), "clean"],
  ["battery absent", payload({ battery_percent: undefined }), "clean"],
  ["battery a number as text", payload({ battery_percent: "55.5" }), "clean"],
  ["battery with an exponent as text", payload({ battery_percent: "5.5e1" }), "clean"],
  ["battery with a sign and spaces as text", payload({ battery_percent: " +5 " }), "clean"],
  ["battery empty", payload({ battery_percent: "" }), "invalid_battery_percent"],
  ["battery a space", payload({ battery_percent: " " }), "invalid_battery_percent"],
  ["battery a word", payload({ battery_percent: "full" }), "invalid_battery_percent"],
  ["battery with an underscore", payload({ battery_percent: "1_0" }), "invalid_battery_percent"],
  ["battery true", payload({ battery_percent: true }), "invalid_battery_percent"],
  ["battery the text NaN", payload({ battery_percent: "NaN" }), "invalid_battery_percent"],
  ["battery the text Infinity", payload({ battery_percent: "Infinity" }), "invalid_battery_percent"],
  ["battery beyond a double", rawBattery("1e400"), "invalid_battery_percent"],
  ["battery in hexadecimal", payload({ battery_percent: "0x10" }), "invalid_battery_percent"],
  ["battery with a comma", payload({ battery_percent: "5,5" }), "invalid_battery_percent"],
  ["battery an exponent without digits", payload({ battery_percent: "1e" }), "invalid_battery_percent"],
  ["battery a dot", payload({ battery_percent: "." }), "invalid_battery_percent"],
  ["battery two numbers", payload({ battery_percent: "5 5" }), "invalid_battery_percent"],
  ["battery a number of Java", payload({ battery_percent: "5d" }), "invalid_battery_percent"],
  ["battery a list", payload({ battery_percent: [5] }), "invalid_battery_percent"],
  ["battery an object", payload({ battery_percent: { value: 5 } }), "invalid_battery_percent"],
  ["battery 0", payload({ battery_percent: 0 }), "clean"],
  ["battery 100", payload({ battery_percent: 100 }), "clean"],
  ["battery just above 100", rawBattery("100.00000000000001"), "battery_out_of_range"],
  ["battery below 0", payload({ battery_percent: -0.5 }), "battery_out_of_range"],
  ["battery a huge integer", rawBattery("123456789012345678901234567890"), "battery_out_of_range"],
  ["battery out of range before speed invalid", payload({ battery_percent: 140, speed_mph: "x" }), "battery_out_of_range"],
  ["speed a word", payload({ speed_mph: "fast" }), "invalid_speed_mph"],
  ["speed false", payload({ speed_mph: false }), "invalid_speed_mph"],
  ["speed negative", payload({ speed_mph: -1 }), "negative_speed"],
  ["speed very great", rawBattery("5,\"x\":1e308"), "clean"],
  ["odometer a word", payload({ odometer_miles: "far" }), "invalid_odometer_miles"],
  ["odometer negative", payload({ odometer_miles: -5 }), "clean"],
  [
    "the first of equal keys",
    text(`{"event_id":"first","event_id":5,${JSON.stringify(good).slice(1)}`),
    "clean"
  ]
]

describe("decodeSql", () => {
  it("judges every case of the table by the contract", async () => {
    const rows = await decode(table.map(([, value]) => value))
    const judged = rows.map((row, index) => [table[index]?.[0], row["rule"] ?? "clean"])
    expect(judged).toEqual(table.map(([name, , expected]) => [name, expected]))
    for (const row of rows) {
      if (row["rule"] === null) {
        expect(row["dedup_key"]).not.toBeNull()
        expect(row["cause"]).toBeNull()
      } else {
        expect(row["cause"], String(row["rule"])).toMatch(/\w{3}/)
        expect(String(row["cause"]).length).toBeLessThan(200)
      }
    }
  })

  it("keeps values exactly as they were sent", async () => {
    const [plain, asText, none, first, escaped, offset, micros] = await decode([
      event({}),
      payload({ battery_percent: "55.5", speed_mph: "1e1" }),
      payload({ battery_percent: null, speed_mph: undefined }),
      text(`{"event_id":"first","event_id":"second",${JSON.stringify(good).slice(1)}`),
      event({ event_id: "a\"b\\c\u00e9\n" }),
      event({ event_time: "2025-06-01T10:00+02:00" }),
      event({ event_time: "2025-06-01T10:00:00.1234567Z" })
    ])
    expect(plain).toMatchObject({ event_id: "e1", vehicle_id: "v1", battery_percent: 55.5, speed_mph: 12.25, odometer_miles: 1000 })
    expect(asText).toMatchObject({ battery_percent: 55.5, speed_mph: 10 })
    expect(none).toMatchObject({ battery_percent: null, speed_mph: null, rule: null })
    expect(first).toMatchObject({ event_id: "first" })
    expect(escaped).toMatchObject({ event_id: "a\"b\\c\u00e9\n" })
    expect(offset).toMatchObject({ event_ts: "2025-06-01 08:00:00+00" })
    expect(micros).toMatchObject({ event_ts: "2025-06-01 10:00:00.123456+00" })
  })

  it("tells apart pairs of ids that read alike when joined", async () => {
    const rows = await decode([
      event({ vehicle_id: "a", event_id: "bc" }),
      event({ vehicle_id: "ab", event_id: "c" }),
      event({ vehicle_id: "a", event_id: "bc", source: "a copy" })
    ])
    expect(rows[0]?.["dedup_key"]).not.toEqual(rows[1]?.["dedup_key"])
    expect(rows[0]?.["dedup_key"]).toEqual(rows[2]?.["dedup_key"])
  })
})
