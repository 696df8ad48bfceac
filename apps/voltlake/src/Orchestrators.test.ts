// Two orchestrators on one lake: one works, the other takes over when that one is frozen or killed, and nothing is done by both.
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { TestLake } from "@voltlake/testing/TestLake"

interface Run {
  readonly state: string
  readonly tasks: ReadonlyArray<{ readonly attempts: ReadonlyArray<{ readonly state: string }> }>
}

describe("two orchestrators", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make()
    const event = JSON.stringify({ event_id: "e", vehicle_id: "v", event_time: "2025-06-01T10:00:00Z" })
    await lake.replay([await lake.file("event.ndjson", event)])
  })
  afterAll(() => lake.close())

  const leader = async () => Number(/orchestrated by process (\d+)/.exec((await lake.run(["dag", "list"])).stdout)?.[1])

  const leads = (pid: number) => waitFor(`process ${pid} leading`, async () => (await leader()) === pid ? true : undefined)

  /** Asks for a run, and answers it once it has ended. */
  const succeeds = async () => {
    const { run } = await lake.json<{ readonly run: string }>(["dag", "trigger", "reconciliation"])
    const ended = await waitFor("the run's end", async () => {
      const found = await lake.json<Run>(["dag", "show", run])
      return found.state === "queued" || found.state === "running" ? undefined : found
    })
    expect(ended).toMatchObject({ state: "succeeded", tasks: [{ attempts: [{ state: "succeeded" }] }] })
  }

  it("take turns: after a freeze, after its end, and after a kill", async () => {
    const [one, other] = [lake.serve("orchestrator"), lake.serve("orchestrator")]
    const first = await waitFor("a leader", async () => [one, other].find(({ pid }) => pid === pending) ?? ((pending = await leader()), undefined))
    const second = first === one ? other : one
    await succeeds()
    process.kill(first.pid, "SIGSTOP")
    await leads(second.pid)
    await succeeds()
    process.kill(first.pid, "SIGCONT")
    await succeeds()
    expect(await leader()).toBe(second.pid)
    await second.kill("SIGKILL")
    await leads(first.pid)
    await succeeds()
    await first.kill("SIGTERM")
    expect(await lake.breaches()).toEqual([])
  })
  let pending = 0
})
