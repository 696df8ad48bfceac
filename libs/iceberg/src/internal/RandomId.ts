/** Random ids from Effect's Random, so that tests can fix them. */
import { Effect, Random } from "effect"

const word = Random.nextIntBetween(0, 2 ** 32)

export const bytes16: Effect.Effect<Uint8Array> = Effect.map(Effect.replicateEffect(word, 4), (words) => {
  const out = new Uint8Array(16)
  const view = new DataView(out.buffer)
  words.forEach((value, index) => view.setUint32(index * 4, value))
  return out
})

/** A UUID of version 4. */
export const uuid: Effect.Effect<string> = Effect.map(bytes16, (bytes) => {
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-")
})

/** A positive 63-bit integer, as snapshots are named. */
export const snapshotId: Effect.Effect<bigint> = Effect.map(bytes16, (bytes) => {
  const view = new DataView(bytes.buffer)
  const id = view.getBigUint64(0) & 0x7fff_ffff_ffff_ffffn
  return id === 0n ? 1n : id
})
