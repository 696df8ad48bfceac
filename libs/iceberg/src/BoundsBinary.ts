/**
 * Single values as bytes, for bounds (specification: Appendix D, "Binary single-value serialization"), and their shortening.
 */
import type { SingleValue } from "./SingleValue.ts"
import type { PrimitiveType } from "./Type.ts"

/** Longer strings and binaries are cut to this, in code points or bytes: Iceberg's own default. */
export const truncateLength = 16

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const bytesOf = (length: number, write: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(length)
  write(view(bytes))
  return bytes
}

/** Two's complement, big-endian, in as few bytes as hold it. */
const encodeBigEndian = (value: bigint): Uint8Array => {
  let length = 1
  while (BigInt.asIntN(length * 8, value) !== value) length++
  const bytes = new Uint8Array(length)
  let rest = BigInt.asUintN(length * 8, value)
  for (let index = length - 1; index >= 0; index--) {
    bytes[index] = Number(rest & 0xffn)
    rest >>= 8n
  }
  return bytes
}

const decodeBigEndian = (bytes: Uint8Array): bigint => {
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return BigInt.asIntN(bytes.length * 8, value)
}

const text = new TextEncoder()
const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The value must be of the type; see `SingleValue`. */
export const encode = (type: PrimitiveType, value: SingleValue): Uint8Array => {
  switch (type.type) {
    case "boolean":
      return Uint8Array.of(value === true ? 1 : 0)
    case "int":
    case "date":
      return bytesOf(4, (at) => at.setInt32(0, Number(value), true))
    case "long":
    case "time":
    case "timestamp":
    case "timestamptz":
      return bytesOf(8, (at) => at.setBigInt64(0, BigInt(value as bigint), true))
    case "float":
      return bytesOf(4, (at) => at.setFloat32(0, value as number, true))
    case "double":
      return bytesOf(8, (at) => at.setFloat64(0, value as number, true))
    case "string":
      return text.encode(value as string)
    case "decimal":
      return encodeBigEndian(value as bigint)
    case "uuid":
    case "fixed":
    case "binary":
      return value as Uint8Array
  }
}

/** The value, or undefined where the bytes are none of the type. A shorter type's bytes are read too: columns may be promoted. */
export const decode = (type: PrimitiveType, bytes: Uint8Array): SingleValue | undefined => {
  const at = view(bytes)
  switch (type.type) {
    case "boolean":
      return bytes.length === 1 ? bytes[0] !== 0 : undefined
    case "int":
    case "date":
      return bytes.length === 4 ? at.getInt32(0, true) : undefined
    case "long":
      if (bytes.length === 4) return BigInt(at.getInt32(0, true))
      return bytes.length === 8 ? at.getBigInt64(0, true) : undefined
    case "time":
    case "timestamp":
    case "timestamptz":
      return bytes.length === 8 ? at.getBigInt64(0, true) : undefined
    case "float":
      return bytes.length === 4 ? at.getFloat32(0, true) : undefined
    case "double":
      if (bytes.length === 4) return at.getFloat32(0, true)
      return bytes.length === 8 ? at.getFloat64(0, true) : undefined
    case "string":
      return decodeText(bytes)
    case "decimal":
      return bytes.length > 0 ? decodeBigEndian(bytes) : undefined
    case "uuid":
      return bytes.length === 16 ? bytes : undefined
    case "fixed":
      return bytes.length === type.length ? bytes : undefined
    case "binary":
      return bytes
  }
}

const decodeText = (bytes: Uint8Array): string | undefined => {
  try {
    return strictText.decode(bytes)
  } catch {
    return undefined
  }
}

/** A value not above any that it stood for: cut where it is long. */
export const truncateLower = (type: PrimitiveType, value: SingleValue, length = truncateLength): SingleValue => {
  if (type.type === "string") return Array.from(value as string).slice(0, length).join("")
  if (type.type === "binary") return (value as Uint8Array).slice(0, length)
  return value
}

/** A value not below any that it stood for: cut and counted up where it is long; undefined where there is no such short value. */
export const truncateUpper = (type: PrimitiveType, value: SingleValue, length = truncateLength): SingleValue | undefined => {
  if (type.type === "string") return truncateTextUpper(value as string, length)
  if (type.type === "binary") return truncateBytesUpper(value as Uint8Array, length)
  return value
}

const truncateTextUpper = (value: string, length: number): string | undefined => {
  const points = Array.from(value)
  if (points.length <= length) return value
  for (let index = length - 1; index >= 0; index--) {
    const next = nextCodePoint(points[index]!.codePointAt(0)!)
    if (next !== undefined) return points.slice(0, index).join("") + String.fromCodePoint(next)
  }
  return undefined
}

/** Surrogates are no characters: what follows the last before them is the first behind them. */
const nextCodePoint = (point: number): number | undefined =>
  point >= 0x10ffff ? undefined : point + 1 >= 0xd800 && point + 1 <= 0xdfff ? 0xe000 : point + 1

const truncateBytesUpper = (value: Uint8Array, length: number): Uint8Array | undefined => {
  if (value.length <= length) return value
  for (let index = length - 1; index >= 0; index--) {
    if (value[index]! < 0xff) {
      const out = value.slice(0, index + 1)
      out[index] = value[index]! + 1
      return out
    }
  }
  return undefined
}
