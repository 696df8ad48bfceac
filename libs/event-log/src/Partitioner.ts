/**
 * Which partition a key belongs to: Kafka's default partitioner for records with a key, so that our log and a Kafka
 * topic filled by any of Kafka's own clients agree (org.apache.kafka.common.utils.Utils.murmur2 and
 * BuiltInPartitioner.partitionForKey).
 */

const seed = 0x9747b28c
const m = 0x5bd1e995
const r = 24

/** MurmurHash2, 32 bits, as Kafka's Java client computes it. Signed. */
export const murmur2 = (data: Uint8Array): number => {
  const length = data.length
  let h = seed ^ length
  const whole = length - (length % 4)
  for (let at = 0; at < whole; at += 4) {
    let k = data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> r
    k = Math.imul(k, m)
    h = Math.imul(h, m) ^ k
  }
  const rest = length - whole
  if (rest === 3) h ^= data[whole + 2]! << 16
  if (rest >= 2) h ^= data[whole + 1]! << 8
  if (rest >= 1) h = Math.imul(h ^ data[whole]!, m)
  h ^= h >>> 13
  h = Math.imul(h, m)
  return h ^ (h >>> 15)
}

/** The partition, from 0 to `partitions - 1`, of a record with this key. */
export const partitionOf = (key: Uint8Array, partitions: number): number => (murmur2(key) & 0x7fffffff) % partitions
