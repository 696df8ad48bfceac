/** The same text of rows as the other engines' `voltlake_interop.digest`, by our plan and our engine. */
import { Effect } from "effect"
import type { Expression } from "@voltlake/iceberg/Expression"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import type { TableMetadata } from "@voltlake/iceberg/TableMetadata"
import type { IcebergType, NestedField } from "@voltlake/iceberg/Type"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { literal, name as quoted } from "@voltlake/query-engine/SqlText"
import type { Digest } from "./Engine.ts"

const joined = (list: string, open: string, close: string) => `'${open}' || array_to_string(${list}, ',') || '${close}'`

const notNull = (type: IcebergType, value: string, depth: number): string => {
  switch (type.type) {
    case "float":
    case "double":
      return `CASE WHEN isnan(${value}) THEN 'nan' ELSE format('{:.6f}', ${value}) END`
    case "time":
    case "timestamp":
    case "timestamptz":
      return `epoch_us(${value})::VARCHAR`
    case "string":
    case "uuid":
      return `'"' || ${value}::VARCHAR || '"'`
    case "binary":
    case "fixed":
      return `lower(hex(${value}))`
    case "list":
      return joined(`list_transform(${value}, lambda e${depth}: ${text(type.element, `e${depth}`, depth + 1)})`, "[", "]")
    case "map": {
      const entry = `${text(type.key, `e${depth}.key`, depth + 1)} || ':' || ${text(type.value, `e${depth}.value`, depth + 1)}`
      return joined(`list_sort(list_transform(map_entries(${value}), lambda e${depth}: ${entry}))`, "{", "}")
    }
    case "struct":
      return struct(type.fields, (name) => `struct_extract(${value}, ${literal(name)})`, depth)
    default:
      return `${value}::VARCHAR`
  }
}

const text = (type: IcebergType, value: string, depth: number): string => `CASE WHEN ${value} IS NULL THEN 'null' ELSE ${notNull(type, value, depth)} END`

const struct = (fields: ReadonlyArray<NestedField>, value: (name: string) => string, depth: number): string => {
  const parts = fields.map(({ name, type }) => `${literal(`"${name}":`)} || ${text(type, value(name), depth)}`)
  return joined(`list_sort([${parts.join(", ")}])`, "{", "}")
}

const firstRows = 20

interface Read extends Digest {
  readonly explanation: Scan.Explanation
}

export interface ReadOptions extends Scan.ScanOptions {
  readonly filter?: Expression | undefined
  /** What the filter means to the engine: a plan only passes files over. */
  readonly where?: string
}

/** Rows of the table, or of a snapshot of it. */
export const read = Effect.fn("OwnDigest.read")(function*(metadata: TableMetadata, { where = "true", ...options }: ReadOptions = {}) {
  const plan = yield* Scan.plan(metadata, options)
  const relation = yield* ReadSql.relation(plan.schema, metadata, plan.files)
  const connection = yield* (yield* QueryEngine).connect
  const lines = `SELECT ${struct(plan.schema.fields, quoted, 0)} AS line FROM ${relation} AS rows WHERE ${where}`
  const [row] = yield* connection.rows(`
    SELECT count(*)::INTEGER AS count, sha256(coalesce(string_agg(line, chr(10) ORDER BY line), '')) AS digest FROM (${lines})`)
  const first = yield* connection.rows(`${lines} ORDER BY line LIMIT ${firstRows}`)
  return {
    count: Number(row!["count"]),
    digest: String(row!["digest"]),
    first: first.map(({ line }) => String(line)),
    explanation: plan.explanation
  } satisfies Read
}, Effect.scoped)
