/** The Fetch request, version 11 (https://kafka.apache.org/protocol#The_Messages_Fetch): which brokers from 2.3 on speak. Reads committed records. */
import type { AbortedTransaction } from "./KafkaRecordBatch.ts"
import type { Request, Response } from "./KafkaInternals.ts"

const apiKey = 1
const apiVersion = 11
const readCommitted = 1
const noEpoch = -1
const clientReplica = -1

export interface Wanted {
  readonly partition: number
  readonly offset: bigint
  readonly bytesMax: number
}

export interface FetchOptions {
  readonly topic: string
  readonly wanted: ReadonlyArray<Wanted>
  readonly waitMs: number
  readonly bytesMax: number
}

export interface FetchedPartition {
  readonly partition: number
  readonly errorCode: number
  /** Where the log ends. */
  readonly highWatermark: bigint
  /** Where the first open transaction begins, or the log ends. */
  readonly lastStable: bigint
  readonly aborted: ReadonlyArray<AbortedTransaction>
  /** Record batches. */
  readonly bytes: Buffer
}

export interface Fetched {
  readonly errorCode: number
  readonly partitions: ReadonlyArray<FetchedPartition>
}

export const request = ({ bytesMax, topic, waitMs, wanted }: FetchOptions): Request => ({
  apiKey,
  apiVersion,
  apiName: "Fetch",
  encode: () => {
    const name = Buffer.from(topic)
    const bytes = Buffer.alloc(4 + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 2 + name.length + 4 + wanted.length * 28 + 4 + 2)
    let at = 0
    const int32 = (value: number) => (at = bytes.writeInt32BE(value, at))
    int32(clientReplica)
    int32(waitMs)
    // Least bytes.
    int32(1)
    int32(bytesMax)
    at = bytes.writeInt8(readCommitted, at)
    // No session: every request names what it wants.
    int32(0)
    int32(noEpoch)
    int32(1)
    at = bytes.writeInt16BE(name.length, at)
    at += name.copy(bytes, at)
    int32(wanted.length)
    for (const { bytesMax: partitionBytesMax, offset, partition } of wanted) {
      int32(partition)
      int32(noEpoch)
      at = bytes.writeBigInt64BE(offset, at)
      at = bytes.writeBigInt64BE(-1n, at)
      int32(partitionBytesMax)
    }
    // Topics to forget, and the rack.
    int32(0)
    bytes.writeInt16BE(0, at)
    return Promise.resolve({ buf: bytes, buffer: bytes })
  }
})

const decode = (payload: Buffer): Fetched & { readonly clientSideThrottleTime: number } => {
  let at = 0
  const int16 = () => payload.readInt16BE((at += 2) - 2)
  const int32 = () => payload.readInt32BE((at += 4) - 4)
  const int64 = () => payload.readBigInt64BE((at += 8) - 8)
  const clientSideThrottleTime = int32()
  const errorCode = int16()
  // Session.
  int32()
  const partitions: Array<FetchedPartition> = []
  for (let topics = int32(); topics > 0; topics--) {
    const nameLength = int16()
    at += nameLength
    for (let count = int32(); count > 0; count--) {
      const partition = int32()
      const partitionError = int16()
      const highWatermark = int64()
      const lastStable = int64()
      // First offset of the log.
      int64()
      const aborted: Array<AbortedTransaction> = []
      for (let left = int32(); left > 0; left--) aborted.push({ producerId: int64(), firstOffset: int64() })
      // Preferred replica: we name no rack, so there is none.
      int32()
      const length = Math.max(int32(), 0)
      partitions.push({ partition, errorCode: partitionError, highWatermark, lastStable, aborted, bytes: payload.subarray(at, at + length) })
      at += length
    }
  }
  return { clientSideThrottleTime, errorCode, partitions }
}

export const response: Response<Fetched> = {
  decode: (payload) => Promise.resolve(decode(payload)),
  parse: (fetched) => Promise.resolve(fetched)
}
