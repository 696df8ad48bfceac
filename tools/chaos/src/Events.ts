/**
 * Events by seed and number: the same seed gives the same events, so a producer that was killed goes on where its last acknowledged batch ended.
 * One in a hundred breaks a rule, each rule in turn; one in twenty is a copy of an earlier one, half of the copies in another partition than the first.
 */
import { createHash } from "node:crypto"
import * as SeededRandom from "@voltlake/testing/SeededRandom"

export interface Event {
  readonly partition: number
  readonly key: string
  readonly value: string
}

const vehicles = 500
const startMs = Date.UTC(2026, 0, 1)
const brokenEvery = 100
const copyShare = 0.05
/** How far back a copy's original lies at most. */
const copyReach = 20_000
/** Events come up to so much late. */
const lateMs = 90_000

type Fields = Record<string, unknown> & { readonly payload: Record<string, unknown> }

const withPayload = (change: Record<string, unknown>) => (fields: Fields) => JSON.stringify({ ...fields, payload: { ...fields.payload, ...change } })
const withFields = (change: Record<string, unknown>) => (fields: Fields) => JSON.stringify({ ...fields, ...change })

/** One for each rule, in the order of the rules. */
const breaks: ReadonlyArray<(fields: Fields) => string> = [
  (fields) => JSON.stringify(fields).slice(0, -20),
  (fields) => JSON.stringify([fields]),
  withFields({ event_id: null }),
  withFields({ vehicle_id: 17 }),
  withFields({ event_time: "2026-02-30T00:00:00Z" }),
  withFields({ event_time: "2999-01-01T00:00:00Z" }),
  withPayload({ battery_percent: "full" }),
  withPayload({ battery_percent: 100.001 }),
  withPayload({ speed_mph: "1_0" }),
  withPayload({ speed_mph: -0.001 }),
  withPayload({ odometer_miles: true })
]

/** Far apart for neighbouring numbers, so that each event's randomness is its own. */
const randomOf = (seed: number, at: number) => SeededRandom.make(Math.imul(seed, 0x9e3779b1) ^ Math.imul(at + 1, 0x85ebca6b))

const hash = (text: string) => createHash("sha1").update(text).digest("hex")

const original = (seed: number, at: number, partitions: number): Event => {
  const random = randomOf(seed, at)
  const vehicle = random.below(vehicles)
  const key = `vehicle-${String(vehicle).padStart(4, "0")}`
  const timeMs = startMs + at * 10 - (random.next() < 0.1 ? random.below(lateMs) : 0)
  const fields: Fields = {
    event_id: hash(`${seed}-${at}`).slice(0, 32),
    vehicle_id: key,
    event_time: new Date(timeMs).toISOString(),
    ingest_time: new Date(timeMs + 250).toISOString(),
    source: "chaos",
    payload: {
      battery_percent: Math.round(random.next() * 1e5) / 1e3,
      speed_mph: random.next() < 0.1 ? null : Math.round(random.next() * 9e7) / 1e6,
      odometer_miles: Math.round(random.next() * 9e8) / 1e4
    }
  }
  const isBroken = at % brokenEvery === brokenEvery - 1
  const value = isBroken ? breaks[Math.floor(at / brokenEvery) % breaks.length]!(fields) : JSON.stringify(fields)
  return { partition: vehicle % partitions, key, value }
}

/** The event of that number, of a stream over so many partitions. */
export const event = (seed: number, at: number, partitions: number): Event => {
  const random = randomOf(seed ^ 0x5bd1e995, at)
  if (at === 0 || random.next() >= copyShare) return original(seed, at, partitions)
  const copied = original(seed, at - 1 - random.below(Math.min(at, copyReach)), partitions)
  return random.next() < 0.5 ? copied : { ...copied, partition: random.below(partitions) }
}
