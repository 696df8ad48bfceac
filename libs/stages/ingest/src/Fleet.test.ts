import { Utils } from "effect"
import { Schema } from "effect"
import { describe, expect, it } from "vitest"
import { fromJson, type TelemetryEvent } from "@voltlake/domain/TelemetryEvent"
import * as Fleet from "./Fleet.ts"
import { generator } from "./Simulator.ts"

const settings = {
  vehicles: 10,
  eventsPerSecond: 100,
  seed: 7,
  faults: { duplicate: 0, late: 0, malformed: 0, outOfRange: 0 }
}
const startMs = Date.parse("2026-01-01T00:00:00Z")
const texts = (change: Partial<typeof settings>, seconds: number) =>
  generator({ ...settings, ...change }, startMs)(startMs + seconds * 1000).map((message) => Buffer.from(message.value!).toString())

describe("Fleet", () => {
  it("agrees with itself over a day: odometers rise by what was driven, batteries stay within bounds, all modes occur", () => {
    const random = new Utils.PCGRandom(3)
    let vehicles = Fleet.make(20, random)
    const modes = new Set<string>()
    for (let minute = 0; minute < 24 * 60; minute++) {
      const next = vehicles.map((vehicle) => Fleet.step(vehicle, 60, random))
      next.forEach((vehicle, index) => {
        const before = vehicles[index]!
        modes.add(vehicle.mode)
        const miles = vehicle.odometerMiles - before.odometerMiles
        expect(miles).toBeGreaterThanOrEqual(0)
        expect(miles).toBeLessThanOrEqual((95 * 60) / 3600 + 1e-9)
        expect(vehicle.batteryPercent).toBeGreaterThanOrEqual(0)
        expect(vehicle.batteryPercent).toBeLessThanOrEqual(100)
        if (miles > 0) expect(vehicle.batteryPercent).toBeLessThan(before.batteryPercent)
        if (vehicle.mode !== "driving") expect(vehicle.speedMph).toBe(0)
        if (vehicle.batteryPercent > before.batteryPercent) expect(before.mode).toBe("charging")
      })
      vehicles = next
    }
    expect([...modes].sort()).toEqual(["charging", "driving", "parked"])
  })
})

describe("Simulator", () => {
  it("repeats itself for the same seed and start, and differs for another", () => {
    expect(texts({}, 3)).toEqual(texts({}, 3))
    expect(texts({}, 3)).not.toEqual(texts({ seed: 8 }, 3))
  })

  it("sends at the given rate, from every vehicle, with ids of its own", () => {
    const events = texts({}, 5).map((text): TelemetryEvent => Schema.decodeSync(fromJson)(text))
    expect(events).toHaveLength(500)
    expect(new Set(events.map((event) => event.vehicle_id)).size).toBe(10)
    expect(new Set(events.map((event) => event.event_id)).size).toBe(500)
    for (const event of events) expect(event.event_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it("leaves out what a long pause would have made", () => {
    const next = generator(settings, startMs)
    expect(next(startMs + 3_600_000)).toHaveLength(1000)
  })

  it("has its share of each fault", () => {
    const all = { duplicate: 0.1, late: 0.1, malformed: 0.1, outOfRange: 0.1 }
    const sent = [1, 2, 3, 4, 5, 6, 7, 8].reduce<ReadonlyArray<string>>((list, seed) => [...list, ...texts({ seed, faults: all }, 5)], [])
    const whole = sent.filter((text) => text.endsWith("}}"))
    expect(sent.length - whole.length).toBeGreaterThan(200)
    expect(whole.length - new Set(whole).size).toBeGreaterThan(200)
    expect(whole.filter((text) => /"battery_percent":(140|-3)|"speed_mph":-12.5/.test(text)).length).toBeGreaterThan(200)
    expect(whole.filter((text) => JSON.parse(text).event_time < JSON.parse(text).ingest_time).length).toBeGreaterThan(200)
  })
})
