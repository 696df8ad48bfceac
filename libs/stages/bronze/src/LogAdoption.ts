/**
 * An operator's decision to go on with another log under a topic's name: one that was made anew, cut off, or is another cluster's. From then on its
 * records are those of a new incarnation, `telemetry_raw~2` in rows and positions, and begin at the log's first offset. What bronze has stays.
 */
import { Duration, Effect, Either, Schedule, Schema } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as Position from "@voltlake/domain/Position"
import { telemetryRaw } from "@voltlake/domain/Tables"
import { EventLog, type LogReader } from "@voltlake/event-log/EventLog"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as LogCheck from "./LogCheck.ts"

export class NothingToAdopt extends Schema.TaggedError<NothingToAdopt>()("NothingToAdopt", { topic: Schema.String, reason: Schema.String }) {
  override get message() {
    return `topic ${this.topic}: ${this.reason}. Nothing was changed.`
  }
}

/** Somebody else adopted a log of the topic at the same time. */
export class AdoptedMeanwhile extends Schema.TaggedError<AdoptedMeanwhile>()("AdoptedMeanwhile", { topic: Schema.String, name: Schema.String }) {
  override get message() {
    return `another process has just adopted the log of topic ${this.topic}: bronze reads it as ${this.name}. Nothing was changed.`
  }
}

export interface Adopted {
  /** The topic in rows and positions from now on. */
  readonly name: string
  readonly before: string
  /** How the log differs from the one that was read before, by partition; none where it was adopted though nothing speaks against it. */
  readonly differences: ReadonlyArray<string>
}

const joinEvery = Duration.millis(100)
const joinLimit = Duration.seconds(30)

/** All partitions, once the group has given them to us. */
const assigned = (reader: LogReader, topic: string, partitions: number) =>
  reader.assigned.pipe(
    Effect.filterOrFail(
      (bounds) => bounds.length >= partitions,
      () => new NothingToAdopt({ topic, reason: `its partitions could not be had within ${Duration.format(joinLimit)}` })
    ),
    Effect.retry({ while: (error) => error._tag === "NothingToAdopt", schedule: Schedule.intersect(Schedule.spaced(joinEvery), Schedule.recurUpTo(joinLimit)) })
  )

/** How the log differs from what bronze has read, in words, by partition. */
const differences = Effect.fnUntraced(function*(topic: string, known: LogCheck.Known, tableUuid: string) {
  const log = yield* EventLog
  const bounds = yield* log.partitions(topic)
  if (bounds.length === 0) return yield* new NothingToAdopt({ topic, reason: "the log has no such topic; check KAFKA_BOOTSTRAP_SERVERS and KAFKA_TOPIC" })
  const missing = Array.from(known.progress.keys(), Position.parseKey)
    .filter((read) => read.topic === known.name && !bounds.some(({ partition }) => partition === read.partition))
    .map(({ partition }) => `partition ${partition}: the log has it no longer`)
  // Reading needs a membership; in a group of its own, so that bronze keeps its partitions.
  const reader = yield* log.open(topic, LogCheck.readerGroup("adopt", tableUuid))
  const ours = yield* assigned(reader, topic, bounds.length)
  const found = yield* Effect.forEach(ours, (one) =>
    Effect.map(LogCheck.differenceOf(reader, one, known), (difference) =>
      difference === undefined ? [] : [`partition ${one.partition}: ${difference}`]))
  return [...missing, ...found.flat()]
}, Effect.scoped)

/**
 * Begins the topic's next incarnation. A bronze that runs picks it up with its next step. Fails with `NothingToAdopt` where the log is the one that
 * bronze has read, as far as can be seen, unless `force`.
 */
export const adopt = Effect.fn("LogAdoption.adopt")(function*(topic: string, { force }: { readonly force: boolean }) {
  yield* LakeTables.ensure(telemetryRaw)
  const table = yield* LakeTables.load(telemetryRaw)
  const lineage = yield* LogLineage.of(table.metadata)
  const before = LogLineage.nameOf(lineage, topic)
  const hasRead = Array.from(table.progress.keys(), Position.parseKey).some((read) => read.topic === before)
  if (!hasRead) return yield* new NothingToAdopt({ topic, reason: "bronze has read nothing of it yet, and takes whatever log it finds" })
  const found = yield* differences(topic, { name: before, progress: table.progress, lineage }, table.metadata.tableUuid)
  if (found.length === 0 && !force) {
    return yield* new NothingToAdopt({ topic, reason: "this is the log that bronze has read: nothing to adopt (--force does it all the same)" })
  }
  yield* Transaction.commit({
    commitId: yield* Transaction.newCommitId,
    changes: [{
      table: table.identifier,
      actions: [Action.append([])],
      summary: (metadata) =>
        Either.gen(function*() {
          const now = yield* LogLineage.of(metadata)
          const name = LogLineage.nameOf(now, topic)
          if (name !== before) return yield* Either.left(new AdoptedMeanwhile({ topic, name }))
          const progress = yield* LakeTables.progressOf(telemetryRaw, metadata)
          return { ...LakeTables.progressSummary(progress), ...LogLineage.summary(LogLineage.adopted(now, topic)) }
        })
    }]
  })
  const adopted: Adopted = { name: LogLineage.nameOf(LogLineage.adopted(lineage, topic), topic), before, differences: found }
  return adopted
})
