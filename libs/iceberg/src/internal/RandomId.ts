/**
 * Random ids. From the system's generator and not Effect's Random, whose seed has 32 bits: two processes that drew the same seed would give two
 * commits one id, and the second would be taken for committed already.
 */
import { Effect } from "effect"
import { randomBytes } from "node:crypto"

export const bytes16: Effect.Effect<Uint8Array> = Effect.sync(() => new Uint8Array(randomBytes(16)))

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
