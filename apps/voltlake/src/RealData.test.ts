// The whole way on recorded vehicle data, compared with a recomputation that shares no code with the product.
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as RealData from "@voltlake/testing/RealData"
import { TestLake } from "@voltlake/testing/TestLake"

interface Recorded {
  readonly event_id: string
  readonly vehicle_id: string
  readonly event_time: string
  readonly payload: Readonly<Record<string, number | null | undefined>>
}

const isoTime = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,3})?Z$/

/** Milliseconds since 1970, or undefined for a date that is none, such as one of month 90. */
const realTimeMs = (text: string): number | undefined => {
  const parts = isoTime.exec(text)
  if (parts === null) throw new Error(`a time in a form that this test does not know: ${text}`)
  const ms = Date.parse(text)
  return !Number.isNaN(ms) && new Date(ms).toISOString().slice(0, 19) === text.slice(0, 19) ? ms : undefined
}

const minuteOf = (ms: number) => new Date(ms - (ms % 60_000)).toISOString().slice(0, 19).replace("T", " ")

interface Minute {
  events: number
  battery: number | null
  speedMax: number | null
  speedMicros: bigint
  speeds: number
}

const add = (minutes: Map<string, Minute>, key: string, { payload }: Recorded) => {
  const minute = minutes.get(key) ?? { events: 0, battery: null, speedMax: null, speedMicros: 0n, speeds: 0 }
  const { battery_percent: battery, speed_mph: speed } = payload
  minute.events++
  if (typeof battery === "number") minute.battery = Math.min(minute.battery ?? battery, battery)
  if (typeof speed === "number") {
    minute.speedMax = Math.max(minute.speedMax ?? speed, speed)
    minute.speedMicros += BigInt(Math.round(speed * 1e6))
    minute.speeds++
  }
  minutes.set(key, minute)
}

const average = ({ speedMicros, speeds }: Minute) => (speeds === 0 ? null : Number(speedMicros) / 1e6 / speeds)

/** One text per signal: files are sent one after the other, so of equal times the later line has the greater offset. */
const recompute = (lines: ReadonlyArray<string>) => {
  const vehicleMinutes = new Map<string, Minute>()
  const fleetMinutes = new Map<string, Minute>()
  const latest = new Map<string, { readonly ms: number; readonly value: number }>()
  for (const line of lines) {
    const event = JSON.parse(line) as Recorded
    const ms = realTimeMs(event.event_time)
    if (ms === undefined) continue
    add(vehicleMinutes, `${event.vehicle_id} ${minuteOf(ms)}`, event)
    add(fleetMinutes, minuteOf(ms), event)
    for (const [signal, value] of Object.entries(event.payload)) {
      const key = `${event.vehicle_id} ${signal}`
      if (typeof value === "number" && ms >= (latest.get(key)?.ms ?? -Infinity)) latest.set(key, { ms, value })
    }
  }
  return { vehicleMinutes, fleetMinutes, latest }
}

const sorted = (texts: Iterable<string>) => [...texts].sort()

const shown = (minutes: Map<string, Minute>, more: (minute: Minute) => ReadonlyArray<unknown>) =>
  sorted(Array.from(minutes, ([key, minute]) => JSON.stringify([key, minute.events, minute.battery, average(minute), minute.speeds, ...more(minute)])))

// The data lies outside of the repository; in CI its absence is a failure, not a reason to say nothing.
const isWanted = RealData.isThere || process.env["CI"] !== undefined

describe.skipIf(!isWanted)(`recorded vehicle data (of ${RealData.folder}, skipped where that is absent)`, () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
  })
  afterAll(() => lake.close())

  it("gets to gold whole, impossible dates rejected, and every counter agrees with the rows", async () => {
    expect(await lake.replay(RealData.files())).toMatchObject({
      events: 56_142,
      bronze: 56_142,
      silver: 55_972,
      rejected: 170,
      rules: { invalid_event_time: 170 },
      duplicates: 0
    })
    expect(await lake.breaches()).toEqual([])
  })

  it("sent a second time adds nothing but bronze rows and the same rejects", async () => {
    expect(await lake.replay(RealData.files())).toMatchObject({
      events: 56_142,
      bronze: 56_142,
      silver: 0,
      rejected: 170,
      rules: { invalid_event_time: 170 },
      duplicates: 55_972
    })
    expect(await lake.breaches()).toEqual([])
  })

  it("makes the minute metrics that a plain recomputation of the files makes, to the last digit", async () => {
    const { fleetMinutes, vehicleMinutes } = recompute(RealData.lines())
    const vehicles = await lake.sql("FROM gold.vehicle_minute_metrics")
    expect(sorted(vehicles.map((row) =>
      JSON.stringify([
        `${row["vehicle_id"]} ${row["minute_ts"]}`,
        row["event_count"],
        row["min_battery_percent"],
        row["avg_speed_mph"],
        row["speed_count"],
        row["max_speed_mph"]
      ])
    ))).toEqual(shown(vehicleMinutes, (minute) => [minute.speedMax]))
    const fleet = await lake.sql("FROM gold.fleet_minute_metrics")
    expect(sorted(fleet.map((row) =>
      JSON.stringify([
        row["minute_ts"],
        row["total_events"],
        row["min_battery_percent_fleet"],
        row["avg_speed_mph_fleet"],
        row["speed_count"]
      ])
    ))).toEqual(shown(fleetMinutes, () => []))
  })

  it("keeps of each vehicle's signals the value of the greatest time, and at one time of the greatest offset", async () => {
    const { latest } = recompute(RealData.lines())
    const rows = await lake.sql("SELECT vehicle_id, signal, value, epoch_ms(event_ts) AS ms FROM gold.vehicle_latest")
    expect(sorted(rows.map((row) => JSON.stringify([`${row["vehicle_id"]} ${row["signal"]}`, row["ms"], row["value"]]))))
      .toEqual(sorted(Array.from(latest, ([key, { ms, value }]) => JSON.stringify([key, ms, value]))))
  })
})
