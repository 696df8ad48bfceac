// kill -9 at moments that a seed chooses: nothing is lost, nothing is there twice, whatever was under way.
import { createHash } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { Client } from "pg"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { TestLake, waitForNoLag } from "@voltlake/testing/TestLake"

/** Commits of few rows, so that every stage has work all the time: a kill meets the middle of a commit, not the time between two. */
const smallCommits = {
  BRONZE_BATCH_ROWS_MAX: "300",
  BRONZE_COMMIT_INTERVAL: "0 millis",
  SILVER_BATCH_ROWS_MAX: "500",
  GOLD_BATCH_ROWS_MAX: "100"
}

const rounds = 12
/** One round in so many is killed while it starts, all others at their work. */
const earlyEvery = 4
const startingMsMax = 1000
const workingMsMax = 800

const md5 = (text: string) => createHash("md5").update(text).digest("hex")

/** One text for all values with how often each is there, whatever their order. */
const fingerprint = (lines: ReadonlyArray<string>) => md5(lines.map(md5).sort().join(""))
const fingerprintSql = `SELECT md5(string_agg(md5("value"), '' ORDER BY md5("value"))) AS fingerprint FROM bronze.telemetry_raw`

const onceSql = `
  SELECT (SELECT count(*) - count(DISTINCT ("partition", "offset")) FROM bronze.telemetry_raw) AS bronze_repeated,
    (SELECT coalesce(sum(gap), 0) FROM (SELECT max("offset") + 1 - count(*) AS gap FROM bronze.telemetry_raw GROUP BY "partition")) AS bronze_missing,
    (SELECT count(*) - count(DISTINCT (vehicle_id, event_id)) FROM silver.telemetry_clean) AS keys_repeated,
    (SELECT count(*) - count(DISTINCT ("partition", "offset")) FROM
      (SELECT "partition", "offset" FROM silver.telemetry_clean UNION ALL
       SELECT "partition", "offset" FROM silver.telemetry_rejected)) AS silver_repeated,
    (SELECT sum(event_count) FROM gold.vehicle_minute_metrics) - (SELECT count(*) FROM silver.telemetry_clean) AS vehicle_surplus,
    (SELECT sum(total_events) FROM gold.fleet_minute_metrics) - (SELECT count(*) FROM silver.telemetry_clean) AS fleet_surplus`

const once = {
  bronze_repeated: 0,
  bronze_missing: 0,
  keys_repeated: 0,
  silver_repeated: 0,
  vehicle_surplus: 0,
  fleet_surplus: 0
}

/** Sums as DuckDB's HUGEINT come as numbers or text: compared as numbers. */
const numbers = (row: Readonly<Record<string, unknown>> | undefined) =>
  Object.fromEntries(Object.entries(row ?? {}).map(([name, value]) => [name, Number(value)]))

/** Records in the log, asked of the server itself: a command takes too long to meet the middle of anything. */
const openLog = async (lake: TestLake) => {
  const { url } = await waitFor("the server's URL", () => lake.json<{ readonly url: string }>(["pg"]))
  const client = new Client(url)
  await client.connect()
  const records = async () => Number((await client.query("SELECT sum(next_offset) AS n FROM log.partition")).rows[0].n)
  return { records, close: () => client.end() }
}

describe("kill -9", () => {
  let lake: TestLake
  beforeEach(async () => {
    lake = await TestLake.make()
  })
  afterEach(() => lake.close())

  it("of start, again and again while events arrive, loses nothing and doubles nothing", async () => {
    const random = SeededRandom.make(20_250_301)
    const made = TelemetryLines.make(random, 40_000, { copies: 0.1, malformed: 0.01 })
    const slice = Math.ceil(made.lines.length / rounds)
    for (let round = 0; round < rounds; round++) {
      const file = await lake.file(`${round}.ndjson`, made.lines.slice(round * slice, (round + 1) * slice).join("\n"))
      const sending = lake.json<{ readonly events: number }>(["replay", file])
      const start = lake.start(["--source", "none"], { env: smallCommits })
      const isEarly = round % earlyEvery === 0
      if (!isEarly) await start.address()
      await sleep(random.below(isEarly ? startingMsMax : workingMsMax))
      expect(start.hasEnded(), start.stderr()).toBe(false)
      expect((await start.kill("SIGKILL")).code).toBe("SIGKILL")
      await sending
      // Once as a power cut does it: the server goes too, in the middle of whatever it did.
      if (round === rounds / 2) await lake.killServer()
    }

    const last = lake.start(["--source", "none"])
    const status = await waitForNoLag(await last.address())
    expect(status.stages.map(({ rows, stage }) => [stage, rows])).toEqual([
      ["ingest", made.lines.length],
      ["bronze", made.lines.length],
      ["silver", made.keys],
      ["gold", made.keys]
    ])
    expect(status).toMatchObject({ rejected: made.malformed, duplicates: made.copies, skipped: 0, lost: 0 })
    await last.kill("SIGINT")
    expect(await lake.sql(fingerprintSql)).toEqual([{ fingerprint: fingerprint(made.lines) }])
    expect(numbers((await lake.sql(onceSql))[0])).toEqual(once)
    expect(await lake.breaches()).toEqual([])
  }, 120_000)

  it("of replay --wait in its middle leaves what reached the log to the next process, once", async () => {
    const random = SeededRandom.make(7)
    const made = TelemetryLines.make(random, 25_000, { copies: 0.1, malformed: 0.01 })
    const file = await lake.file("events.ndjson", made.lines.join("\n"))
    await lake.status()
    let before = 0
    for (let round = 0; round < 3; round++) {
      const replay = lake.launch(["replay", "--wait", "--json", file], { env: smallCommits })
      const log = await openLog(lake)
      const sent = await waitFor("the first records in the log", async () => {
        const records = await log.records()
        return records > before ? records : undefined
      })
      await sleep(random.below(600))
      const { code, stdout } = await replay.kill("SIGKILL")
      expect([code, stdout]).toEqual(["SIGKILL", ""])
      before = Math.max(sent, await log.records())
      await log.close()
    }

    const start = lake.start(["--source", "none"])
    const status = await waitForNoLag(await start.address())
    expect(status.stages[0]?.rows).toBe(before)
    expect(status.stages[1]?.rows).toBe(before)
    await start.kill("SIGINT")
    expect(numbers((await lake.sql(onceSql))[0])).toEqual(once)
    expect(await lake.breaches()).toEqual([])

    // The whole file once more: what was sent before is a duplicate now, the rest is new, and every key is there.
    expect(await lake.replay([file])).toMatchObject({ events: made.lines.length, rejected: made.malformed })
    expect(await lake.sql("SELECT count(*) AS keys FROM silver.telemetry_clean")).toEqual([{ keys: made.keys }])
    expect(numbers((await lake.sql(onceSql))[0])).toEqual(once)
    expect(await lake.breaches()).toEqual([])
  }, 120_000)
})
