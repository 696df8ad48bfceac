/**
 * The simulator as a source: steps a `Fleet` in real time and sends what its vehicles would report, with its share of faults.
 * The default source of `voltlake start`.
 */
import { Clock, Config, DateTime, Duration, Effect, Schedule, Utils } from "effect"
import type { TelemetryEvent } from "@voltlake/domain/TelemetryEvent"
import { type FaultShares, send } from "./Faults.ts"
import * as Fleet from "./Fleet.ts"
import { Ingest, type Message } from "./Ingest.ts"

export interface SimulatorSettings {
  readonly vehicles: number
  readonly eventsPerSecond: number
  readonly seed: number
  readonly faults: FaultShares
}

const share = (name: string, byDefault: number, what: string) =>
  Config.number(name).pipe(
    Config.validate({ message: "must be a share from 0 to 1", validation: (n: number) => n >= 0 && n <= 1 }),
    Config.withDefault(byDefault),
    Config.withDescription(`Share of simulated events that ${what}`)
  )

const positive = (name: string, byDefault: number, max: number, description: string) =>
  Config.integer(name).pipe(
    Config.validate({ message: `must be from 1 to ${max}`, validation: (n: number) => n >= 1 && n <= max }),
    Config.withDefault(byDefault),
    Config.withDescription(description)
  )

export const settingsConfig: Config.Config<SimulatorSettings> = Config.all({
  vehicles: positive("SIMULATOR_VEHICLES", 25, 100_000, "Vehicles that the simulator drives"),
  eventsPerSecond: positive("SIMULATOR_EVENTS_PER_SECOND", 25, 100_000, "Events that the simulator sends, over all vehicles"),
  seed: Config.integer("SIMULATOR_SEED").pipe(
    Config.withDefault(1),
    Config.withDescription("Same seed, same fleet, same course of events")
  ),
  faults: Config.all({
    duplicate: share("SIMULATOR_DUPLICATE_SHARE", 0.01, "are sent twice"),
    late: share("SIMULATOR_LATE_SHARE", 0.01, "bear a time up to ten minutes ago"),
    malformed: share("SIMULATOR_MALFORMED_SHARE", 0.002, "are cut off in the middle"),
    outOfRange: share("SIMULATOR_OUT_OF_RANGE_SHARE", 0.002, "have a value that no vehicle can have")
  })
})

const tick = Duration.millis(100)

/** What the fleet would have reported during a longer outage of the log is left out, not made up in one burst. */
const backlogSecondsMax = 10

const encoder = new TextEncoder()

/** A version 4 UUID from the seeded generator, so that a run can be repeated. */
const uuid = (random: Utils.PCGRandom): string => {
  const hex = Array.from({ length: 4 }, () => random.integer(2 ** 32).toString(16).padStart(8, "0")).join("")
  const variant = "89ab"[random.integer(4)]
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`
}

const round = (value: number, digits: number) => Number(value.toFixed(digits))

const report = (vehicle: Fleet.Vehicle, timeMs: number, random: Utils.PCGRandom): TelemetryEvent => {
  const time = DateTime.formatIso(DateTime.unsafeMake(timeMs))
  return {
    event_id: uuid(random),
    vehicle_id: vehicle.id,
    event_time: time,
    ingest_time: time,
    source: "simulator",
    payload: {
      battery_percent: round(vehicle.batteryPercent, 2),
      speed_mph: round(vehicle.speedMph, 2),
      odometer_miles: round(vehicle.odometerMiles, 3)
    }
  }
}

/**
 * A generator of messages: each call moves time on to `nowMs` and answers what the fleet reports until then. Vehicles report in turn.
 * Pure but for the state it closes over; what it answers depends on the settings and on the times it is given alone.
 */
export const generator = (settings: SimulatorSettings, startMs: number): (nowMs: number) => ReadonlyArray<Message> => {
  const random = new Utils.PCGRandom(settings.seed)
  const vehicles = Array.from(Fleet.make(settings.vehicles, random))
  // The same course must not give the same event ids in a second run on the same data: they would all be duplicates.
  const ids = new Utils.PCGRandom(settings.seed, Math.floor(startMs / 1000), startMs % 1000)
  const reportedAt = vehicles.map(() => startMs)
  let sent = 0
  return (nowMs) => {
    const due = Math.floor(((nowMs - startMs) / 1000) * settings.eventsPerSecond)
    const messages: Array<Message> = []
    sent = Math.max(sent, due - settings.eventsPerSecond * backlogSecondsMax)
    for (; sent < due; sent++) {
      const index = sent % vehicles.length
      const timeMs = Math.floor(startMs + ((sent + 1) / settings.eventsPerSecond) * 1000)
      const vehicle = Fleet.step(vehicles[index]!, (timeMs - reportedAt[index]!) / 1000, random)
      vehicles[index] = vehicle
      reportedAt[index] = timeMs
      const key = encoder.encode(vehicle.id)
      for (const text of send(report(vehicle, timeMs, ids), settings.faults, random)) {
        messages.push({ key, value: encoder.encode(text) })
      }
    }
    return messages
  }
}

/** Sends until interrupted. While the log is away it waits and tries again. */
export const run = Effect.fn("Simulator.run")(function*(settings: SimulatorSettings) {
  const ingest = yield* Ingest
  const next = generator(settings, yield* Clock.currentTimeMillis)
  const sendDue = Effect.gen(function*() {
    const messages = next(yield* Clock.currentTimeMillis)
    if (messages.length === 0) return
    yield* ingest.send(messages, []).pipe(
      Effect.tapError((error) => Effect.logWarning("log refused events, trying again").pipe(Effect.annotateLogs({ reason: error.message }))),
      Effect.retry(Schedule.union(Schedule.exponential(Duration.millis(100)), Schedule.spaced(Duration.seconds(5))))
    )
  })
  yield* Effect.repeat(sendDue, Schedule.fixed(tick))
})
