// What an operator gets wrong is said in one line that names the place, the value and a way out. Standard output stays empty, for who reads JSON.
import * as fs from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type ProcessOptions, launch } from "@voltlake/testing/VoltlakeProcess"
import { TestLake } from "@voltlake/testing/TestLake"

const listening = async () => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return { port, close: () => new Promise((resolve) => server.close(resolve)) }
}

describe("an operator's error", () => {
  let lake: TestLake
  let event: string
  beforeAll(async () => {
    lake = await TestLake.make()
    event = await lake.file("event.ndjson", JSON.stringify({ event_id: "e", vehicle_id: "v", event_time: "2025-06-01T10:00:00Z" }))
    await lake.replay([event])
  })
  afterAll(() => lake.close())

  /** Runs the command, which must fail, and answers the one line that it says. */
  const complaint = async (args: ReadonlyArray<string>, options: ProcessOptions = {}) => {
    const { code, stderr, stdout } = await lake.run(args, options)
    expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: "" })
    const said = stderr.split("\n").filter((text) => text.trim() !== "")
    expect(said, stderr).toHaveLength(1)
    return said[0] ?? ""
  }

  /** As {@link complaint}, of an SQL statement: DuckDB shows the place in it on further lines. */
  const sqlComplaint = async (statement: string) => {
    const { code, stderr, stdout } = await lake.run(["sql", "--json", statement])
    expect({ code, stdout }, `${statement}: ${stderr}`).toEqual({ code: 1, stdout: "" })
    expect(stderr, statement).toMatch(/^voltlake: \S/)
    return stderr
  }

  it("a second start on one data directory names the process that is there", async () => {
    const first = lake.start(["--source", "none"])
    await first.address()
    expect(await complaint(["start", "--port", "0"])).toMatch(new RegExp(String.raw`\b${first.pid}\b`))
    expect(first.hasEnded()).toBe(false)
    await first.kill("SIGINT")
  })

  it("a port in use is named, and the option that chooses another", async () => {
    const other = await listening()
    const said = await complaint(["start", "--source", "none", "--port", String(other.port)])
    expect(said).toMatch(new RegExp(String.raw`127\.0\.0\.1:${other.port}.*another process.*--port`))
    await other.close()
    expect(await lake.isServerLeft()).toBe(false)
  })

  it("a data directory of a newer format is left alone", async () => {
    const file = join(lake.dataDir, "voltlake.json")
    const text = await fs.readFile(file, "utf8")
    const newer = JSON.stringify({ ...JSON.parse(text), format: 99 })
    await fs.writeFile(file, newer)
    for (const args of [["start", "--port", "0"], ["replay", "--json", event], ["status", "--json"]]) {
      const said = await complaint(args)
      expect(said).toContain(lake.dataDir)
      expect(said).toMatch(/format 99.*newer version/)
    }
    expect(await fs.readFile(file, "utf8")).toBe(newer)
    await fs.writeFile(file, text)
  })

  it("a damaged voltlake.json is named", async () => {
    const file = join(lake.dataDir, "voltlake.json")
    const text = await fs.readFile(file, "utf8")
    await fs.writeFile(file, text.slice(0, 10))
    expect(await complaint(["status", "--json"])).toMatch(/voltlake\.json is damaged.*should read/)
    await fs.writeFile(file, text)
  })

  it("a data directory that was moved says where it was made", async () => {
    const moved = join(lake.folder, "moved")
    await fs.rename(lake.dataDir, moved)
    const finished = await launch(["status", "--json", "--data-dir", moved]).ended
    await fs.rename(moved, lake.dataDir)
    expect(finished).toMatchObject({ code: 1, stdout: "" })
    expect(finished.stderr).toMatch(new RegExp(`^voltlake: [^\n]*${moved}[^\n]*made at ${lake.dataDir}[^\n]*Move it back[^\n]*\n$`))
  })

  it("a data directory that cannot be made is named", async () => {
    const { code, stderr, stdout } = await launch(["status", "--json", "--data-dir", join(event, "lake")]).ended
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr).toMatch(/^voltlake: data directory [^\n]*event\.ndjson\/lake[^\n]*--data-dir[^\n]*\n$/)
  })

  it("a missing file to replay is named, before anything is sent", async () => {
    const before = await lake.status()
    const said = await complaint(["replay", "--wait", "--json", event, "/nowhere/events.ndjson"])
    expect(said).toContain("/nowhere/events.ndjson")
    expect(said).toMatch(/no such file/i)
    expect(await complaint(["replay", "--json", lake.folder])).toMatch(/is not a file/)
    expect(await lake.status()).toEqual(before)
  })

  it("a gzip file that is cut off is named", async () => {
    const whole = gzipSync("x\n".repeat(1000))
    const cut = await lake.file("cut.ndjson.gz", whole.subarray(0, whole.length - 9))
    expect(await complaint(["replay", "--wait", "--json", cut])).toContain(cut)
  })

  it("a line too long to be one event is named with its number", async () => {
    const file = await lake.file("long.ndjson", Buffer.concat([Buffer.from("{}\n"), Buffer.alloc(17 * 1024 * 1024, 0x20)]))
    const said = await complaint(["replay", "--wait", "--json", file])
    expect(said).toContain(`line 2 of ${file}`)
  })

  it.each(["0", "-1", "fast", ""])("--speed %s is refused", async (speed) => {
    const said = await complaint(["replay", "--json", "--speed", speed, event])
    expect(said).toMatch(/--speed/)
    expect(said).toContain(speed)
  })

  it("an unknown option or command is named", async () => {
    expect(await complaint(["status", "--json", "--colour"])).toContain("--colour")
    expect(await complaint(["strat"])).toContain("start")
    expect(await complaint(["start", "--source", "kafka"])).toMatch(/simulator.*none/)
    expect(await complaint(["start", "--port", "http"])).toMatch(/http/)
  })

  it("an sql statement with a wrong column names it", async () => {
    expect(await sqlComplaint("SELECT battery FROM silver.telemetry_clean")).toMatch(/"battery" not found.*battery_percent/s)
  })

  it("an sql statement that would change something is refused, also as the second of two", async () => {
    const data = join(lake.dataDir, "warehouse", "silver", "telemetry_clean", "data")
    const [file = ""] = (await fs.readdir(data, { recursive: true })).filter((name) => name.endsWith(".parquet"))
    const before = await fs.readFile(join(data, file))
    const copy = `COPY (SELECT 1) TO '${join(data, file)}' (FORMAT parquet)`
    const changes = [
      "DROP VIEW silver.telemetry_clean",
      "SELECT 1; DROP VIEW silver.telemetry_clean",
      "WITH x AS (SELECT 1) INSERT INTO silver.telemetry_clean SELECT 1",
      "CREATE TABLE x AS SELECT 1",
      "ATTACH ':memory:' AS other",
      copy,
      `SELECT 1; ${copy}`,
      `EXPLAIN ANALYZE ${copy}`
    ]
    for (const statement of changes) await sqlComplaint(statement)
    expect(before.equals(await fs.readFile(join(data, file))), "the table's file is as it was").toBe(true)
    expect(await lake.sql("SELECT count(*) AS n FROM silver.telemetry_clean")).toEqual([{ n: 1 }])
  })

  it("an sql statement reaches no file but the tables', and no setting", async () => {
    const description = join(lake.dataDir, "voltlake.json")
    const reaches = [
      "SELECT * FROM read_text('/etc/passwd')",
      "FROM '/etc/passwd'",
      "SELECT * FROM glob('/etc/*')",
      `SELECT * FROM read_text('${description}')`,
      `SELECT * FROM read_text('${join(lake.dataDir, "warehouse")}/../voltlake.json')`,
      "SET enable_external_access = true"
    ]
    for (const statement of reaches) expect(await sqlComplaint(statement), statement).not.toMatch(/root:|"format"/)
  })

  it("pg with nothing running says so", async () => {
    expect(await complaint(["pg", "--json"])).toMatch(new RegExp(`${lake.dataDir}.*start|start.*${lake.dataDir}`))
  })

  it.each([
    ["VOLTLAKE_PORT", "abc", ["start"]],
    ["VOLTLAKE_PORT", "70000", ["start"]],
    ["VOLTLAKE_SOURCE", "kafka", ["start", "--port", "0"]],
    ["VOLTLAKE_LOG_LEVEL", "loud", ["status", "--json"]],
    ["TOPIC_PARTITIONS", "0", ["status", "--json"]],
    ["BRONZE_BATCH_ROWS_MAX", "many", ["start", "--port", "0", "--source", "none"]],
    ["SIMULATOR_DUPLICATE_SHARE", "2", ["start", "--port", "0"]]
  ])("%s=%s in the environment is named by its key", async (key, value, args) => {
    expect(await complaint(args, { env: { [key]: value } })).toContain(key)
    expect(await lake.isServerLeft()).toBe(false)
  })

  it("after all of these the lake is as it was", async () => {
    expect(await lake.sql("SELECT event_id FROM silver.telemetry_clean")).toEqual([{ event_id: "e" }])
  })
})
