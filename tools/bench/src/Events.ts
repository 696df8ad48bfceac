/** Events for benchmarks: random UUID ids, noisy values, about 250 bytes each, so that neither compression nor hashing has it easy. */
import { randomUUID } from "node:crypto"
import { createWriteStream } from "node:fs"
import { once } from "node:events"

const vehicles = 1000
const startMs = Date.UTC(2026, 0, 1)
const noise = (range: number, digits: number) => (Math.random() * range).toFixed(digits)

export interface Event {
  readonly vehicle: string
  readonly text: string
}

/** The n-th event: every vehicle reports once a second of event time. `repeats` of all events are copies of an earlier one. */
export const makeLines = (repeats: number): (n: number) => Event => {
  const earlier: Array<Event> = []
  return (n) => {
    if (earlier.length > 0 && Math.random() < repeats) return earlier[Math.floor(Math.random() * earlier.length)]!
    const time = new Date(startMs + Math.floor(n / vehicles) * 1000 + (n % 1000)).toISOString()
    const vehicle = `vehicle-${String(n % vehicles).padStart(6, "0")}`
    const text = `{"event_id":"${randomUUID()}","vehicle_id":"${vehicle}","event_time":"${time}",` +
      `"ingest_time":"${time}","source":"bench","payload":{"battery_percent":${noise(100, 3)},"speed_mph":${noise(90, 4)},` +
      `"odometer_miles":${noise(90_000, 4)}}}`
    const event = { vehicle, text }
    if (repeats > 0 && earlier.length < 100_000) earlier.push(event)
    return event
  }
}

export const writeFile = async (path: string, events: number, repeats: number): Promise<{ readonly bytes: number }> => {
  const file = createWriteStream(path)
  const line = makeLines(repeats)
  let bytes = 0
  for (let n = 0; n < events;) {
    const block: Array<string> = []
    for (const end = Math.min(n + 2000, events); n < end; n++) block.push(line(n).text)
    const text = `${block.join("\n")}\n`
    bytes += text.length
    if (!file.write(text)) await once(file, "drain")
  }
  file.end()
  await once(file, "close")
  return { bytes }
}
