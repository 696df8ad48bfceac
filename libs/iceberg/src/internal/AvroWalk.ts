/**
 * Walks over encoded Avro values (Avro specification 1.11, "Binary Encoding") by their writer's schema: takes what is asked for out of the bytes, and
 * makes no objects of the rest, which is most of a manifest. Throws {@link AvroInvalid} where the bytes end too soon or make no sense.
 */
import { AvroInvalid, unpackLong } from "./AvroContainer.ts"

/** Mutable. */
export interface Cursor {
  readonly bytes: Buffer
  at: number
}

/** Moves the cursor past a value. */
export type Step = (cursor: Cursor) => void

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value)

const cutOff = (cursor: Cursor): never => {
  throw new AvroInvalid(`a value is cut off at byte ${cursor.at}`)
}

/** An int, or a long where it is a length or a count. */
export const readNumber = (cursor: Cursor): number => {
  let [value, scale] = [0, 1]
  for (;;) {
    const byte = cursor.bytes[cursor.at++]
    if (byte === undefined || scale > Number.MAX_SAFE_INTEGER) return cutOff(cursor)
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
    scale *= 0x80
  }
}

/** Up to this length it fits a number. */
const shortLongBytes = 7
const longBytesMax = 10

export const readLong = (cursor: Cursor): bigint => {
  const start = cursor.at
  skipLong(cursor)
  if (cursor.at - start > longBytesMax) return cutOff(cursor)
  if (cursor.at - start > shortLongBytes) return unpackLong(cursor.bytes.subarray(start, cursor.at))
  cursor.at = start
  return BigInt(readNumber(cursor))
}

/** Not copied: for as long as it is held, so is all that it was read from. */
export const readBytes = (cursor: Cursor): Buffer => {
  const length = readNumber(cursor)
  const start = cursor.at
  move(cursor, length)
  return cursor.bytes.subarray(start, cursor.at)
}

const move = (cursor: Cursor, length: number) => {
  if (length < 0 || cursor.at + length > cursor.bytes.length) cutOff(cursor)
  cursor.at += length
}

const skipLong: Step = (cursor) => {
  for (;;) {
    const byte = cursor.bytes[cursor.at++]
    if (byte === undefined) return cutOff(cursor)
    if (byte < 0x80) return
  }
}

const skipBytes: Step = (cursor) => move(cursor, readNumber(cursor))
const skipFixed = (size: number): Step => (cursor) => move(cursor, size)

const primitives = new Map<unknown, Step>([
  ["null", () => undefined],
  ["boolean", skipFixed(1)],
  ["int", skipLong],
  ["long", skipLong],
  ["float", skipFixed(4)],
  ["double", skipFixed(8)],
  ["bytes", skipBytes],
  ["string", skipBytes],
  ["enum", skipLong]
])

/** All items of an array or a map, block by block. */
const overItems = (item: Step): Step => (cursor) => {
  for (;;) {
    const count = readNumber(cursor)
    if (count === 0) return
    // A negative count is followed by the block's length.
    if (count < 0) skipLong(cursor)
    for (let left = Math.abs(count); left > 0; left--) {
      const before = cursor.at
      item(cursor)
      if (cursor.at === before) break
    }
  }
}

const oneOf = (branches: ReadonlyArray<Step>): Step => (cursor) => {
  const branch = branches[readNumber(cursor)]
  if (branch === undefined) return cutOff(cursor)
  branch(cursor)
}

/** What a field of a record is walked with; undefined for skipping it. */
export type FieldStep = (name: string, type: unknown) => Step | undefined

/** Types by name: a type that has been defined is named afterwards. */
type Named = Map<string, Step>

const stepOf = (schema: unknown, named: Named): Step => {
  const simple = primitives.get(schema)
  if (simple !== undefined) return simple
  if (Array.isArray(schema)) return oneOf(schema.map((branch) => stepOf(branch, named)))
  if (typeof schema === "string") {
    const known = named.get(schema)
    if (known === undefined) throw new AvroInvalid(`unknown type ${schema}`)
    return known
  }
  if (!isObject(schema)) throw new AvroInvalid("a type is missing")
  const step = structure(schema, named)
  for (const name of [schema["name"], `${String(schema["namespace"])}.${String(schema["name"])}`]) if (typeof name === "string") named.set(name, step)
  return step
}

const structure = (schema: Record<string, unknown>, named: Named): Step => {
  switch (schema["type"]) {
    case "record":
      return record(schema, () => undefined, named)
    case "array":
      return overItems(stepOf(schema["items"], named))
    case "map": {
      const value = stepOf(schema["values"], named)
      return overItems((cursor) => {
        skipBytes(cursor)
        value(cursor)
      })
    }
    case "fixed":
      return skipFixed(Number(schema["size"]))
    default:
      return stepOf(schema["type"], named)
  }
}

/** Over a record's fields, in their order. */
export const record = (schema: unknown, fieldStep: FieldStep, named: Named = new Map()): Step => {
  if (!isObject(schema) || !Array.isArray(schema["fields"])) throw new AvroInvalid("not a record")
  const steps = schema["fields"].map((field: unknown) => {
    const { name, type } = field as { readonly name: string; readonly type: unknown }
    // All types are seen, since a later one may be named after an earlier one.
    const skip = stepOf(type, named)
    return fieldStep(name, type) ?? skip
  })
  return (cursor) => {
    for (const step of steps) step(cursor)
  }
}

/** An optional map with number keys, which Iceberg writes as an array of pairs. */
export const pairs = (type: unknown, readPair: (key: number, cursor: Cursor, skipValue: Step) => void): Step => {
  const branch = (one: unknown): Step => {
    if (!isObject(one) || one["type"] !== "array") return stepOf(one, new Map())
    const fields = isObject(one["items"]) ? one["items"]["fields"] : undefined
    const [key, value] = Array.isArray(fields) ? fields as ReadonlyArray<{ readonly name: string; readonly type: unknown }> : []
    if (key?.name !== "key" || value?.name !== "value") throw new AvroInvalid("not pairs of key and value")
    const skipValue = stepOf(value.type, new Map())
    return overItems((cursor) => readPair(readNumber(cursor), cursor, skipValue))
  }
  return Array.isArray(type) ? oneOf(type.map(branch)) : branch(type)
}
