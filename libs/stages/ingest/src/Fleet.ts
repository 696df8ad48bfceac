/**
 * A believable fleet as pure data: vehicles that drive, park and charge, whose odometer, speed and battery agree with each other.
 * Seeded: the same settings give the same vehicles doing the same things.
 */
import { type Utils } from "effect"

type Random = Utils.PCGRandom

export interface Vehicle {
  readonly id: string
  readonly capacityKwh: number
  readonly milesPerKwh: number
  readonly mode: "driving" | "parked" | "charging"
  /** Seconds left in the mode. */
  readonly modeSeconds: number
  readonly speedMph: number
  /** The speed that the driver aims at. */
  readonly cruiseMph: number
  readonly batteryPercent: number
  readonly odometerMiles: number
}

const between = (random: Random, min: number, max: number) => min + random.number() * (max - min)

const lowBatteryPercent = 15
const chargedPercent = 85
const chargerKw = 50

const drive = (vehicle: Vehicle, random: Random): Vehicle => ({
  ...vehicle,
  mode: "driving",
  modeSeconds: between(random, 300, 3600),
  cruiseMph: between(random, 18, 72)
})

const park = (vehicle: Vehicle, random: Random): Vehicle => ({
  ...vehicle,
  mode: "parked",
  modeSeconds: between(random, 120, 2400),
  speedMph: 0
})

const charge = (vehicle: Vehicle): Vehicle => ({
  ...vehicle,
  mode: "charging",
  modeSeconds: ((chargedPercent - vehicle.batteryPercent) / 100) * (vehicle.capacityKwh / chargerKw) * 3600,
  speedMph: 0
})

export const make = (count: number, random: Random): ReadonlyArray<Vehicle> =>
  Array.from({ length: count }, (_, index) => {
    const vehicle: Vehicle = {
      id: `vehicle-${String(index + 1).padStart(4, "0")}`,
      capacityKwh: between(random, 50, 95),
      milesPerKwh: between(random, 2.8, 4.2),
      mode: "parked",
      modeSeconds: 0,
      speedMph: 0,
      cruiseMph: 0,
      batteryPercent: between(random, 30, 95),
      odometerMiles: between(random, 500, 60_000)
    }
    return random.number() < 0.7 ? { ...drive(vehicle, random), speedMph: between(random, 10, 40) } : park(vehicle, random)
  })

const moved = (vehicle: Vehicle, seconds: number, random: Random): Vehicle => {
  const towards = (vehicle.cruiseMph - vehicle.speedMph) * Math.min(1, seconds / 8)
  const speedMph = Math.max(0, Math.min(95, vehicle.speedMph + towards + between(random, -2.5, 2.5)))
  const miles = ((vehicle.speedMph + speedMph) / 2) * (seconds / 3600)
  const usedPercent = (miles / vehicle.milesPerKwh / vehicle.capacityKwh) * 100
  return {
    ...vehicle,
    speedMph,
    odometerMiles: vehicle.odometerMiles + miles,
    batteryPercent: Math.max(0, vehicle.batteryPercent - usedPercent)
  }
}

const charged = (vehicle: Vehicle, seconds: number): Vehicle => ({
  ...vehicle,
  batteryPercent: Math.min(100, vehicle.batteryPercent + ((chargerKw * seconds) / 3600 / vehicle.capacityKwh) * 100)
})

/** The vehicle `seconds` later. */
export const step = (vehicle: Vehicle, seconds: number, random: Random): Vehicle => {
  const left = vehicle.modeSeconds - seconds
  const after = vehicle.mode === "driving"
    ? moved(vehicle, seconds, random)
    : vehicle.mode === "charging"
    ? charged(vehicle, seconds)
    : vehicle
  if (after.mode === "driving" && after.batteryPercent < lowBatteryPercent) return charge(after)
  if (left > 0) return { ...after, modeSeconds: left }
  return after.mode === "driving" ? park(after, random) : drive(after, random)
}
