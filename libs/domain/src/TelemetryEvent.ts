/**
 * The telemetry event: the one place that says what an event is. From this file come the Schema at the edges, the columns of
 * silver (`Tables.ts`), the SQL that decodes (`DecodeSql.ts`), and what `vehicle_latest` keeps.
 *
 * The JSON form is that of the topic `telemetry_raw`:
 * `{event_id, vehicle_id, event_time, ingest_time, source, payload: {battery_percent, speed_mph, odometer_miles}}`.
 */
import { Schema } from "effect"
import type { Rule } from "./Rules.ts"

/** A measured quantity of the payload: a double, absent where the vehicle did not send it. */
export interface Signal {
  readonly name: string
  /** Iceberg field id of its column in `silver.telemetry_clean`; never reused. */
  readonly fieldId: number
  readonly doc: string
  /** The rule that a value breaks which is not a finite number. */
  readonly notANumber: Rule
  /** Inclusive bounds and the rule that a number outside breaks. */
  readonly range?: { readonly rule: Rule; readonly min: number; readonly max?: number }
}

/** In the order in which their rules are checked. */
export const signals: ReadonlyArray<Signal> = [
  {
    name: "battery_percent",
    fieldId: 6,
    doc: "State of charge in percent, 0 to 100; fractions are kept",
    notANumber: "invalid_battery_percent",
    range: { rule: "battery_out_of_range", min: 0, max: 100 }
  },
  {
    name: "speed_mph",
    fieldId: 7,
    doc: "Speed in miles per hour",
    notANumber: "invalid_speed_mph",
    range: { rule: "negative_speed", min: 0 }
  },
  {
    name: "odometer_miles",
    fieldId: 8,
    doc: "Odometer reading in miles",
    notANumber: "invalid_odometer_miles"
  }
]

/** Most bytes of UTF-8 that `event_id` and `vehicle_id` may have. */
export const idBytesMax = 256

/** How far ahead of its arrival an event may lie. */
export const futureHoursMax = 24

const Reading = Schema.optional(Schema.NullOr(Schema.Number))

/** An event as our own sources write it. Others may write anything: what breaks a rule ends in `silver.telemetry_rejected`. */
export const TelemetryEvent = Schema.Struct({
  event_id: Schema.NonEmptyString,
  vehicle_id: Schema.NonEmptyString,
  /** Extended ISO-8601 with date and time; without a zone it is UTC. */
  event_time: Schema.String,
  ingest_time: Schema.optional(Schema.NullOr(Schema.String)),
  source: Schema.optional(Schema.NullOr(Schema.String)),
  payload: Schema.Struct({ battery_percent: Reading, speed_mph: Reading, odometer_miles: Reading })
})
export type TelemetryEvent = typeof TelemetryEvent.Type

export const fromJson = Schema.parseJson(TelemetryEvent)
export const encode: (event: TelemetryEvent) => string = Schema.encodeSync(fromJson)
