/** What a failed call to the outside may have done. An `Unknown` one is never simply retried: its effect is looked up first. */
import { Schema } from "effect"

export const Outcome = Schema.Literal("NotApplied", "Unknown")
export type Outcome = typeof Outcome.Type

/** Stops the fiber with a defect: what was believed impossible has happened, and going on could damage data. */
export const invariant: (condition: boolean, message: string) => asserts condition = (condition, message) => {
  if (!condition) throw new Error(`invariant broken: ${message}`)
}
