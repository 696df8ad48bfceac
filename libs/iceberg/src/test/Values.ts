/** Values of every primitive type, for property tests. */
import fc from "fast-check"
import type { SingleValue } from "../SingleValue.ts"
import type { PrimitiveType } from "../Type.ts"
import * as Type from "../Type.ts"

export const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
export const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })

export const types: ReadonlyArray<PrimitiveType> = [
  Type.boolean,
  Type.int,
  Type.long,
  Type.float,
  Type.double,
  Type.date,
  Type.time,
  Type.timestamp,
  Type.timestamptz,
  Type.string,
  Type.uuid,
  Type.binary,
  Type.decimal(9, 2),
  Type.fixed(4)
]

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

export const ofType = (type: PrimitiveType): fc.Arbitrary<SingleValue> => {
  switch (type.type) {
    case "boolean":
      return fc.boolean()
    case "int":
      return int32
    case "date":
      return fc.integer({ min: -3_000_000, max: 3_000_000 })
    case "long":
    case "timestamp":
    case "timestamptz":
      return int64
    case "time":
      return fc.bigInt({ min: 0n, max: 86_399_999_999n })
    case "float":
      return fc.float()
    case "double":
      return fc.double()
    case "decimal":
      return fc.bigInt({ min: -(10n ** BigInt(type.precision)) + 1n, max: 10n ** BigInt(type.precision) - 1n })
    case "string":
      return fc.string({ unit: "binary", maxLength: 40 })
    case "uuid":
      return bytes(16)
    case "fixed":
      return bytes(type.length)
    case "binary":
      return fc.uint8Array({ maxLength: 40 })
  }
}
