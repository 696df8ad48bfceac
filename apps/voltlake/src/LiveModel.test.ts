// A live model by the command line beside a lake that runs: it is filled from all of silver, then moved by each commit, and survives the process.
import { Client } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { TestLake, waitForNoLag } from "@voltlake/testing/TestLake"

const header = (name: string, key: string) =>
  `-- name: ${name}\n-- description: for a test\n-- key: ${key}\n-- time: hour_ts\n-- grain: hour\n-- refresh: live\n`

const hour = "date_trunc('hour', event_ts)"
const merged = header("source_hours", "hour_ts, origin") +
  `SELECT ${hour} AS hour_ts, coalesce(source, '') AS origin, count(*) AS events, max(speed_mph) AS fastest
  FROM silver.telemetry_clean GROUP BY ${hour}, coalesce(source, '')`
const computedAnew = header("vehicle_hours", "vehicle_id, hour_ts") +
  `SELECT vehicle_id, ${hour} AS hour_ts, count(*) AS events, count(DISTINCT event_id) AS ids FROM silver.telemetry_clean GROUP BY vehicle_id, ${hour}`

interface Run {
  readonly state: string
  readonly tasks: ReadonlyArray<{ readonly task: string; readonly facts: Readonly<Record<string, unknown>> | null }>
}

describe("a live model", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
  })
  afterAll(() => lake.close())

  /** Events in the tables of all three, as of one moment. */
  const events = async () => {
    const { url } = await lake.json<{ readonly url: string }>(["pg"])
    const client = new Client({ connectionString: url })
    await client.connect()
    const { rows } = await client.query<{ readonly minutes: string; readonly others: ReadonlyArray<string> }>(`
      SELECT sum(event_count)::text AS minutes, array[(SELECT sum(events)::text FROM gold_source_hours), (SELECT sum(events)::text FROM gold_vehicle_hours),
        (SELECT sum(ids)::text FROM gold_vehicle_hours)] AS others FROM gold_vehicle_minute_metrics`)
      .finally(() => client.end())
    const { minutes, others } = rows[0]!
    expect(others).toEqual([minutes, minutes, minutes])
    return Number(minutes)
  }

  it("is filled from all of silver beside a lake that runs, moved by each commit from there on, and goes on after a kill", async () => {
    const running = lake.start([], { env: { SIMULATOR_EVENTS_PER_SECOND: "300" } })
    await running.address()
    await waitFor("some gold", async () => ((await lake.status()).stages.find(({ stage }) => stage === "gold")?.rows ?? 0) > 500 || undefined)
    for (const [name, text] of [["source_hours", merged], ["vehicle_hours", computedAnew]] as const) {
      const { run } = await lake.json<{ readonly run: string }>(["models", "apply", await lake.file(`${name}.sql`, text)])
      const ended = await waitFor("the filling", async () => {
        const found = await lake.json<Run>(["dag", "show", run])
        return ["queued", "running"].includes(found.state) ? undefined : found
      })
      expect(ended.state).toBe("succeeded")
      expect(ended.tasks.find(({ task }) => task === `publish_${name}`)?.facts).toMatchObject({ kind: "begun" })
    }
    const listed = await lake.json<ReadonlyArray<{ readonly name: string; readonly kept: string }>>(["models", "list"])
    const keptOf = (name: string) => listed.find((one) => one.name === name)?.kept
    expect(keptOf("source_hours")).toBe("live: new rows are merged")
    expect(keptOf("vehicle_hours")).toMatch(/^live: touched hours are computed anew: /)
    const first = await events()
    await waitFor("more events", async () => (await events()) > first + 300 || undefined)
    await running.kill("SIGKILL")
    const killed = await events()
    const next = lake.start([], { env: { SIMULATOR_EVENTS_PER_SECOND: "300" } })
    await next.address()
    await waitFor("more events after the kill", async () => (await events()) > killed + 300 || undefined)
    await next.kill("SIGTERM")
    const last = lake.start(["--source", "none"])
    await waitForNoLag(await last.address())
    const run = await lake.json<Run>(["dag", "trigger", "--wait", "silver_to_gold_batch"])
    expect(run.state).toBe("succeeded")
    for (const name of ["source_hours", "vehicle_hours"]) {
      expect(run.tasks.find(({ task }) => task === `compare_${name}`)?.facts).toMatchObject({ differing: 0, waiting: 0 })
    }
    await last.kill("SIGTERM")
    expect(await lake.breaches()).toEqual([])
  }, 150_000)
})
