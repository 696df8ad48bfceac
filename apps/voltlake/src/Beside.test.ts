// Two processes on one data directory, and the way out.
import { Client } from "pg"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { statusAt, TestLake } from "@voltlake/testing/TestLake"

describe("start", () => {
  let lake: TestLake
  beforeEach(async () => {
    lake = await TestLake.make()
  })
  afterEach(() => lake.close())

  const hasEvents = (address: string) =>
    waitFor("simulated events in gold", async () => {
      const status = await statusAt(address)
      return (status.stages.at(-1)?.rows ?? 0) > 0 ? status : undefined
    })

  it("serves a replay beside it, whose summary counts only its own records among the simulator's", async () => {
    const made = TelemetryLines.make(SeededRandom.make(3), 5000, { copies: 0.1, malformed: 0.02 })
    const file = await lake.file("events.ndjson", made.lines.join("\n"))
    const start = lake.start([], { env: { SIMULATOR_EVENTS_PER_SECOND: "500" } })
    const address = await start.address()
    await hasEvents(address)
    expect(await lake.replay([file])).toMatchObject({
      events: made.lines.length,
      bronze: made.lines.length,
      silver: made.keys,
      rejected: made.malformed,
      rules: { malformed_json: made.malformed },
      duplicates: made.copies
    })
    const { stages } = await statusAt(address)
    expect(stages[0]?.rows).toBeGreaterThan(made.lines.length)
    expect(await lake.breaches(), "in the middle of the work").toEqual([])
    // The stages were start's all the time: it is still there, and ends well.
    expect(start.hasEnded()).toBe(false)
    await start.kill("SIGINT")
    expect(await lake.breaches()).toEqual([])
  })

  it("ends by Ctrl-C with exit code 0 or 130, leaves no PostgreSQL, and can be started again", async () => {
    let rows = 0
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const start = lake.start()
      const before = await hasEvents(await start.address())
      expect(before.stages.at(-1)?.rows).toBeGreaterThanOrEqual(rows)
      const { code, stderr } = await start.kill(signal)
      expect([0, 130, 143], stderr).toContain(code)
      expect(stderr).not.toMatch(/level=ERROR|voltlake:/)
      expect(await lake.isServerLeft()).toBe(false)
      rows = before.stages.at(-1)?.rows ?? 0
    }
    expect(await lake.breaches()).toEqual([])
  })

  it("goes on where its sessions are cut, and ends by Ctrl-C while the server does not answer", async () => {
    const start = lake.start()
    const address = await start.address()
    const before = await hasEvents(address)
    const { url } = await lake.json<{ readonly url: string }>(["pg"])
    const client = new Client(url)
    // The last to leave stops the server, and with it this session.
    client.on("error", () => undefined)
    await client.connect()
    const others = "FROM pg_stat_activity WHERE application_name LIKE 'voltlake%' AND pid <> pg_backend_pid()"
    // Every lock, every listener and every statement under way.
    expect((await client.query(`SELECT pg_terminate_backend(pid) ${others}`)).rows.length).toBeGreaterThan(4)
    const rows = before.stages.at(-1)?.rows ?? 0
    await waitFor("gold to go on", async () => ((await statusAt(address)).stages.at(-1)?.rows ?? 0) > rows + 50 || undefined)
    expect(start.hasEnded(), start.stderr()).toBe(false)

    const locks = await waitFor("the locks to be held again", async () => {
      const found = (await client.query(`SELECT pid ${others} AND application_name LIKE '%lock voltlake%'`)).rows
      return found.length === 4 ? found : undefined
    })
    for (const { pid } of locks) process.kill(pid, "SIGSTOP")
    try {
      const { code } = await start.kill("SIGINT")
      expect([0, 130]).toContain(code)
    } finally {
      for (const { pid } of locks) process.kill(pid, "SIGCONT")
      await client.end()
    }
    expect(await lake.breaches()).toEqual([])
  }, 90_000)

  it("ended in the middle of starting leaves no PostgreSQL", async () => {
    const random = SeededRandom.make(11)
    for (let round = 0; round < 3; round++) {
      const start = lake.start()
      await new Promise((resolve) => setTimeout(resolve, 200 + random.below(1200)))
      await start.kill("SIGINT")
      expect(await lake.isServerLeft(), start.stderr()).toBe(false)
    }
    expect(await lake.breaches()).toEqual([])
  })
})
