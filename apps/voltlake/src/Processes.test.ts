// A process for each part, which meet only in the log and the tables.
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { statusAt, TestLake } from "@voltlake/testing/TestLake"

describe("a process for each part", () => {
  let lake: TestLake
  beforeEach(async () => {
    lake = await TestLake.make()
  })
  afterEach(() => lake.close())

  it("takes events from the ingestor to gold and to the page, each stage run once, whichever starts first", async () => {
    const parts = ["gold", "silver", "ingestor", "bronze"].map((app) => lake.serve(app, { SIMULATOR_EVENTS_PER_SECOND: "200" }))
    const console = lake.serve("console", { VOLTLAKE_PORT: "0" })
    const address = await console.address()
    const tables = await (await fetch(`${address}/catalog/v1/namespaces/silver/tables`)).json()
    expect(tables).toMatchObject({ identifiers: [{ name: "telemetry_clean" }, { name: "telemetry_rejected" }] })
    const rows = async () => (await statusAt(address)).stages.map((stage) => stage.rows)
    await waitFor("events in gold", async () => ((await rows()).at(-1) ?? 0) > 100 || undefined)

    const second = await lake.serve("silver").ended
    expect(second).toMatchObject({ code: 1, stdout: "" })
    expect(second.stderr).toContain(`runs its silver stage since`)
    expect(second.stderr).toContain(`process ${parts[1]?.pid}`)

    // One dies as processes do; its successor goes on where the table stands.
    const silver = parts[1]
    await silver?.kill("SIGKILL")
    const before = (await rows())[2] ?? 0
    lake.serve("silver")
    await waitFor("silver's successor", async () => ((await rows())[2] ?? 0) > before + 100 || undefined)

    const ended = await Promise.all([...parts.filter((part) => part !== silver), console].map((part) => part.kill("SIGINT")))
    for (const { code, stderr } of ended) expect([0, 130], stderr).toContain(code)
    await lake.endAll("SIGINT")
    expect(await lake.isServerLeft()).toBe(false)
    expect(await lake.breaches()).toEqual([])
  }, 120_000)
})
