/** A small table with every kind of nesting, and what tests do with it. */
import { Effect, Either } from "effect"
import * as Action from "../Action.ts"
import type { DataFile } from "../DataFile.ts"
import * as PartitionSpec from "../PartitionSpec.ts"
import * as SortOrder from "../SortOrder.ts"
import * as TableIdentifier from "../TableIdentifier.ts"
import type { TableDefinition } from "../TableMetadata.ts"
import * as Tables from "../Tables.ts"
import type { TableChange } from "../Transaction.ts"
import * as Transform from "../Transform.ts"
import * as Type from "../Type.ts"

export const raw = TableIdentifier.make("bronze", "telemetry_raw")
export const clean = TableIdentifier.make("silver", "telemetry_clean")

export const schema = Type.schema([
  Type.required(1, "topic", Type.string),
  Type.required(2, "partition", Type.int),
  Type.required(3, "offset", Type.long),
  Type.required(4, "timestamp", Type.timestamptz),
  Type.optional(5, "value", Type.binary),
  Type.optional(
    6,
    "headers",
    Type.list(7, Type.struct([Type.required(8, "key", Type.string), Type.optional(9, "value", Type.binary)]))
  ),
  Type.optional(10, "signals", Type.map([11, Type.string], [12, Type.double])),
  Type.optional(13, "speed", Type.double),
  Type.optional(14, "total", Type.decimal(38, 6))
])

export const byDay = PartitionSpec.make(0, [
  { sourceId: 4, fieldId: 1000, name: "timestamp_day", transform: Transform.day }
])
export const byDayAndTopic = PartitionSpec.make(1, [
  { sourceId: 4, fieldId: 1000, name: "timestamp_day", transform: Transform.day },
  { sourceId: 1, fieldId: 1001, name: "topic", transform: Transform.identity }
])

export const definition: TableDefinition = {
  schema,
  specs: [byDay, byDayAndTopic],
  sortOrder: SortOrder.ascending(1, [2, 3]),
  properties: { "write.parquet.compression-codec": "zstd" }
}

/** Rows with offsets `[start, start + count)` of one day, 2026-11-24. */
export const rowsSql = (start: number, count: number): string => `
  SELECT 'telemetry_raw' AS topic, 0::INTEGER AS partition, ${start} + range AS "offset",
    TIMESTAMPTZ '2026-11-24 14:54:46.490898+00' + to_microseconds(range) AS timestamp,
    'k0'::BLOB AS value, [{'key': 'a', 'value': 'k'::BLOB}] AS headers, MAP {'x': range::DOUBLE} AS signals,
    333.0::DOUBLE AS speed, (range + 0.5)::DECIMAL(38, 6) AS total
  FROM range(${count}) ORDER BY partition, "offset"`

export const day = Transform.dayOfMicros(1_795_532_086_000_000n)

/** A data file that exists in name only: commits never look into data files. */
export const fakeFile = (name: string, recordCount = 1n): DataFile => ({
  content: "data",
  filePath: `memory://store/bronze/telemetry_raw/data/${name}.parquet`,
  fileFormat: "PARQUET",
  specId: 0,
  partition: [day],
  recordCount,
  fileSizeInBytes: 100n,
  columnSizes: new Map([[3, 40n]]),
  valueCounts: new Map([[3, recordCount]]),
  nullValueCounts: new Map([[3, 0n]]),
  nanValueCounts: new Map(),
  lowerBounds: new Map(),
  upperBounds: new Map(),
  keyMetadata: undefined,
  splitOffsets: undefined,
  equalityIds: undefined,
  sortOrderId: 1
})

/** A change that every table takes. */
export const adding = (
  table: TableIdentifier.TableIdentifier,
  files: ReadonlyArray<DataFile>,
  summary: Readonly<Record<string, string>> = {}
): TableChange<never> => ({ table, actions: [Action.append(files)], summary: () => Either.right(summary) })

export const createBoth = Effect.flatMap(Tables.Tables, (tables) =>
  Effect.all([tables.createIfAbsent(raw, definition), tables.createIfAbsent(clean, definition)]))
