/**
 * Values of primitive columns as JavaScript holds them: booleans; int, float, double, date (days since 1970) as number; long, time and timestamps
 * (microseconds) as bigint; decimals as unscaled bigint; strings; bytes for binary, fixed and uuid.
 */
export type SingleValue = boolean | number | bigint | string | Uint8Array

/** Negative, zero or positive, for two values of one type. Strings are ordered by code points, which is their order as UTF-8. NaN is after all others. */
export const compare = (a: SingleValue, b: SingleValue): number => {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b)
  // JavaScript compares UTF-16 units.
  if (typeof a === "string" && typeof b === "string") return Buffer.compare(Buffer.from(a), Buffer.from(b))
  if (a < b) return -1
  if (a > b) return 1
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b))
}

export const equals = (a: SingleValue | null, b: SingleValue | null): boolean =>
  a === b || (a !== null && b !== null && compare(a, b) === 0)

/** The quotient rounded towards the past, not towards zero. */
export const floorDiv = (value: bigint, by: bigint): bigint => {
  const quotient = value / by
  return value < 0n && quotient * by !== value ? quotient - 1n : quotient
}
