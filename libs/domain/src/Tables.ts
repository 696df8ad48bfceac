/**
 * The lakehouse's Iceberg tables as contracts: columns with their field ids, partitioning and order. Field ids are for ever: never reused, never changed.
 * Types and transforms are written in the form of Iceberg's table specification (appendix C).
 */
import { signals } from "./TelemetryEvent.ts"

/** A primitive type by name, or a nested type in Iceberg's JSON form. */
export type ColumnType = string | { readonly type: string; readonly [property: string]: unknown }

export interface Column {
  readonly id: number
  readonly name: string
  readonly required: boolean
  readonly type: ColumnType
  readonly doc: string
}

export interface TableContract {
  readonly namespace: string
  readonly name: string
  readonly doc: string
  readonly columns: ReadonlyArray<Column>
  /** The timestamp column by whose UTC day files are partitioned. */
  readonly dayOf: string
  /** Columns by which rows are ordered within a file. */
  readonly orderBy: ReadonlyArray<string>
}

const required = (id: number, name: string, type: ColumnType, doc: string): Column => ({ id, name, type, doc, required: true })
const optional = (id: number, name: string, type: ColumnType, doc: string): Column => ({ id, name, type, doc, required: false })

export const telemetryRaw: TableContract = {
  namespace: "bronze",
  name: "telemetry_raw",
  doc: "Every record of the log, as received",
  columns: [
    required(1, "topic", "string", "Topic of the log"),
    required(2, "partition", "int", "Partition of the topic"),
    required(3, "offset", "long", "Offset in the partition"),
    required(4, "timestamp", "timestamptz", "Time of sending, as the log's record says"),
    optional(5, "key", "binary", "The record's key"),
    optional(6, "value", "binary", "The record's value, byte for byte"),
    optional(7, "headers", {
      type: "list",
      "element-id": 9,
      "element-required": false,
      element: {
        type: "struct",
        fields: [
          { id: 10, name: "key", required: false, type: "string" },
          { id: 11, name: "value", required: false, type: "binary" }
        ]
      }
    }, "The record's headers, in their order"),
    required(8, "ingested_at", "timestamptz", "When bronze read the record; event times are judged against it")
  ],
  dayOf: "timestamp",
  orderBy: ["topic", "partition", "offset"]
}

export const telemetryClean: TableContract = {
  namespace: "silver",
  name: "telemetry_clean",
  doc: "Checked events, each (vehicle_id, event_id) once",
  columns: [
    required(1, "event_id", "string", "Unique within its vehicle"),
    required(2, "vehicle_id", "string", "The vehicle"),
    required(3, "event_ts", "timestamptz", "The event's own time"),
    optional(4, "ingest_ts", "timestamptz", "The sender's ingest_time, where it is an instant"),
    optional(5, "source", "string", "Who sent the event, in its own words"),
    ...signals.map((signal) => optional(signal.fieldId, signal.name, "double", signal.doc)),
    required(101, "topic", "string", "Topic of the record that held the event"),
    required(102, "partition", "int", "Its partition"),
    required(103, "offset", "long", "Its offset")
  ],
  dayOf: "event_ts",
  orderBy: ["vehicle_id", "event_ts"]
}

export const telemetryRejected: TableContract = {
  namespace: "silver",
  name: "telemetry_rejected",
  doc: "Records that broke a rule, with the rule and its cause in words",
  columns: [
    required(1, "topic", "string", "Topic of the record"),
    required(2, "partition", "int", "Its partition"),
    required(3, "offset", "long", "Its offset"),
    required(4, "timestamp", "timestamptz", "Time of sending, as the log's record says"),
    optional(5, "key", "binary", "The record's key"),
    optional(6, "value", "binary", "The record's value, byte for byte"),
    required(7, "rule", "string", "The first rule that the record broke"),
    required(8, "cause", "string", "Why, in words"),
    required(9, "rejected_at", "timestamptz", "When silver read the record"),
    required(10, "attempt", "int", "1 for a record's first way through silver")
  ],
  dayOf: "rejected_at",
  orderBy: ["topic", "partition", "offset"]
}

export const lakeTables: ReadonlyArray<TableContract> = [telemetryRaw, telemetryClean, telemetryRejected]

export const qualifiedName = (table: Pick<TableContract, "namespace" | "name">): string => `${table.namespace}.${table.name}`
