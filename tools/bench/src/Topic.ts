/** Fills a Kafka topic with benchmark events, by the product's own producer. */
import { NodeContext } from "@effect/platform-node"
import { ConfigProvider, Effect, Layer, Option, Schedule } from "effect"
import { EventLog } from "@voltlake/event-log/EventLog"
import * as KafkaEventLog from "@voltlake/event-log/KafkaEventLog"
import * as KafkaSettings from "@voltlake/event-log/KafkaSettings"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Events from "./Events.ts"
import type { Servers } from "./Servers.ts"

const partitions = 4
/** Messages of one send. */
const batch = 5_000
/** Sends under way at once. */
const concurrency = 4

export interface Filled {
  readonly events: number
  readonly bytes: number
  /** Of sending alone: the events were made before. */
  readonly seconds: number
}

const settingsOf = (env: Servers["env"]) =>
  KafkaSettings.settingsConfig.pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))),
    Effect.map(Option.getOrThrow)
  )

const layer = ({ env, topic }: Servers) =>
  Ingest.layer({ topic, partitions }).pipe(
    Layer.provide(Layer.unwrapEffect(Effect.map(settingsOf(env), KafkaEventLog.layer))),
    Layer.provide(NodeContext.layer)
  )

/** A new cluster makes its topic of group offsets when the first group asks, which takes seconds that are none of the pipeline's. */
const wakeCoordinator = ({ env, topic }: Servers) =>
  settingsOf(env).pipe(
    Effect.map(KafkaEventLog.layer),
    Layer.unwrapEffect,
    Layer.provide(NodeContext.layer),
    (log) =>
      Effect.gen(function*() {
        const reader = yield* (yield* EventLog).open(topic, "bench-warm-up")
        yield* Effect.repeat(Effect.orElseSucceed(reader.assigned, () => []), { until: (assigned) => assigned.length === partitions, schedule: Schedule.spaced("100 millis") })
      }).pipe(Effect.scoped, Effect.provide(log))
  )

/** Sends `events` events, made in slices so that memory stays bounded; only the sending is timed. */
export const fill = (servers: Servers, events: number, repeats: number): Promise<Filled> =>
  Effect.gen(function*() {
    const ingest = yield* Ingest.Ingest
    const line = Events.makeLines(repeats)
    let bytes = 0
    let millis = 0
    for (let made = 0; made < events;) {
      const slice: Array<Array<Ingest.Message>> = []
      const end = Math.min(made + batch * concurrency * 10, events)
      while (made < end) {
        const messages: Array<Ingest.Message> = []
        for (const until = Math.min(made + batch, end); made < until; made++) {
          const { text, vehicle } = line(made)
          messages.push({ key: Buffer.from(vehicle), value: Buffer.from(text) })
          bytes += text.length
        }
        slice.push(messages)
      }
      const startedMs = performance.now()
      yield* Effect.forEach(slice, (messages) => ingest.send(messages, []), { concurrency, discard: true })
      millis += performance.now() - startedMs
    }
    yield* wakeCoordinator(servers)
    return { events, bytes, seconds: millis / 1000 }
  }).pipe(Effect.provide(layer(servers)), Effect.runPromise)
