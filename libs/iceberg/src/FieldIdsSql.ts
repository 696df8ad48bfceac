/** A schema's field ids in the form that DuckDB's `COPY … (FIELD_IDS …)` takes. Iceberg's readers find columns by these ids. */
import { name as quoted } from "@voltlake/query-engine/SqlText"
import type { IcebergType, NestedField, TableSchema } from "./Type.ts"
import { children, isPrimitive } from "./Type.ts"

const structured = (type: IcebergType) => children(type).map((field) => ids(field, type.type === "struct"))

/** `key`, `value` and `element` are DuckDB's own words, written without quotes as it documents them. */
const ids = (field: NestedField, named: boolean): string => {
  const name = named ? quoted(field.name) : field.name
  if (isPrimitive(field.type)) return `${name}: ${field.id}`
  return `${name}: {__duckdb_field_id: ${[field.id, ...structured(field.type)].join(", ")}}`
}

/** `{"a": 1, "headers": {__duckdb_field_id: 7, element: {__duckdb_field_id: 9, "key": 10, "value": 11}}}` */
export const render = (schema: TableSchema): string => `{${schema.fields.map((field) => ids(field, true)).join(", ")}}`
