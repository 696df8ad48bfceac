/**
 * The data-quality rules of silver, in the order in which they are checked: the first one broken makes the reject.
 * The SQL that checks them is in `DecodeSql.ts`.
 */
import { Schema } from "effect"

export const Rule = Schema.Literal(
  "malformed_json",
  "not_an_event",
  "missing_event_id",
  "missing_vehicle_id",
  "invalid_event_time",
  "future_event_time",
  "invalid_battery_percent",
  "battery_out_of_range",
  "invalid_speed_mph",
  "negative_speed",
  "invalid_odometer_miles"
)
export type Rule = typeof Rule.Type

export const rules: ReadonlyArray<Rule> = Rule.literals
