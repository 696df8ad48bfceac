/**
 * The requests of an idempotent producer: Produce, version 7 (https://kafka.apache.org/protocol#The_Messages_Produce), and InitProducerId, version 1,
 * which brokers from 2.3 on speak; and what their errors mean.
 */
import type { Request, Response } from "./KafkaInternals.ts"
import { type Body, headBytes, type Stamp, writeBatch } from "./KafkaRecordBatchWriter.ts"

const produceKey = 0
const produceVersion = 7
const initProducerIdKey = 22
const initProducerIdVersion = 1
const allInSync = -1
const noTransactionalId = -1
/** Of no meaning without a transactional id. */
const transactionTimeoutMs = 60_000

export interface SentBatch {
  readonly topic: string
  readonly partition: number
  readonly body: Body
  readonly codec: number
  readonly stamp: Stamp
}

export interface Produced {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  /** Offset of the first record; -1 where there is none. */
  readonly baseOffset: bigint
}

/**
 * - `again`: nothing was written, another attempt may succeed
 * - `doubtful`: it was written, or may have been; another attempt finds out
 * - `identity`: nothing was written, since the broker does not know the producer, or not by these sequence numbers
 * - `duplicate`: it was written before, the broker no longer knows where
 * - `large`: nothing was written, the batch is too large
 */
export type Verdict = "again" | "doubtful" | "identity" | "duplicate" | "large"

/** By number (https://kafka.apache.org/protocol#protocol_error_codes). One without a verdict is final, and nothing was written. */
const errors: Readonly<Record<number, readonly [name: string, verdict?: Verdict]>> = {
  [-1]: ["UNKNOWN_SERVER_ERROR", "doubtful"],
  2: ["CORRUPT_MESSAGE", "again"],
  3: ["UNKNOWN_TOPIC_OR_PARTITION", "doubtful"],
  5: ["LEADER_NOT_AVAILABLE", "again"],
  // Both are answered too where the leader changed after it had appended, while it waited for the replicas.
  6: ["NOT_LEADER_OR_FOLLOWER", "doubtful"],
  7: ["REQUEST_TIMED_OUT", "doubtful"],
  9: ["REPLICA_NOT_AVAILABLE", "again"],
  10: ["MESSAGE_TOO_LARGE", "large"],
  13: ["NETWORK_EXCEPTION", "doubtful"],
  14: ["COORDINATOR_LOAD_IN_PROGRESS", "again"],
  15: ["COORDINATOR_NOT_AVAILABLE", "again"],
  16: ["NOT_COORDINATOR", "again"],
  17: ["INVALID_TOPIC_EXCEPTION"],
  18: ["RECORD_LIST_TOO_LARGE", "large"],
  19: ["NOT_ENOUGH_REPLICAS", "again"],
  20: ["NOT_ENOUGH_REPLICAS_AFTER_APPEND", "doubtful"],
  29: ["TOPIC_AUTHORIZATION_FAILED"],
  31: ["CLUSTER_AUTHORIZATION_FAILED"],
  32: ["INVALID_TIMESTAMP"],
  35: ["UNSUPPORTED_VERSION"],
  43: ["UNSUPPORTED_FOR_MESSAGE_FORMAT"],
  45: ["OUT_OF_ORDER_SEQUENCE_NUMBER", "identity"],
  46: ["DUPLICATE_SEQUENCE_NUMBER", "duplicate"],
  47: ["INVALID_PRODUCER_EPOCH", "identity"],
  49: ["INVALID_PRODUCER_ID_MAPPING", "identity"],
  56: ["KAFKA_STORAGE_ERROR", "doubtful"],
  59: ["UNKNOWN_PRODUCER_ID", "identity"],
  74: ["FENCED_LEADER_EPOCH", "again"],
  75: ["UNKNOWN_LEADER_EPOCH", "again"],
  76: ["UNSUPPORTED_COMPRESSION_TYPE"],
  87: ["INVALID_RECORD"]
}

/** The protocol's name of an error. */
export const nameOf = (errorCode: number): string => errors[errorCode]?.[0] ?? `error ${errorCode}`

