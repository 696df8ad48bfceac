/** Whether a log is still the one that bronze has read: the same cluster, not shorter, with the same record where bronze stopped. */
import { Effect } from "effect"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import type * as Progress from "@voltlake/domain/Progress"
import { EventLog, EventLogError, type LogReader, type PartitionBounds } from "@voltlake/event-log/EventLog"

/**
 * Kafka's consumer group: it shares the partitions out among the members, and says nothing of where reading goes on. One for each purpose and lake,
 * told by its bronze table: those of another lake on the same cluster would be given some of our partitions, also where they read another topic.
 */
export const readerGroup = (purpose: "bronze" | "adopt", tableUuid: string): string => `voltlake-${purpose}-${tableUuid}`

/** What is known of a partition's log from bronze's table. `name` is the topic as rows have it. */
export interface Known {
  readonly name: string
  readonly progress: Progress.Progress
  readonly lineage: LogLineage.LogLineage
}

/** One record, whatever its size. */
const one = { recordsMax: 1, bytesMax: 1 }

/**
 * How the partition differs from what bronze has read, in words; undefined where nothing speaks against it. What cannot be seen: another log of the
 * same cluster that has grown past the position and holds no record at the anchor's offset, or whose first offset lies behind it.
 */
export const differenceOf = Effect.fn("LogCheck.differenceOf")(function*(reader: LogReader, bounds: PartitionBounds, known: Known) {
  const key = Position.key({ topic: known.name, partition: bounds.partition })
  const position = known.progress.get(key)?.position
  if (position === undefined) return undefined
  if (position > bounds.end) return `it ends at offset ${bounds.end}, but bronze has read up to ${position}`
  const anchor = known.lineage.anchors[key]
  if (anchor === undefined) return undefined
  const identity = yield* (yield* EventLog).identity
  if (identity !== anchor.log) return `it is of log ${identity}, but bronze has read log ${anchor.log}`
  if (anchor.offset < bounds.first || anchor.offset >= bounds.end) return undefined
  const batch = yield* reader.read(bounds, anchor.offset, one)
  if (batch.end <= anchor.offset) {
    // Not seen is not the same: what was not compared must not count as compared.
    return yield* new EventLogError({
      operation: "read",
      topic: bounds.topic,
      outcome: "NotApplied",
      retryable: true,
      reason: `the log has not given the record at offset ${anchor.offset} of partition ${bounds.partition}, by which bronze knows it`
    })
  }
  const record = batch.records.at(0)
  // Compaction removes records: then there is nothing to compare.
  if (record === undefined || record.offset !== anchor.offset) return undefined
  const found = LogLineage.anchorOf(identity, record)
  const isSame = found.crc32 === anchor.crc32 && found.timestampMs === anchor.timestampMs
  return isSame ? undefined : `its record at offset ${anchor.offset} is another than the one bronze has read`
})

/** For the log and the health of a stage: what was found, and what to do. */
export const replacedMessage = (partition: string, difference: string): string =>
  `LogReplaced: ${partition} is not read any further, ${difference}: the topic was recreated, truncated or is another cluster's. ` +
  "Point KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC at the log that filled this table, or go on with this one by `voltlake log adopt`."
