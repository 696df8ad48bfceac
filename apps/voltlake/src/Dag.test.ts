// The DAGs by the command line, on a lake of its own: gold by batch equals what is live, and a model is one file more.
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { TestLake } from "@voltlake/testing/TestLake"

interface Run {
  readonly id: string
  readonly state: string
  readonly tasks: ReadonlyArray<{
    readonly task: string
    readonly state: string
    readonly facts: Readonly<Record<string, unknown>> | null
    readonly attempts: ReadonlyArray<{ readonly state: string; readonly error: string | null }>
  }>
}

const gold = "silver_to_gold_batch"

const model = (name: string, sql: string, more = "") =>
  `-- name: ${name}\n-- description: for a test\n-- key: vehicle_id, day_ts\n-- time: day_ts\n-- grain: day\n-- refresh: batch\n${more}${sql}`

const counted = "SELECT vehicle_id, date_trunc('day', event_ts) AS day_ts, count(*) AS n FROM silver.telemetry_clean GROUP BY vehicle_id, date_trunc('day', event_ts)"

describe("the lake's DAGs", () => {
  let lake: TestLake
  let made: TelemetryLines.MadeLines
  beforeAll(async () => {
    lake = await TestLake.make()
    made = TelemetryLines.make(SeededRandom.make(7), 600, { copies: 0.2, malformed: 0.05 })
    await lake.replay([await lake.file("events.ndjson", made.lines.join("\n"))])
    // Ten minutes are over at any time: a run by the schedule between ours would be the newest, or have done what ours is to do.
    for (const name of [gold, "table_maintenance", "reconciliation"]) await lake.json(["dag", "pause", name])
  })
  afterAll(() => lake.close())

  const trigger = (name: string) => lake.json<Run>(["dag", "trigger", "--wait", name])
  const stateOf = ({ tasks }: Run) => Object.fromEntries(tasks.map(({ state, task }) => [task, state]))

  it("are listed with their schedules and policies", async () => {
    const all = await lake.json<ReadonlyArray<Readonly<Record<string, unknown>>>>(["dag", "list"])
    expect(all.find(({ name }) => name === gold)).toMatchObject({
      schedule: "*/10 * * * *",
      timeZone: "UTC",
      catchUp: "none",
      overlap: "skip",
      maxActiveRuns: 1,
      paused: true,
      tasks: expect.arrayContaining([expect.objectContaining({ name: "build_vehicle_day", retries: 1, retryDelaySeconds: 120 })])
    })
    expect(all.map(({ name }) => name)).toEqual([gold, "table_maintenance", "orphan_removal", "reconciliation"])
  })

  it("bring gold's tables to silver, find them equal to the live ones, and publish the others", async () => {
    const run = await trigger(gold)
    expect(run.state).toBe("succeeded")
    expect(run.tasks.find(({ task }) => task === "compare_vehicle_minute_metrics")?.facts).toMatchObject({ differing: 0, waiting: 0 })
    expect(run.tasks.find(({ task }) => task === "build_vehicle_day")?.facts).toMatchObject({ kind: "full" })
    expect(await lake.sql("SELECT sum(events)::BIGINT AS n FROM gold.vehicle_day")).toEqual([{ n: made.keys }])
    expect(stateOf(await trigger("table_maintenance"))).toEqual({ compact: "succeeded", expire: "succeeded" })
    expect((await trigger("reconciliation")).tasks[0]?.facts).toMatchObject({ breaches: 0 })
    const again = await trigger(gold)
    expect(again.tasks.find(({ task }) => task === "build_vehicle_day")?.facts).toMatchObject({ kind: "unchanged" })
    const events = await lake.json<ReadonlyArray<{ readonly kind: string; readonly severity: string }>>(["events"])
    expect(new Set(events.map(({ kind, severity }) => `${severity} ${kind}`))).toEqual(new Set(["INFO run_succeeded"]))
    const commits = await lake.json<ReadonlyArray<{ readonly subject: string }>>(["events", "--kind", "table_committed"])
    expect(commits.map(({ subject }) => subject)).toEqual(expect.arrayContaining(["bronze.telemetry_raw", "silver.telemetry_clean, silver.telemetry_rejected", "gold.vehicle_day"]))
    expect((await lake.json<ReadonlyArray<unknown>>(["events", "--all"])).length).toBe(events.length + commits.length)
    expect(await lake.json(["events", "--severity", "WARNING"])).toEqual([])
    const logs = await lake.json<ReadonlyArray<{ readonly message: string }>>(["dag", "logs", run.id])
    expect(logs.map(({ message }) => message)).toContainEqual(expect.stringMatching(/^full: \d+ rows of \d+ days$/))
  })

  it("take up a model that is applied, and one that is wrong hinders no other", async () => {
    const file = await lake.file("mine.sql", model("my_days", counted))
    expect(await lake.json(["models", "apply", file])).toMatchObject({ model: "my_days" })
    const run = await trigger(gold)
    expect(stateOf(run)).toMatchObject({ build_my_days: "succeeded", publish_my_days: "succeeded" })
    expect(await lake.sql("SELECT sum(n)::BIGINT AS n FROM gold.my_days")).toEqual([{ n: made.keys }])
    const wrong = await lake.file("wrong.sql", model("wrong", counted.replace("count(*)", "avg(speed_mph)")))
    const refused = await lake.run(["models", "apply", wrong])
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/^voltlake: gold model wrong: it calls avg: .*divide an exact sum/)])
  })

  it("pause, resume, cancel and refuse what is not there", async () => {
    const isPaused = async () =>
      (await lake.json<ReadonlyArray<{ readonly name: string; readonly paused: boolean }>>(["dag", "list"])).find(({ name }) => name === gold)?.paused
    await lake.json(["dag", "resume", gold])
    expect(await isPaused()).toBe(false)
    await lake.json(["dag", "pause", gold])
    expect(await isPaused()).toBe(true)
    const queued = await lake.json<{ readonly run: string }>(["dag", "trigger", gold])
    expect(await lake.json(["dag", "cancel", queued.run])).toMatchObject({ cancelled: true })
    const { code, stderr } = await lake.run(["dag", "trigger", "nonsense"])
    expect([code, stderr]).toEqual([1, expect.stringContaining("there is no DAG nonsense; there are silver_to_gold_batch")])
    const backfill = await lake.run(["dag", "backfill", "--from", "2026-11-01", "--to", "2027-11-01", gold])
    expect(backfill.stderr).toContain("more than 10000 runs")
  })
})