/** What an error says of the batch; undefined where it is refused for good. Of an error that we do not know, nothing is certain. */
export const verdictOf = (errorCode: number): Verdict | undefined => (errors[errorCode] ?? [undefined, "doubtful" as const])[1]

/** Bytes that a batch takes in a request. */
export const batchBytes = (body: Body): number => 4 + 4 + headBytes + body.bytes.length

const byTopic = (batches: ReadonlyArray<SentBatch>) => {
  const topics = new Map<string, Array<SentBatch>>()
  for (const batch of batches) {
    const held = topics.get(batch.topic)
    if (held === undefined) topics.set(batch.topic, [batch])
    else held.push(batch)
  }
  return Array.from(topics, ([topic, own]) => ({ name: Buffer.from(topic), own }))
}

/** At most one batch for each partition. `written` is called when the request is about to go out, and may throw to hold it back. */
export const request = (batches: ReadonlyArray<SentBatch>, timeoutMs: number, written: () => void): Request => ({
  apiKey: produceKey,
  apiVersion: produceVersion,
  apiName: "Produce",
  encode: () => {
    const topics = byTopic(batches)
    const size = topics.reduce((sum, { name, own }) => own.reduce((bytes, { body }) => bytes + batchBytes(body), sum + 2 + name.length + 4), 2 + 2 + 4 + 4)
    const bytes = Buffer.allocUnsafeSlow(size)
    let at = bytes.writeInt16BE(noTransactionalId, 0)
    at = bytes.writeInt16BE(allInSync, at)
    at = bytes.writeInt32BE(timeoutMs, at)
    at = bytes.writeInt32BE(topics.length, at)
    for (const { name, own } of topics) {
      at = bytes.writeInt16BE(name.length, at)
      at += name.copy(bytes, at)
      at = bytes.writeInt32BE(own.length, at)
      for (const { body, codec, partition, stamp } of own) {
        at = bytes.writeInt32BE(partition, at)
        at = bytes.writeInt32BE(headBytes + body.bytes.length, at)
        at = writeBatch(bytes, at, body, codec, stamp)
      }
    }
    written()
    return Promise.resolve({ buf: bytes, buffer: bytes })
  }
})

interface Answer {
  readonly partitions: ReadonlyArray<Produced>
}

const decode = (payload: Buffer): Answer & { readonly clientSideThrottleTime: number } => {
  let at = 0
  const int16 = () => payload.readInt16BE((at += 2) - 2)
  const int32 = () => payload.readInt32BE((at += 4) - 4)
  const int64 = () => payload.readBigInt64BE((at += 8) - 8)
  const partitions: Array<Produced> = []
  for (let topics = int32(); topics > 0; topics--) {
    const nameLength = int16()
    const topic = payload.toString("utf8", at, at + nameLength)
    at += nameLength
    for (let count = int32(); count > 0; count--) {
      partitions.push({ topic, partition: int32(), errorCode: int16(), baseOffset: int64() })
      // Time of appending, and first offset of the log.
      at += 8 + 8
    }
  }
  return { clientSideThrottleTime: int32(), partitions }
}

export const response: Response<Answer> = {
  decode: (payload) => Promise.resolve(decode(payload)),
  parse: (answer) => Promise.resolve(answer)
}

export const initProducerId: Request = {
  apiKey: initProducerIdKey,
  apiVersion: initProducerIdVersion,
  apiName: "InitProducerId",
  encode: () => {
    const bytes = Buffer.alloc(2 + 4)
    bytes.writeInt16BE(noTransactionalId, 0)
    bytes.writeInt32BE(transactionTimeoutMs, 2)
    return Promise.resolve({ buf: bytes, buffer: bytes })
  }
}

interface Identity {
  readonly errorCode: number
  readonly producerId: bigint
  readonly producerEpoch: number
}

export const initProducerIdResponse: Response<Identity> = {
  decode: (payload) =>
    Promise.resolve({
      clientSideThrottleTime: payload.readInt32BE(0),
      errorCode: payload.readInt16BE(4),
      producerId: payload.readBigInt64BE(6),
      producerEpoch: payload.readInt16BE(14)
    }),
  parse: (identity) => Promise.resolve(identity)
}
