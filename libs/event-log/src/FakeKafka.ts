/** A broker for tests of the producer, without a network: it numbers, and knows producers again, as Kafka does, and answers as a test says. */
import { Either } from "effect"
import type { Broker, Cluster } from "./KafkaInternals.ts"
import { decode } from "./KafkaRecordBatch.ts"

/**
 * What becomes of a batch: `ok` · `lostBefore`: the connection breaks, nothing is written · `lostAfter`: written, the connection breaks in place of the
 * answer · a number: that error, nothing is written · `{ written }`: that error, written all the same.
 */
export type Fate = "ok" | "lostBefore" | "lostAfter" | number | { readonly written: number }

export interface Attempt {
  readonly partition: number
  readonly producerId: bigint
  readonly sequence: number
  readonly values: ReadonlyArray<string>
}

interface Written {
  readonly sequence: number
  readonly count: number
  readonly base: number
}

const outOfOrder = 45
/** As many of a producer's batches a broker knows again. */
const knownMax = 5

const readBatch = async (partition: number, batch: Buffer): Promise<Attempt> => {
  const decoded = Either.getOrThrow(await decode(batch, 0n, [], 1e9))!
  return {
    partition,
    producerId: batch.readBigInt64BE(43),
    sequence: batch.readInt32BE(53),
    values: [...decoded.records].map(({ value }) => Buffer.from(value!).toString())
  }
}

/** The batches of a Produce request, and its topic. */
const readRequest = async (bytes: Buffer) => {
  let at = 2 + 2 + 4 + 4
  const nameLength = bytes.readInt16BE(at)
  const topic = bytes.toString("utf8", at + 2, at + 2 + nameLength)
  at += 2 + nameLength
  const attempts: Array<Attempt> = []
  const count = bytes.readInt32BE(at)
  at += 4
  for (let left = count; left > 0; left--) {
    const length = bytes.readInt32BE(at + 4)
    attempts.push(await readBatch(bytes.readInt32BE(at), bytes.subarray(at + 8, at + 8 + length)))
    at += 8 + length
  }
  return { topic, attempts }
}

const answerOf = (topic: string, answers: ReadonlyArray<{ readonly partition: number; readonly error: number; readonly base: number }>): Buffer => {
  const head = Buffer.alloc(4 + 2)
  head.writeInt32BE(1, 0)
  head.writeInt16BE(Buffer.byteLength(topic), 4)
  const rest = Buffer.alloc(4 + answers.length * 30 + 4)
  rest.writeInt32BE(answers.length, 0)
  answers.forEach(({ base, error, partition }, which) => {
    const at = 4 + which * 30
    rest.writeInt32BE(partition, at)
    rest.writeInt16BE(error, at + 4)
    rest.writeBigInt64BE(BigInt(base), at + 6)
  })
  return Buffer.concat([head, Buffer.from(topic), rest])
}

export class FakeKafka {
  readonly logs: ReadonlyArray<Array<string>>
  /** Of every attempt that came. */
  readonly attempts: Array<Attempt> = []
  refreshes = 0
  requestsAtOnce = 0
  private underWay = 0
  private readonly producers = new Map<string, Array<Written>>()
  private ids = 0n

  constructor(partitions: number, private readonly fateOf: (attempt: Attempt) => Fate) {
    this.logs = Array.from({ length: partitions }, () => [])
  }

  get cluster(): Cluster {
    const broker: Broker = {
      connectionPool: {
        send: async ({ request, response }) => {
          const { buffer } = await request.encode()
          const payload = request.apiName === "Produce" ? await this.produce(buffer) : this.identify()
          return await response.parse(await response.decode(payload))
        }
      }
    }
    const done = () => Promise.resolve()
    return {
      connect: done,
      disconnect: done,
      addTargetTopic: done,
      refreshMetadataIfNecessary: done,
      refreshMetadata: () => Promise.resolve(void this.refreshes++),
      findTopicPartitionMetadata: () => this.logs.map((_, partitionId) => ({ partitionId, leader: 1 })),
      findBroker: () => Promise.resolve(broker)
    }
  }

  private identify(): Buffer {
    const payload = Buffer.alloc(4 + 2 + 8 + 2)
    payload.writeBigInt64BE(this.ids++, 6)
    return payload
  }

  private async produce(bytes: Buffer): Promise<Buffer> {
    this.underWay += 1
    this.requestsAtOnce = Math.max(this.requestsAtOnce, this.underWay)
    const { attempts, topic } = await readRequest(bytes)
    this.attempts.push(...attempts)
    const fates = attempts.map(this.fateOf)
    // A connection breaks for all that it carries.
    const isBroken = fates.some((fate) => fate === "lostBefore" || fate === "lostAfter")
    const answers = attempts.map((attempt, which) => {
      const fate = fates[which]!
      if (fate === "lostBefore" || typeof fate === "number") return { partition: attempt.partition, error: typeof fate === "number" ? fate : 0, base: -1 }
      const written = this.write(attempt)
      return typeof fate === "object" ? { ...written, error: fate.written, base: -1 } : written
    })
    await new Promise(setImmediate)
    this.underWay -= 1
    if (isBroken) throw new Error("Closed connection")
    return answerOf(topic, answers)
  }

  private write({ partition, producerId, sequence, values }: Attempt) {
    const key = `${producerId}/${partition}`
    const known = this.producers.get(key) ?? []
    const again = known.find((one) => one.sequence === sequence && one.count === values.length)
    if (again !== undefined) return { partition, error: 0, base: again.base }
    const last = known.at(-1)
    if (sequence !== (last === undefined ? 0 : last.sequence + last.count)) return { partition, error: outOfOrder, base: -1 }
    const log = this.logs[partition]!
    const base = log.length
    log.push(...values)
    this.producers.set(key, [...known, { sequence, count: values.length, base }].slice(-knownMax))
    return { partition, error: 0, base }
  }
}
