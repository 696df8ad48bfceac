/**
 * The SQL (DuckDB) that turns bronze's bytes into typed columns, the first broken rule and its cause, generated from the event contract.
 *
 * DuckDB is laxer than the contract in several places, and each has its guard here:
 * - its JSON reader takes trailing commas, NaN and Infinity (RFC 8259 has none of them);
 * - its casts take `1_000`, `inf` and `nan` for numbers, and `2024-01-01`, `epoch`, `24:00` or an offset of +19:00 for instants.
 * `from_json` takes the first of equal keys, and a field of another shape as absent. It is called only on text that `json_valid` passed,
 * since it throws on any other; `CASE` is what keeps it from being evaluated there.
 */
import type { Rule } from "./Rules.ts"
import { futureHoursMax, idBytesMax, type Signal, signals } from "./TelemetryEvent.ts"

const shape = JSON.stringify({
  event_id: "JSON",
  vehicle_id: "JSON",
  event_time: "VARCHAR",
  ingest_time: "VARCHAR",
  source: "VARCHAR",
  payload: Object.fromEntries(signals.map((signal) => [signal.name, "VARCHAR"]))
})

// Lax JSON has a comma before a closing bracket, or the letters of NaN and Infinity, outside of strings. First looked for anywhere, by searches
// that skip through the text (one expression with classes of letters costs three times as much); only texts that match are looked at again,
// with all strings emptied.
const jsonString = String.raw`"(?:[^"\\]|\\.)*"`
// A sum rather than OR, which would go through the rows again for each of its parts.
const laxSigns = (text: string, lowered: string) =>
  String.raw`regexp_matches(${text}, ',\s*[\]}]')::TINYINT + contains(${lowered}, 'nan')::TINYINT + contains(${lowered}, 'inf')::TINYINT`
const withoutStrings = `regexp_replace(text, '${jsonString}', '""', 'g')`
const isStrict = `CASE WHEN lax_signs = 0 THEN true ELSE ${laxSigns(withoutStrings, `lower(${withoutStrings})`)} = 0 END`

const instant = String.raw`\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d+)?)?(Z|[+-]((0\d|1[0-7])(:[0-5]\d)?|18(:00)?))?`

// What producers send as a rule, told by its separators alone: the engine's cast sees to the digits between them, and takes an hour of 24 and a
// year of 0 besides. `_` of LIKE is one character, so the length in bytes keeps all of them ASCII.
const usualInstants = ["Z", ".___Z", ".______Z"].map((end) => `____-__-__T__:__:__${end}`)
const isUsualInstant = (text: string) =>
  `(${usualInstants.map((form) => `(strlen(${text}) = ${form.length} AND ${text} LIKE '${form}')`).join(" OR ")})
      AND ${text} NOT LIKE '___________24%'`

/** Extended ISO-8601 text → timestamptz, or NULL where it is not a real instant. Digits beyond microseconds are cut. */
const parseInstant = (text: string) =>
  `CASE WHEN starts_with(${text}, '0000') THEN NULL
    WHEN ${isUsualInstant(text)} THEN try_cast(${text} AS TIMESTAMPTZ)
    WHEN regexp_full_match(${text}, '${instant}') THEN
      CASE WHEN ${text}[17] = ':' THEN try_cast(replace(${text}, ',', '.') AS TIMESTAMPTZ)
        ELSE try_cast(${text}[:16] || ':00' || ${text}[17:] AS TIMESTAMPTZ) END
  END`

/** The text of a JSON string, or NULL where the JSON is absent or of another type. */
const jsonText = (field: string) =>
  `CASE WHEN starts_with(${field}::VARCHAR, '"') THEN
    CASE WHEN contains(${field}::VARCHAR, '\\') THEN ${field} ->> '$'
      ELSE substring(${field}::VARCHAR, 2, length(${field}::VARCHAR) - 2) END
  END`

const number = (text: string) =>
  `CASE WHEN NOT contains(${text}, '_') AND isfinite(try_cast(${text} AS DOUBLE)) THEN try_cast(${text} AS DOUBLE) END`

