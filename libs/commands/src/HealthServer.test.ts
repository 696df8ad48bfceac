import { describe, expect, it } from "@effect/vitest"
import type { Health } from "@voltlake/stage-runner/Stage"
import { besides, notReady } from "./HealthServer.ts"

const at = (state: Health["state"], sinceMs: number, reason = ""): Health => ({ stage: "silver", state, sinceMs, reason })
const now = 100_000

describe("notReady", () => {
  it.each<readonly [string, ReadonlyArray<Health>, boolean, ReadonlyArray<string>]>([
    ["a part that has not begun", [], false, ["silver has not begun"]],
    ["one that runs and has no step behind it", [at("running", now)], false, ["silver has not come through its first step"]],
    ["one that runs and has", [at("running", 0)], true, []],
    ["one that waits for its servers at start", [at("waiting", now - 1000, "Kafka is away")], false, [
      "silver has not come through its first step: Kafka is away"
    ]],
    ["one that waits for a moment", [at("waiting", now - 29_000, "S3 is away")], true, []],
    ["one that waits for long", [at("waiting", now - 31_000, "S3 is away")], true, ["silver waits for longer than 30s: S3 is away"]],
    ["one that stands by", [at("standby", 0, "process 1 runs the stage")], false, []],
    ["one that stopped", [at("stopped", now, "silver stopped: rows are missing. Look.")], true, ["silver stopped: rows are missing. Look."]],
    ["another part is not asked for", [{ ...at("stopped", 0, "other"), stage: "other" }, at("running", 0)], true, []]
  ])("%s", (_, states, hasSucceeded, expected) => {
    expect(notReady(["silver"], states, new Set(hasSucceeded ? ["silver"] : []), new Map([["silver", now - 59_000]]), now)).toEqual(expected)
  })

  it("a step that has been under way for long", () => {
    const reasons = notReady(["silver"], [at("running", 0)], new Set(["silver"]), new Map([["silver", now - 61_000]]), now)
    expect(reasons).toEqual(["silver has been at one step for longer than 1m"])
  })
})

describe("besides", () => {
  it("tells of what is no part, and does not its work", () => {
    const states = [at("stopped", 0, "silver stopped"), { ...at("waiting", now - 31_000, "a bug"), stage: "compaction" }, { ...at("running", 0), stage: "maintenance" }]
    expect(besides(["silver"], states, now)).toEqual(["compaction waits for longer than 30s: a bug"])
  })
})
