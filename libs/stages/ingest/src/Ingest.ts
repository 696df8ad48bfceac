/**
 * The ingest stage: hands records to the log, keyed by vehicle, so that one vehicle's events stay in one partition and in order.
 *
 * At least once: a send whose outcome is unknown may be repeated by the source, and silver drops the copy. From the log on, exactly once.
 */
import { Clock, Config, Context, Effect, Layer } from "effect"
import type { OffsetRange } from "@voltlake/domain/Position"
import { EventLog, type EventLogError, type Header, type NewRecord, type UnknownTopicPartition } from "@voltlake/event-log/EventLog"
import * as Partitioner from "@voltlake/event-log/Partitioner"

export interface IngestSettings {
  readonly topic: string
  readonly partitions: number
}

export const settingsConfig: Config.Config<IngestSettings> = Config.all({
  topic: Config.nonEmptyString("KAFKA_TOPIC").pipe(
    Config.withDefault("telemetry_raw"),
    Config.withDescription("Topic that events go to")
  ),
  partitions: Config.integer("TOPIC_PARTITIONS").pipe(
    Config.validate({ message: "must be from 1 to 256", validation: (n: number) => n >= 1 && n <= 256 }),
    Config.withDefault(4),
    Config.withDescription("Partitions that the topic is made with; more may be added later, never fewer")
  )
})

/** An event's bytes as a source has them. */
export interface Message {
  /** The vehicle's id as bytes, or null where the source cannot tell; then any partition will do. */
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
}

/** Guarantees: when `send` returns, the records are durable in the log. Not guaranteed: that a failed `send` left none. */
export class Ingest extends Context.Tag("@voltlake/ingest/Ingest")<Ingest, {
  readonly topic: string
  /** Sends messages in order; answers the ranges of offsets that they got. */
  readonly send: (
    messages: ReadonlyArray<Message>,
    headers: ReadonlyArray<Header>
  ) => Effect.Effect<ReadonlyArray<OffsetRange>, EventLogError | UnknownTopicPartition>
}>() {}

export const make = Effect.fn("Ingest.make")(function*(settings: IngestSettings) {
  const log = yield* EventLog
  yield* log.ensureTopic(settings.topic, settings.partitions)
  const partitions = (yield* log.partitions(settings.topic)).length
  let keyless = 0
  const send = Effect.fnUntraced(function*(messages: ReadonlyArray<Message>, headers: ReadonlyArray<Header>) {
    const timestampMs = yield* Clock.currentTimeMillis
    const byPartition = new Map<number, Array<NewRecord>>()
    for (const { key, value } of messages) {
      const partition = key === null ? keyless++ % partitions : Partitioner.partitionOf(key, partitions)
      const records = byPartition.get(partition)
      const record = { timestampMs, key, value, headers }
      if (records === undefined) byPartition.set(partition, [record])
      else records.push(record)
    }
    return yield* log.append(settings.topic, byPartition)
  })
  return Ingest.of({ topic: settings.topic, send })
})

export const layer = (settings: IngestSettings) => Layer.effect(Ingest, make(settings))