const idBroken = (id: string) => `${id} IS NULL OR ${id} = '' OR strlen(${id}) > ${idBytesMax} OR contains(${id}, chr(0))`

const outOfRange = (signal: Signal) =>
  [
    ...(signal.range === undefined ? [] : [`${signal.name} < ${signal.range.min}`]),
    ...(signal.range?.max === undefined ? [] : [`${signal.name} > ${signal.range.max}`])
  ].join(" OR ")

// Values are quoted in causes so that the operator sees them, cut so that a 1 MB value stays a line.
const shown = (value: string) => `coalesce('"' || left(${value}, 60) || CASE WHEN length(${value}) > 60 THEN '…' ELSE '' END || '"', 'nothing')`

const idCause = (name: string) =>
  `CASE WHEN event_fields.${name} IS NULL OR event_fields.${name}::VARCHAR = 'null' THEN '${name} is absent or null'
    WHEN ${name} IS NULL THEN '${name} is not a string: ' || left(event_fields.${name}::VARCHAR, 60)
    WHEN ${name} = '' THEN '${name} is empty'
    WHEN strlen(${name}) > ${idBytesMax} THEN '${name} has ' || strlen(${name}) || ' bytes, at most ${idBytesMax} are allowed'
    ELSE '${name} contains the character U+0000' END`

interface Check {
  readonly rule: Rule
  readonly broken: string
  readonly cause: string
}

const signalChecks = (signal: Signal): ReadonlyArray<Check> => {
  const text = `event_fields.payload.${signal.name}`
  const notANumber: Check = {
    rule: signal.notANumber,
    broken: `${text} IS NOT NULL AND ${signal.name} IS NULL`,
    cause: `'${signal.name} is ' || ${shown(text)} || ', not a finite number'`
  }
  if (signal.range === undefined) return [notANumber]
  const wanted = signal.range.max === undefined
    ? `below ${signal.range.min}`
    : `outside ${signal.range.min} to ${signal.range.max}`
  const range: Check = {
    rule: signal.range.rule,
    broken: outOfRange(signal),
    cause: `'${signal.name} is ' || ${signal.name} || ', ${wanted}'`
  }
  return [notANumber, range]
}

const checks: ReadonlyArray<Check> = [
  {
    rule: "malformed_json",
    broken: "NOT is_json",
    cause: `CASE WHEN "value" IS NULL THEN 'the record has no value'
      WHEN octet_length("value") = 0 THEN 'the value is empty'
      WHEN text IS NULL THEN 'the value is not UTF-8'
      WHEN is_lax_json THEN 'the value has a trailing comma, NaN or Infinity, which JSON (RFC 8259) does not allow'
      WHEN regexp_matches(text, '\\\\u[dD][89a-fA-F]') THEN 'the value is not JSON (RFC 8259), or holds an unpaired surrogate escape: ' || ${shown("text")}
      ELSE 'the value is not JSON (RFC 8259): ' || ${shown("text")} END`
  },
  {
    rule: "not_an_event",
    broken: "json_kind <> 'OBJECT'",
    cause: `'the value is a JSON ' || CASE json_kind WHEN 'VARCHAR' THEN 'string' WHEN 'ARRAY' THEN 'array' WHEN 'NULL' THEN 'null'
      WHEN 'BOOLEAN' THEN 'boolean' ELSE 'number' END || ', not an object'`
  },
  { rule: "missing_event_id", broken: idBroken("event_id"), cause: idCause("event_id") },
  { rule: "missing_vehicle_id", broken: idBroken("vehicle_id"), cause: idCause("vehicle_id") },
  {
    rule: "invalid_event_time",
    broken: "event_ts IS NULL",
    cause: `CASE WHEN event_fields.event_time IS NULL THEN 'event_time is absent or null'
      ELSE 'event_time is ' || ${shown("event_fields.event_time")} || ', not a real instant in extended ISO-8601' END`
  },
  {
    rule: "future_event_time",
    broken: `event_ts > ingested_at + INTERVAL ${futureHoursMax} HOUR`,
    cause: `'event_time is ' || ${shown("event_fields.event_time")} || ', more than ${futureHoursMax} hours after its arrival'`
  },
  ...signals.flatMap(signalChecks)
]

