import * as fs from "node:fs/promises"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { parseOutput } from "@voltlake/testing/VoltlakeProcess"
import { type Summary, TestLake } from "@voltlake/testing/TestLake"

const days = 20_000
const filesMax = 64

const line = (day: number) =>
  JSON.stringify({
    event_id: `e${day}`,
    vehicle_id: `v${day % 7}`,
    event_time: new Date(day * 86_400_000).toISOString(),
    payload: { battery_percent: day % 101 }
  })

describe("events of very many days", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
  })
  afterAll(() => lake.close())

  it("become few files, with a warning, and every row is there", async () => {
    const file = await lake.file("days.ndjson", Array.from({ length: days }, (_, day) => line(day)).join("\n"))
    const finished = await lake.run(["replay", "--wait", "--json", file])
    expect(parseOutput<Summary>(finished)).toMatchObject({ events: days, silver: days, rejected: 0, duplicates: 0 })
    expect(finished.stderr).toMatch(/level=WARN.*many days.*silver\.telemetry_clean/)

    const folder = join(lake.dataDir, "warehouse", "silver", "telemetry_clean", "data")
    const files = (await fs.readdir(folder, { recursive: true })).filter((name) => name.endsWith(".parquet"))
    expect(files.length).toBeGreaterThan(0)
    expect(files.length).toBeLessThanOrEqual(filesMax)

    const [found] = await lake.sql("SELECT count(*) AS rows, count(DISTINCT event_ts::DATE) AS days FROM silver.telemetry_clean")
    expect(found).toEqual({ rows: days, days })
    // A day in the file that days share is found by its day as well.
    expect(await lake.sql("SELECT event_id FROM silver.telemetry_clean WHERE event_ts = TIMESTAMPTZ '2024-02-29 00:00:00+00'"))
      .toEqual([{ event_id: `e${Date.parse("2024-02-29") / 86_400_000}` }])
    expect(await lake.breaches()).toEqual([])
  })
})
