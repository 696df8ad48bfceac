/**
 * Retention of the embedded log: records that bronze has are dropped some days after they were sent. A log on Kafka has its broker's own.
 *
 * What is dropped cannot be read again: rolling bronze back further is refused then, unless the loss is accepted.
 */
import { Clock, Effect } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog } from "@voltlake/event-log/EventLog"
import { days } from "@voltlake/stage-runner/DaysConfig"

export const settingsConfig = days("LOG_RETENTION_DAYS", "Days after which the embedded log drops records that bronze has; for ever where not set")

const dayMs = 86_400_000

/** So many offsets go in one transaction: deleting a year at once would stop those who append. */
const sliceMax = 100_000n

/** Answers how many offsets were dropped. */
export const run = Effect.fn("LogRetention.run")(function*(topic: string, kept: number) {
  const log = yield* EventLog
  const bronze = yield* LakeTables.load(telemetryRaw)
  const name = LogLineage.nameOf(yield* LogLineage.of(bronze.metadata), topic)
  const bounds = yield* log.partitions(topic)
  const older = yield* log.olderThan(topic, (yield* Clock.currentTimeMillis) - kept * dayMs)
  let dropped = 0n
  for (const { first, ...tp } of bounds) {
    const read = bronze.progress.get(Position.key({ topic: name, partition: tp.partition }))?.position ?? first
    const old = older.find(({ partition }) => partition === tp.partition)?.offset ?? first
    const end = read < old ? read : old
    for (let at = first; at < end; at += sliceMax) yield* log.trim(tp, at + sliceMax < end ? at + sliceMax : end)
    if (end > first) dropped += end - first
  }
  return dropped
})
