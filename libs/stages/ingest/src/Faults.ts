/** The share of events that a real fleet gets wrong: copies, late ones, damaged ones, impossible values. Pure. */
import type { Utils } from "effect"
import { encode, type TelemetryEvent } from "@voltlake/domain/TelemetryEvent"

/** Shares of all events, each from 0 to 1. */
export interface FaultShares {
  readonly duplicate: number
  readonly late: number
  readonly malformed: number
  readonly outOfRange: number
}

const lateMinutesMax = 10

const outOfRange: ReadonlyArray<Partial<TelemetryEvent["payload"]>> = [
  { battery_percent: 140 },
  { battery_percent: -3 },
  { speed_mph: -12.5 }
]

const late = (event: TelemetryEvent, random: Utils.PCGRandom): TelemetryEvent => ({
  ...event,
  event_time: new Date(Date.parse(event.event_time) - random.number() * lateMinutesMax * 60_000).toISOString()
})

/** The texts that a source sends for `event`: usually one, two where a copy is sent. */
export const send = (event: TelemetryEvent, shares: FaultShares, random: Utils.PCGRandom): ReadonlyArray<string> => {
  const hits = (share: number) => random.number() < share
  if (hits(shares.malformed)) {
    const text = encode(event)
    return [text.slice(0, Math.floor(text.length * random.number()))]
  }
  if (hits(shares.outOfRange)) {
    const wrong = outOfRange[random.integer(outOfRange.length)]
    return [encode({ ...event, payload: { ...event.payload, ...wrong } })]
  }
  const text = encode(hits(shares.late) ? late(event, random) : event)
  return hits(shares.duplicate) ? [text, text] : [text]
}
