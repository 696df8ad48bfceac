// What an operator sees of a data file: rows as they are and the footer's facts, of the newest file or of one that is named.
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { TestLake } from "@voltlake/testing/TestLake"

const line = (id: string, speed: number) =>
  JSON.stringify({ event_id: id, vehicle_id: "v1", event_time: "2025-06-01T10:00:00.123456Z", payload: { speed_mph: speed } })

interface Preview {
  readonly file: string
  readonly partition: string
  readonly deletes: number
  readonly rows: number
  readonly rowGroups: number
  readonly createdBy: string
  readonly columns: ReadonlyArray<{ readonly column: string; readonly codec: string; readonly bytes: number }>
  readonly preview: ReadonlyArray<Readonly<Record<string, unknown>>>
}

describe("voltlake tables preview", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
    await lake.replay([await lake.file("one.ndjson", [line("a", 1), line("b", 2), line("c", 3)].join("\n"))])
    await lake.replay([await lake.file("two.ndjson", line("d", 4))])
  })
  afterAll(() => lake.close())

  const preview = (...args: ReadonlyArray<string>) => lake.json<Preview>(["tables", "preview", ...args])

  it("shows the newest file where none is named, and any other by its name", async () => {
    const newest = await preview("silver.telemetry_clean")
    expect(newest).toMatchObject({ partition: "event_ts_day=2025-06-01", deletes: 0, rows: 1, rowGroups: 1, createdBy: expect.stringContaining("DuckDB") })
    expect(newest.preview).toMatchObject([{ event_id: "d", speed_mph: 4, event_ts: "2025-06-01T10:00:00.123456Z", offset: 3 }])
    const files = await lake.json<ReadonlyArray<{ readonly path: string; readonly rows: number }>>(["tables", "files", "silver.telemetry_clean"])
    const older = files.find(({ rows }) => rows === 3)!.path
    for (const file of [older, older.slice(older.lastIndexOf("/") + 1)]) {
      const found = await preview("--file", file, "--rows", "2", "silver.telemetry_clean")
      expect([found.file, found.rows, found.preview.map(({ event_id }) => event_id)]).toEqual([older, 3, ["a", "b"]])
      expect(found.columns.find(({ column }) => column === "event_id")).toMatchObject({ codec: "ZSTD", bytes: expect.any(Number) })
    }
  })

  it("shows the bytes of a record as the text that they are", async () => {
    const { preview: rows } = await preview("--rows", "1", "bronze.telemetry_raw")
    expect(rows).toMatchObject([{ topic: "telemetry_raw", key: "v1", value: line("d", 4) }])
  })

  it("prints for people too, and says what it does not show", async () => {
    const { code, stdout } = await lake.run(["tables", "preview", "--file", (await preview("--rows", "0", "bronze.telemetry_raw")).file, "bronze.telemetry_raw"])
    expect([code, stdout]).toEqual([0, expect.stringMatching(/createdBy.*DuckDB[\s\S]*headers\.list\.element\.key[\s\S]*telemetry_raw/)])
    const facts = await lake.run(["tables", "preview", "--rows", "0", "bronze.telemetry_raw"])
    expect(facts.stdout).toContain("0 of 1 rows")
  })

  it("says what is wrong where there is no such file, or none at all", async () => {
    for (const [args, reason] of [
      [["--file", "nothing.parquet", "bronze.telemetry_raw"], "nothing.parquet is no data file of bronze.telemetry_raw"],
      [["silver.telemetry_rejected"], "silver.telemetry_rejected has no data files"],
      [["--rows", "-1", "bronze.telemetry_raw"], "--rows must not be negative"]
    ] as const) {
      const { code, stderr, stdout } = await lake.run(["tables", "preview", ...args])
      expect([code, stdout + stderr]).toEqual([1, expect.stringContaining(reason)])
    }
  })
})