const cases = (result: (check: Check) => string) =>
  `CASE ${checks.map((check) => `WHEN ${check.broken} THEN ${result(check)}`).join("\n    ")} END`

/** 128-bit hash of the length-prefixed pair (vehicle_id, event_id): the identity of an event. The prefix keeps ("a","bc") and ("ab","c") apart. */
export const dedupKeySql = `md5_number(concat(strlen(vehicle_id), ':', vehicle_id, event_id))`

/**
 * Whether a row with the columns `key` and `value` is of the vehicle (its id, as a literal): a condition for removing what is said of it. Events say so by
 * their vehicle_id; what has none counts by its key, or where it holds the id as a JSON string anywhere.
 */
export const namesVehicleSql = (id: string): string => {
  const text = `try(decode("value"))`
  const named = jsonText(`from_json(${text}, '{"vehicle_id": "JSON"}').vehicle_id`)
  // Most rows hold the id nowhere, which is cheaper to see than what they are. An escape may hide it.
  return `CASE
    WHEN "key" IS DISTINCT FROM encode(${id}) AND NOT contains(${text}, ${id}) AND NOT contains(${text}, '\\') THEN false
    WHEN CASE WHEN json_valid(${text}) THEN ${named} IS NOT NULL END THEN ${named} = ${id}
    ELSE coalesce("key" = encode(${id}), false) OR coalesce(contains(hex("value"), hex(encode(to_json(${id})::VARCHAR))), false) END`
}

/**
 * Decodes the rows of `source` (a relation with bronze's columns). Answers
 * `topic, partition, offset, timestamp, event_id, vehicle_id, event_ts, ingest_ts, source, <signals>, rule, cause, key, value, dedup_key`.
 * `rule` is NULL for a clean row; `cause`, `key` and `value` are there only for a reject; `dedup_key` (128 bits) only for a clean row.
 */
export const decodeSql = (source: string): string => `
WITH texts AS (
  SELECT *, try(decode("value")) AS text FROM ${source}
), lowered AS (
  SELECT *, lower(text) AS lowered, json_valid(text) AS is_lax_json FROM texts
), signed AS (
  SELECT * EXCLUDE (lowered), ${laxSigns("text", "lowered")} AS lax_signs FROM lowered
), judged AS (
  SELECT *, CASE WHEN is_lax_json THEN ${isStrict} ELSE false END AS is_json FROM signed
), read AS (
  SELECT *, CASE WHEN is_json THEN CASE WHEN starts_with(text, '{') THEN 'OBJECT' ELSE json_type(text) END END AS json_kind,
    CASE WHEN is_json THEN from_json(text, '${shape}') END AS event_fields
  FROM judged
), typed AS (
  SELECT *,
    ${jsonText("event_fields.event_id")} AS event_id,
    ${jsonText("event_fields.vehicle_id")} AS vehicle_id,
    ${parseInstant("event_fields.event_time")} AS event_ts,
    ${parseInstant("event_fields.ingest_time")} AS ingest_ts,
    event_fields.source AS source,
    ${signals.map((signal) => `${number(`event_fields.payload.${signal.name}`)} AS ${signal.name}`).join(",\n    ")}
  FROM read
), ruled AS (
  SELECT *, ${cases((check) => `'${check.rule}'`)} AS rule FROM typed
)
SELECT topic, "partition", "offset", "timestamp", event_id, vehicle_id, event_ts, ingest_ts, source,
  ${signals.map((signal) => signal.name).join(", ")}, rule,
  CASE WHEN rule IS NOT NULL THEN ${cases((check) => check.cause)} END AS cause,
  CASE WHEN rule IS NOT NULL THEN "key" END AS "key",
  CASE WHEN rule IS NOT NULL THEN "value" END AS "value",
  CASE WHEN rule IS NULL THEN ${dedupKeySql} END AS dedup_key
FROM ruled`
