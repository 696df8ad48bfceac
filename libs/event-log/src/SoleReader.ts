/** The reader of a log that is not shared out: every partition is its own. */
import { Effect, type Stream } from "effect"
import type { EventLogError, LogReader, PartitionBounds } from "./EventLog.ts"

export const soleReader = (
  read: LogReader["read"],
  partitions: Effect.Effect<ReadonlyArray<PartitionBounds>, EventLogError>,
  arrivals: Stream.Stream<void, EventLogError>
): LogReader => ({
  read,
  arrivals,
  assigned: Effect.map(partitions, (all) => all.map((bounds) => ({ ...bounds, generation: 0 }))),
  announce: () => Effect.void
})
