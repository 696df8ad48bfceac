/** Makes the topic and the tables where they are not there yet, so that a new lake answers every command with zeros, not with errors. */
import { Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { lakeTables } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import type * as Ingest from "@voltlake/ingest/Ingest"

export const ensure = Effect.fn("LakeSetup.ensure")(function*({ partitions, topic }: Ingest.IngestSettings) {
  yield* (yield* EventLog).ensureTopic(topic, partitions)
  yield* Effect.forEach(lakeTables, LakeTables.ensure, { discard: true })
})
