/** The alert rules by Prometheus's own checker: what they are, and when they fire. */
import { Effect } from "effect"
import { join } from "node:path"
import { beforeAll, expect, it } from "vitest"
import * as Program from "@voltlake/stack/internal/Program"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as Promtool from "./Promtool.ts"

let promtool: string
const check = (...args: ReadonlyArray<string>) =>
  Effect.runPromise(Program.run(args.join(" "), promtool, args, { cwd: join(repository, "deploy/prometheus") }))

beforeAll(async () => {
  promtool = await Effect.runPromise(Promtool.program)
})

it("are a configuration that Prometheus takes, with its rules", async () => {
  expect(await check("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")).toMatch(/10 rules found/)
})

it("fire when they should, and are silent when they should be", async () => {
  expect(await check("test", "rules", "alerts.test.yml")).toContain("SUCCESS")
})
