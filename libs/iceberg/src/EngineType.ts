/** The engine's names of types, and values as text of its statements. */
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import type { SingleValue } from "./SingleValue.ts"
import type { IcebergType, PrimitiveType } from "./Type.ts"

/** DuckDB's name of a type. */
export const engineType = (type: IcebergType): string => {
  switch (type.type) {
    case "boolean":
    case "double":
    case "float":
    case "date":
    case "time":
    case "timestamp":
    case "timestamptz":
    case "uuid":
      return type.type.toUpperCase()
    case "int":
      return "INTEGER"
    case "long":
      return "BIGINT"
    case "string":
      return "VARCHAR"
    case "binary":
    case "fixed":
      return "BLOB"
    case "decimal":
      return `DECIMAL(${type.precision}, ${type.scale})`
    case "list":
      return `${engineType(type.element)}[]`
    case "map":
      return `MAP(${engineType(type.key)}, ${engineType(type.value)})`
    case "struct":
      return `STRUCT(${type.fields.map((field) => `${quoted(field.name)} ${engineType(field.type)}`).join(", ")})`
  }
}

export const nothing = (type: IcebergType): string => `NULL::${engineType(type)}`

const hex = (value: SingleValue) => Buffer.from(value as Uint8Array).toString("hex")

/** A value of a primitive type as SQL. */
export const valueSql = (type: PrimitiveType, value: SingleValue | null): string => {
  if (value === null) return nothing(type)
  switch (type.type) {
    case "string":
      return literal(String(value))
    case "binary":
    case "fixed":
      return `from_hex('${hex(value)}')`
    case "uuid":
      return `'${hex(value)}'::UUID`
    case "date":
      return `DATE '1970-01-01' + (${value})::INTEGER`
    case "time":
      return `TIME '00:00:00' + to_microseconds(${value})`
    case "timestamp":
    case "timestamptz":
      return `make_${type.type}((${value})::BIGINT)`
    case "decimal": {
      const digits = String(value).replace("-", "").padStart(type.scale + 1, "0")
      const at = digits.length - type.scale
      return `'${BigInt(value as bigint) < 0n ? "-" : ""}${digits.slice(0, at)}.${digits.slice(at)}'::${engineType(type)}`
    }
    default:
      return `'${String(value)}'::${engineType(type)}`
  }
}
