/**
 * Sends events `[from, to)` of a seed, at a rate, and says on standard output what the log acknowledged: a line of JSON for each batch of a partition.
 * Runs in a process of its own, so that it can be killed. At least once: a batch under way when it is killed may be in the log, and is sent again.
 */
import { Kafka, logLevel, Partitioners } from "kafkajs"
import { setTimeout as sleep } from "node:timers/promises"
import { crc32 } from "node:zlib"
import * as Events from "./Events.ts"

export interface Work {
  readonly brokers: string
  readonly topic: string
  readonly partitions: number
  readonly seed: number
  readonly from: number
  readonly to: number
  readonly perSecond: number
}

/** What the log acknowledged: `count` records from `base` on, whose keys and values have that CRC-32, one after the other. */
interface Acknowledged {
  readonly partition: number
  readonly base: number
  readonly count: number
  readonly crc32: number
}

/** A line of the producer's standard output: all events before `next` are acknowledged. */
export interface Told {
  readonly next: number
  readonly acknowledged: ReadonlyArray<Acknowledged>
}

const batchMax = 1_000
const batchesPerSecond = 10

const sendBatch = async (producer: ReturnType<Kafka["producer"]>, work: Work, from: number, to: number): Promise<Told> => {
  const events = Array.from({ length: to - from }, (_, at) => Events.event(work.seed, from + at, work.partitions))
  const answers = await producer.send({ topic: work.topic, acks: -1, messages: events.map(({ key, partition, value }) => ({ key, partition, value })) })
  const acknowledged = answers.map(({ baseOffset, partition }) => {
    const own = events.filter((one) => one.partition === partition)
    return { partition, base: Number(baseOffset), count: own.length, crc32: own.reduce((sum, { key, value }) => crc32(value, crc32(key, sum)), 0) }
  })
  return { next: to, acknowledged }
}

/** Goes on until the last event is acknowledged, however long the broker is away. */
export const run = async (work: Work): Promise<void> => {
  const kafka = new Kafka({ brokers: work.brokers.split(","), logLevel: logLevel.NOTHING, retry: { retries: 1000, maxRetryTime: 1000 } })
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, maxInFlightRequests: 1 })
  await producer.connect()
  const size = Math.min(batchMax, Math.max(1, Math.ceil(work.perSecond / batchesPerSecond)))
  const startedMs = performance.now()
  for (let at = work.from; at < work.to;) {
    const aheadMs = ((at - work.from) / work.perSecond) * 1000 - (performance.now() - startedMs)
    if (aheadMs > 0) await sleep(aheadMs)
    const to = Math.min(at + size, work.to)
    const told = await sendBatch(producer, work, at, to)
    process.stdout.write(`${JSON.stringify(told)}\n`)
    at = to
  }
  await producer.disconnect()
}
