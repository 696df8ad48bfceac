/** What makes a partition value of a column's value (specification: "Partition Transforms", Appendix B), as data and on single values. */
import { invariant } from "@voltlake/domain/Failure"
import { encode } from "./BoundsBinary.ts"
import * as Murmur3 from "./internal/Murmur3.ts"
import type { SingleValue } from "./SingleValue.ts"
import { floorDiv } from "./SingleValue.ts"
import type { PrimitiveType } from "./Type.ts"
import { date, int, string } from "./Type.ts"

type TimeUnit = "year" | "month" | "day" | "hour"

export type Transform =
  | { readonly type: "identity" | "void" | TimeUnit }
  | { readonly type: "bucket"; readonly buckets: number }
  | { readonly type: "truncate"; readonly width: number }
  /** Of a later version, or another's. A table that has one can be read, not written by it. */
  | { readonly type: "unknown"; readonly text: string }

export const identity: Transform = { type: "identity" }
export const year: Transform = { type: "year" }
export const month: Transform = { type: "month" }
export const day: Transform = { type: "day" }
export const hour: Transform = { type: "hour" }
export const alwaysNull: Transform = { type: "void" }
export const bucket = (buckets: number): Transform => ({ type: "bucket", buckets })
/** Strings to code points, binaries to bytes, numbers to multiples. */
export const truncate = (width: number): Transform => ({ type: "truncate", width })

export const fromText = (text: string): Transform => {
  switch (text) {
    case "identity":
    case "void":
    case "year":
    case "month":
    case "day":
    case "hour":
      return { type: text }
  }
  const [, name, argument] = /^(bucket|truncate)\[([1-9]\d{0,9})\]$/.exec(text) ?? []
  if (name === "bucket") return bucket(Number(argument))
  if (name === "truncate") return truncate(Number(argument))
  return { type: "unknown", text }
}

export const toText = (transform: Transform): string => {
  switch (transform.type) {
    case "bucket":
      return `bucket[${transform.buckets}]`
    case "truncate":
      return `truncate[${transform.width}]`
    case "unknown":
      return transform.text
    default:
      return transform.type
  }
}

const days: ReadonlyArray<PrimitiveType["type"]> = ["date", "timestamp", "timestamptz"]
const truncatable: ReadonlyArray<PrimitiveType["type"]> = ["int", "long", "decimal", "string", "binary"]
const unhashable: ReadonlyArray<PrimitiveType["type"]> = ["boolean", "float", "double"]

/** Whether the transform can be of a column of this type. */
export const accepts = (transform: Transform, source: PrimitiveType): boolean => {
  switch (transform.type) {
    case "identity":
    case "void":
    case "unknown":
      return true
    case "year":
    case "month":
    case "day":
      return days.includes(source.type)
    case "hour":
      return source.type !== "date" && days.includes(source.type)
    case "bucket":
      return !unhashable.includes(source.type)
    case "truncate":
      return truncatable.includes(source.type)
  }
}

export const resultType = (transform: Transform, source: PrimitiveType): PrimitiveType => {
  switch (transform.type) {
    case "identity":
    case "void":
    case "truncate":
      return source
    case "day":
      return date
    case "year":
    case "month":
    case "hour":
    case "bucket":
      return int
    // An unknown transform's values are read as text, as the specification asks.
    case "unknown":
      return string
  }
}

/** The partition value of a value of `source`, a type that the transform accepts. */
export const apply = (transform: Transform, source: PrimitiveType, value: SingleValue | null): SingleValue | null => {
  if (value === null) return null
  switch (transform.type) {
    case "identity":
      return value
    case "void":
      return null
    case "year":
    case "month":
    case "day":
    case "hour":
      return sinceEpoch(transform.type, source, value)
    case "bucket":
      return (hash(source, value) & 0x7fff_ffff) % transform.buckets
    case "truncate":
      return truncated(transform.width, source, value)
    case "unknown":
      invariant(false, `whoever writes by the transform ${transform.text} knows it`)
  }
}

const microsPerHour = 3_600_000_000n
const microsPerDay = 24n * microsPerHour
const millisPerDay = 86_400_000

/** Days since 1970 of microseconds since 1970. */
export const dayOfMicros = (micros: bigint): number => Number(floorDiv(micros, microsPerDay))

const sinceEpoch = (unit: TimeUnit, source: PrimitiveType, value: SingleValue): number => {
  if (unit === "hour") return clampedInt(floorDiv(value as bigint, microsPerHour))
  const ofDays = source.type === "date" ? (value as number) : dayOfMicros(value as bigint)
  if (unit === "day") return ofDays
  const at = civil(ofDays)
  return unit === "year" ? at.year - 1970 : (at.year - 1970) * 12 + at.month
}

/** Year and month (from 0) in the proleptic Gregorian calendar, also where days lie beyond what `Date` holds. */
const civil = (ofDays: number): { readonly year: number; readonly month: number } => {
  const era = Math.floor(ofDays / daysPerEra)
  const at = new Date((ofDays - era * daysPerEra) * millisPerDay)
  return { year: at.getUTCFullYear() + era * 400, month: at.getUTCMonth() }
}

/** After 400 years the calendar repeats. */
const daysPerEra = 146_097

/** The hash of a value (specification: Appendix B, "32-bit Hash Requirements"): an int's is that of the same long, so that widening keeps buckets. */
const hash = (source: PrimitiveType, value: SingleValue): number => {
  if (typeof value === "number") return Murmur3.hash(encode({ type: "long" }, BigInt(value)))
  return Murmur3.hash(encode(source, value))
}

const leastInt = -(2 ** 31)
const leastLong = -(2n ** 63n)

/** Stays within the type, so that the order of values is kept to its ends. */
const clampedInt = (value: bigint): number => Math.min(Math.max(Number(value), leastInt), -leastInt - 1)

const truncated = (width: number, source: PrimitiveType, value: SingleValue): SingleValue => {
  if (typeof value === "string") return firstPoints(value, width)
  if (value instanceof Uint8Array) return value.slice(0, width)
  const whole = floorDiv(BigInt(value), BigInt(width)) * BigInt(width)
  if (source.type === "int") return Math.max(Number(whole), leastInt)
  return source.type === "long" && whole < leastLong ? leastLong : whole
}

const firstPoints = (text: string, count: number): string =>
  text.length <= count ? text : Array.from(text).slice(0, count).join("")
