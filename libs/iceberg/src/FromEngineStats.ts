/**
 * Iceberg metrics of a data file from what the query engine says of the Parquet file it wrote. A bound whose text cannot be read with certainty is
 * left out: a missing bound costs time, a wrong one loses rows.
 */
import type { ColumnStats, WrittenFile } from "@voltlake/query-engine/QueryEngine"
import { encode, truncateLower, truncateUpper } from "./BoundsBinary.ts"
import type { DataFile } from "./DataFile.ts"
import { defaultMode, type MetricsMode } from "./MetricsMode.ts"
import { floorDiv, type SingleValue } from "./SingleValue.ts"
import type { Leaf, PrimitiveType, TableSchema } from "./Type.ts"
import { leaves } from "./Type.ts"

export type Metrics = Pick<
  DataFile,
  "columnSizes" | "valueCounts" | "nullValueCounts" | "nanValueCounts" | "lowerBounds" | "upperBounds"
>

/** Metrics of every column that the schema and the file both know, as far as `modeOf` its path has them kept. */
export const metrics = (
  schema: TableSchema,
  written: WrittenFile,
  modeOf: (path: string) => MetricsMode = () => defaultMode
): Metrics => {
  const columnSizes = new Map<number, bigint>()
  const valueCounts = new Map<number, bigint>()
  const nullValueCounts = new Map<number, bigint>()
  const nanValueCounts = new Map<number, bigint>()
  const lowerBounds = new Map<number, Uint8Array>()
  const upperBounds = new Map<number, Uint8Array>()
  for (const leaf of leaves(schema)) {
    const stats = written.columns.get(leaf.path)
    const mode = modeOf(leaf.path)
    if (stats === undefined || mode.type === "none") continue
    columnSizes.set(leaf.id, stats.sizeBytes)
    valueCounts.set(leaf.id, stats.valueCount)
    nullValueCounts.set(leaf.id, stats.nullCount)
    if (stats.nanCount !== undefined && isFloating(leaf.type)) nanValueCounts.set(leaf.id, stats.nanCount)
    if (mode.type === "counts") continue
    const bounds = columnBounds(leaf, stats, mode.length)
    if (bounds.lower !== undefined) lowerBounds.set(leaf.id, bounds.lower)
    if (bounds.upper !== undefined) upperBounds.set(leaf.id, bounds.upper)
  }
  return { columnSizes, valueCounts, nullValueCounts, nanValueCounts, lowerBounds, upperBounds }
}

const isFloating = (type: PrimitiveType) => type.type === "float" || type.type === "double"

const columnBounds = (
  leaf: Leaf,
  stats: ColumnStats,
  length: number
): { readonly lower: Uint8Array | undefined; readonly upper: Uint8Array | undefined } => {
  // Bounds of what lists and maps hold have no defined meaning for readers that prune rows.
  if (leaf.repeated) return { lower: undefined, upper: undefined }
  const low = stats.min === undefined ? undefined : parseValue(leaf.type, stats.min)
  const high = stats.max === undefined ? undefined : parseValue(leaf.type, stats.max)
  const upper = high === undefined ? undefined : truncateUpper(leaf.type, zero(high, 0), length)
  return {
    lower: low === undefined ? undefined : encode(leaf.type, truncateLower(leaf.type, zero(low, -0), length)),
    upper: upper === undefined ? undefined : encode(leaf.type, upper)
  }
}

/** Zero's two signs compare equal here but not in every reader: the wider one is right for all. */
const zero = (value: SingleValue, wider: number): SingleValue => (value === 0 ? wider : value)

/** A value in the engine's text form, or undefined where it is not certain. */
export const parseValue = (type: PrimitiveType, text: string): SingleValue | undefined => {
  switch (type.type) {
    case "boolean":
      return text === "1" || text === "true" ? true : text === "0" || text === "false" ? false : undefined
    case "int": {
      const value = parseInteger(text, 32)
      return value === undefined ? undefined : Number(value)
    }
    case "long":
      return parseInteger(text, 64)
    case "float":
    case "double":
      return parseFloating(text, type.type)
    case "date": {
      const days = parseDate(text)
      return days === undefined ? undefined : Number(days)
    }
    case "time":
      return parseTime(text)
    case "timestamp":
      return parseTimestamp(text, false)
    case "timestamptz":
      return parseTimestamp(text, true)
    case "decimal":
      return parseDecimal(text, type.precision, type.scale)
    case "string":
      // What decoding could not read comes as U+FFFD: the order of such a text is not that of its bytes.
      return /[\p{Cs}\ufffd]/u.test(text) ? undefined : text
    case "uuid": {
      const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
      return isUuid ? parseHex(text.replaceAll("-", "")) : undefined
    }
    case "fixed": {
      const bytes = parseHex(text)
      return bytes?.length === type.length ? bytes : undefined
    }
    case "binary":
      return parseHex(text)
  }
}

