/** Which metrics of a column a data file's entry keeps: table properties `write.metadata.metrics.default` and `….column.<path>`. */
import { truncateLength } from "./BoundsBinary.ts"
import type { TableMetadata } from "./TableMetadata.ts"

export type MetricsMode =
  | { readonly type: "none" }
  /** Sizes and counts, no bounds. */
  | { readonly type: "counts" }
  /** Bounds too, of text and bytes the first `length`; infinite: whole. */
  | { readonly type: "bounds"; readonly length: number }

const defaultProperty = "write.metadata.metrics.default"
const columnProperty = (path: string) => `write.metadata.metrics.column.${path}`

/** Iceberg's own default: `truncate(16)`. */
export const defaultMode: MetricsMode = { type: "bounds", length: truncateLength }

const fromText = (text: string): MetricsMode | undefined => {
  const mode = text.trim().toLowerCase()
  if (mode === "none" || mode === "counts") return { type: mode }
  if (mode === "full") return { type: "bounds", length: Infinity }
  const length = /^truncate\(([1-9]\d{0,8})\)$/.exec(mode)?.[1]
  return length === undefined ? undefined : { type: "bounds", length: Number(length) }
}

/** The column's own mode, else the table's, else the default; a text that is no mode counts as none given. */
export const of = ({ properties }: Pick<TableMetadata, "properties">, path: string): MetricsMode => {
  const given = [properties[columnProperty(path)], properties[defaultProperty]]
  return given.map((text) => (text === undefined ? undefined : fromText(text))).find((mode) => mode !== undefined) ?? defaultMode
}
