/** Made-up events as lines of NDJSON, with copies and damaged ones, and what a lake must make of them. */
import type { SeededRandom } from "./SeededRandom.ts"

export interface MadeLines {
  readonly lines: ReadonlyArray<string>
  /** Different (vehicle_id, event_id) among the lines that are events. */
  readonly keys: number
  /** Copies of a key, whatever event_time they bear. */
  readonly copies: number
  /** Lines that are no JSON. */
  readonly malformed: number
}

export interface Shares {
  readonly copies: number
  readonly malformed: number
}

const startMs = Date.parse("2025-03-01T08:00:00Z")
const vehicles = 40

const hex = (random: SeededRandom, digits: number) =>
  Array.from({ length: digits }, () => random.below(16).toString(16)).join("")

interface Made {
  readonly event_id: string
  readonly vehicle_id: string
  readonly event_time: string
  readonly source: string
  readonly payload: { readonly battery_percent: number | null; readonly speed_mph: number | null; readonly odometer_miles: number }
}

const event = (random: SeededRandom, index: number): Made => ({
  event_id: `${hex(random, 8)}-${hex(random, 12)}`,
  vehicle_id: `vehicle-${random.below(vehicles)}`,
  event_time: new Date(startMs + index * 40).toISOString(),
  source: "made",
  payload: {
    battery_percent: random.next() < 0.1 ? null : Math.round(random.next() * 1000) / 10,
    speed_mph: random.next() < 0.1 ? null : Math.round(random.next() * 9000) / 100,
    odometer_miles: 1000 + index / 100
  }
})

/** Of the copies one half bears another event_time, by up to some days. */
const copyOf = (random: SeededRandom, of: Made): Made =>
  random.next() < 0.5 ? of : { ...of, event_time: new Date(Date.parse(of.event_time) - random.below(3 * 86_400_000)).toISOString() }

export const make = (random: SeededRandom, count: number, shares: Shares): MadeLines => {
  const events: Array<Made> = []
  const lines: Array<string> = []
  let copies = 0
  let malformed = 0
  for (let index = 0; index < count; index++) {
    const chance = random.next()
    if (chance < shares.malformed) {
      malformed++
      lines.push(JSON.stringify(event(random, index)).slice(0, 5 + random.below(60)))
    } else if (chance < shares.malformed + shares.copies && events.length > 0) {
      copies++
      lines.push(JSON.stringify(copyOf(random, events[random.below(events.length)]!)))
    } else {
      const made = event(random, index)
      events.push(made)
      lines.push(JSON.stringify(made))
    }
  }
  return { lines, keys: events.length, copies, malformed }
}