const parseInteger = (text: string, bits: number): bigint | undefined => {
  if (!/^-?\d{1,20}$/.test(text)) return undefined
  const value = BigInt(text)
  return BigInt.asIntN(bits, value) === value ? value : undefined
}

const parseFloating = (text: string, type: "float" | "double"): number | undefined => {
  if (text === "inf") return Infinity
  if (text === "-inf") return -Infinity
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) return undefined
  const value = type === "float" ? Math.fround(Number(text)) : Number(text)
  return Number.isFinite(value) ? value : undefined
}

const parseHex = (text: string): Uint8Array | undefined => {
  if (!/^([0-9a-f]{2})*$/i.test(text)) return undefined
  return Uint8Array.from({ length: text.length / 2 }, (_, index) => parseInt(text.slice(2 * index, 2 * index + 2), 16))
}

const parseDecimal = (text: string, precision: number, scale: number): bigint | undefined => {
  const parts = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text)
  if (parts === null) return undefined
  const fraction = parts[3] ?? ""
  if (fraction.length !== scale) return undefined
  const digits = BigInt(parts[2]! + fraction)
  if (digits >= 10n ** BigInt(precision)) return undefined
  return parts[1] === "-" ? -digits : digits
}

/** Days since 1970 in the proleptic Gregorian calendar; year 0 is 1 before Christ. Months are counted from March, so that a leap day ends a year. */
const daysFromCivil = (year: bigint, month: bigint, dayOfMonth: bigint): bigint => {
  const monthFromMarch = (month + 9n) % 12n
  const yearFromMarch = month <= 2n ? year - 1n : year
  const leapDays = floorDiv(yearFromMarch, 4n) - floorDiv(yearFromMarch, 100n) + floorDiv(yearFromMarch, 400n)
  const daysBeforeMonth = (153n * monthFromMarch + 2n) / 5n
  return 365n * yearFromMarch + leapDays + daysBeforeMonth + dayOfMonth - 1n - 719_468n
}

const daysInMonth = (year: bigint, month: bigint): bigint => {
  const [nextYear, nextMonth] = month === 12n ? [year + 1n, 1n] : [year, month + 1n]
  return daysFromCivil(nextYear, nextMonth, 1n) - daysFromCivil(year, month, 1n)
}

/** `2026-11-24`, or `0044-03-15 (BC)`. */
const parseDate = (text: string): bigint | undefined => {
  const parts = /^(\d{4,6})-(\d{2})-(\d{2})( \(BC\))?$/.exec(text)
  if (parts === null) return undefined
  const year = parts[4] === undefined ? BigInt(parts[1]!) : 1n - BigInt(parts[1]!)
  const month = BigInt(parts[2]!)
  const dayOfMonth = BigInt(parts[3]!)
  if (parts[1] === "0000" || month < 1n || month > 12n) return undefined
  if (dayOfMonth < 1n || dayOfMonth > daysInMonth(year, month)) return undefined
  return daysFromCivil(year, month, dayOfMonth)
}

/** Microseconds of a day. */
const parseTime = (text: string): bigint | undefined => {
  const parts = /^(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,6}))?$/.exec(text)
  if (parts === null) return undefined
  const [hours, minutes, seconds] = [BigInt(parts[1]!), BigInt(parts[2]!), BigInt(parts[3]!)]
  if (hours > 23n || minutes > 59n || seconds > 59n) return undefined
  return ((hours * 60n + minutes) * 60n + seconds) * 1_000_000n + BigInt((parts[4] ?? "").padEnd(6, "0"))
}

/** `2026-11-24 14:54:46.490898+00`, or `0044-03-15 (BC) 00:00:00+05:30`; with a zone exactly where one is due. */
const parseTimestamp = (text: string, zoned: boolean): bigint | undefined => {
  const parts = /^(\S+(?: \(BC\))?) ([\d:.]+)(?:([+-])(\d{2})(?::(\d{2}))?)?$/.exec(text)
  if (parts === null || (parts[3] !== undefined) !== zoned) return undefined
  const days = parseDate(parts[1]!)
  const time = parseTime(parts[2]!)
  if (days === undefined || time === undefined) return undefined
  const offsetMinutes = BigInt(parts[4] ?? "0") * 60n + BigInt(parts[5] ?? "0")
  const offset = (parts[3] === "-" ? -offsetMinutes : offsetMinutes) * 60_000_000n
  const micros = days * 86_400_000_000n + time - offset
  return BigInt.asIntN(64, micros) === micros ? micros : undefined
}
