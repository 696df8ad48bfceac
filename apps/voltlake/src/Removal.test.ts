// What an operator does who must forget a vehicle, or keeps days only for a time: the commands as they are typed, on a lake of its own.
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { TestLake } from "@voltlake/testing/TestLake"

const line = (id: string, vehicle: string, time: string) =>
  JSON.stringify({ event_id: id, vehicle_id: vehicle, event_time: time, payload: { speed_mph: 20 } })

interface Forgotten {
  readonly tables: ReadonlyArray<{ readonly table: string; readonly rows: number }>
  readonly snapshotsDropped: number
}

interface Maintained {
  readonly done: ReadonlyArray<{ readonly table: string; readonly before: number }>
}

describe("removing rows by the command line", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
    const today = new Date().toISOString()
    const lines = [
      line("a", "v1", "2025-06-01T10:00:00Z"), line("b", "v2", "2025-06-01T10:00:10Z"), line("c", "v1", today), line("d", "v3", today)
    ]
    await lake.replay([await lake.file("events.ndjson", lines.join("\n"))])
  })
  afterAll(() => lake.close())

  /** What runs the stages, which gold needs to follow. */
  const goOn = async (id: string) => lake.replay([await lake.file(`${id}.ndjson`, line(id, "v9", new Date().toISOString()))])

  it("forgets a vehicle in every table and in gold, and verify holds", async () => {
    const planned = await lake.json<Forgotten>(["forget", "--dry-run", "v1"])
    expect(planned.tables.map(({ rows, table }) => [table, rows])).toEqual([
      ["bronze.telemetry_raw", 2], ["silver.telemetry_clean", 2], ["silver.telemetry_rejected", 0]
    ])
    const done = await lake.json<Forgotten>(["forget", "v1"])
    expect(done.tables).toEqual(planned.tables)
    expect(done.snapshotsDropped).toBeGreaterThan(0)
    await goOn("e")
    expect(await lake.breaches()).toEqual([])
    expect(await lake.sql("SELECT DISTINCT vehicle_id FROM gold.vehicle_minute_metrics ORDER BY 1")).toEqual([
      { vehicle_id: "v2" }, { vehicle_id: "v3" }, { vehicle_id: "v9" }
    ])
    expect((await lake.status()).stages.map(({ rows }) => rows)).toEqual([5, 3, 3, 3])
  })

  it("keeps days for as long as it is told to", async () => {
    const env = { SILVER_RETENTION_DAYS: "2", BRONZE_RETENTION_DAYS: "1" }
    const { done } = await lake.json<Maintained>(["maintain", "retention"], { env })
    // Bronze goes by the time of sending, which is today's.
    expect(done.map(({ before, table }) => [table, before])).toEqual([
      ["silver.telemetry_clean", 1], ["silver.telemetry_rejected", 0], ["bronze.telemetry_raw", 0]
    ])
    await goOn("f")
    expect(await lake.breaches()).toEqual([])
    expect(await lake.sql("SELECT count(*) AS n FROM gold.vehicle_minute_metrics WHERE vehicle_id = 'v2'")).toEqual([{ n: 0 }])
  })

  it("says what is missing where nothing is", async () => {
    const { code, stderr } = await lake.run(["tables", "acknowledge", "--rows", "3", "bronze.telemetry_raw"])
    expect([code, stderr]).toEqual([1, expect.stringContaining("0 rows are missing, not 3")])
  })
})
