/**
 * Which log bronze's rows came from, kept in the summary of its snapshots beside the position.
 *
 * An offset means something only within one log. Where a topic is deleted and made again, or another cluster stands at the address, the same offsets
 * name other records. So each commit keeps an anchor per partition: the last record it committed, by which the log is known again. An operator who
 * goes on with another log under the topic's name begins a new incarnation of it: rows and position then say `telemetry_raw~2`.
 */
import { Either, Schema } from "effect"
import { crc32 } from "node:zlib"
import { qualifiedName, telemetryRaw } from "@voltlake/domain/Tables"
import type { LogRecord } from "@voltlake/event-log/EventLog"
import { positionLineage, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { ProgressDamaged } from "./LakeTables.ts"

/** Summary key of the lineage, as JSON. */
export const lineageKey = "voltlake.log"

/** The last record that was committed of a partition. */
export class Anchor extends Schema.Class<Anchor>("Anchor")({
  /** The log's own identity: `EventLog.identity`. */
  log: Schema.String,
  offset: Schema.BigInt,
  timestampMs: Schema.Number,
  /** CRC-32 of the key's bytes, followed by the value's. */
  crc32: Schema.Number
}) {}

export class LogLineage extends Schema.Class<LogLineage>("LogLineage")({
  /** By topic: how many logs have been read under its name. A topic without an entry is in its first incarnation. */
  incarnations: Schema.Record({ key: Schema.String, value: Schema.Int }),
  /** By `Position.key`, with the topic as rows have it. */
  anchors: Schema.Record({ key: Schema.String, value: Anchor })
}) {}

const Json = Schema.parseJson(LogLineage)

export const empty = new LogLineage({ incarnations: {}, anchors: {} })

/** The lineage of the nearest snapshot, from the current one back, which has it. */
export const of = (metadata: TableMetadata): Either.Either<LogLineage, ProgressDamaged> => {
  for (const snapshot of positionLineage(metadata)) {
    const text = snapshot.summary[lineageKey]
    if (text === undefined) continue
    return Either.mapLeft(
      Schema.decodeEither(Json)(text),
      (error) =>
        new ProgressDamaged({ table: qualifiedName(telemetryRaw), snapshotId: snapshot.snapshotId, reason: error.message })
    )
  }
  return Either.right(empty)
}

export const summary = (lineage: LogLineage): Record<string, string> => ({ [lineageKey]: Schema.encodeSync(Json)(lineage) })

/** The topic's name in rows and positions: `telemetry_raw`, `telemetry_raw~2`. */
export const nameOf = (lineage: LogLineage, topic: string): string => {
  const incarnation = lineage.incarnations[topic] ?? 1
  return incarnation === 1 ? topic : `${topic}~${incarnation}`
}

/** What belongs to the topic's log as it is now, named as rows name it. */
export const named = <A extends { readonly topic: string }>(lineage: LogLineage, all: ReadonlyArray<A>): ReadonlyArray<A> =>
  all.map((one) => ({ ...one, topic: nameOf(lineage, one.topic) }))

/** Whether the name is one that the topic had in an earlier incarnation: nothing more comes under it. */
export const isPast = (lineage: LogLineage, topic: string, name: string): boolean =>
  name !== nameOf(lineage, topic) && (name === topic || (name.startsWith(`${topic}~`) && /^\d+$/.test(name.slice(topic.length + 1))))

export const anchorOf = (log: string, record: LogRecord): Anchor =>
  new Anchor({
    log,
    offset: record.offset,
    timestampMs: record.timestampMs,
    crc32: crc32(record.value ?? "", crc32(record.key ?? ""))
  })

export const withAnchors = (lineage: LogLineage, anchors: Record<string, Anchor>): LogLineage =>
  new LogLineage({ incarnations: lineage.incarnations, anchors: { ...lineage.anchors, ...anchors } })

/** The topic's next incarnation. */
export const adopted = (lineage: LogLineage, topic: string): LogLineage =>
  new LogLineage({
    incarnations: { ...lineage.incarnations, [topic]: (lineage.incarnations[topic] ?? 1) + 1 },
    anchors: lineage.anchors
  })
