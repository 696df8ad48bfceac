/** Alert rules, scrape configuration and Grafana's dashboard: against what processes really expose. Prometheus's own checker: Alerts.acceptance. */
import { readFileSync } from "node:fs"
import { rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { parse } from "yaml"
import { waitFor } from "@voltlake/testing/Condition"
import { TestLake } from "@voltlake/testing/TestLake"
import { repository } from "@voltlake/testing/VoltlakeProcess"

const text = (path: string) => readFileSync(join(repository, path), "utf8")

interface Rules {
  readonly groups: ReadonlyArray<{ readonly rules: ReadonlyArray<{ readonly alert: string; readonly expr: string; readonly for: string }> }>
}
interface Dashboard {
  readonly panels: ReadonlyArray<{ readonly title: string; readonly targets: ReadonlyArray<{ readonly expr: string }> }>
}

const alerts = (parse(text("deploy/prometheus/alerts.yml")) as Rules).groups.flatMap(({ rules }) => rules)
const panels = (JSON.parse(text("deploy/grafana/voltlake.json")) as Dashboard).panels
const expressions = [...alerts.map(({ expr }) => expr), ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))]

describe("what is watched", () => {
  let lake: TestLake
  let exposed: string
  beforeAll(async () => {
    lake = await TestLake.make({ env: { VOLTLAKE_HEALTH_PORT: "0", VOLTLAKE_PORT: "0" } })
    const start = lake.start()
    await start.address()
    const page = lake.serve("console")
    const metrics = async (process: typeof start) => (await fetch(`${await process.healthAddress()}/metrics`)).text()
    await waitFor("commits of all stages", async () =>
      (await metrics(start)).match(/^lake_stage_last_commit_timestamp_seconds\{stage="(bronze|silver|gold)"\}/gm)?.length === 3 || undefined)
    const measured = await waitFor("the lag", async () => {
      const found = await metrics(page)
      return found.includes("lake_lag_offsets{") ? found : undefined
    })
    // A step that fails is counted only once there was one: a file stands where the tables' folder was.
    const tables = join(lake.dataDir, "warehouse")
    await rename(tables, join(lake.folder, "aside"))
    await writeFile(tables, "")
    const failed = await waitFor("a failure", async () => {
      const found = await metrics(start)
      return found.includes("lake_stage_failures_total{") ? found : undefined
    })
    exposed = measured + failed
  })
  afterAll(() => lake.close())

  it("is named as processes expose it, with its labels", () => {
    const families = new Set(Array.from(exposed.matchAll(/^([a-z_]+)(?:\{| )/gm), ([, name]) => name!))
    // What Prometheus itself adds.
    families.add("up")
    const named = new Set(expressions.flatMap((expr) => expr.match(/\b(lake_\w+|process_\w+|nodejs_\w+|up)\b/g) ?? []))
    expect(named.size).toBeGreaterThan(8)
    expect([...named].filter((name) => !families.has(name))).toEqual([])
    for (const state of ["running", "waiting", "standby", "stopped"]) expect(exposed).toMatch(new RegExp(`^lake_stage_state\\{.*state="${state}"`, "m"))
    for (const stage of ["ingest", "bronze", "silver", "gold"]) {
      expect(exposed).toContain(`lake_lag_offsets{stage="${stage}"}`)
      expect(exposed).toContain(`lake_rows{stage="${stage}"}`)
    }
    expect(exposed).toMatch(/^lake_stage_failures_total\{(stage="\w+",kind="\w+"|kind="\w+",stage="\w+")\} [1-9]/m)
  })

  it("is what the panels and alerts of its name promise", () => {
    expect(alerts.map(({ alert }) => alert)).toEqual(expect.arrayContaining(
      ["StageStopped", "StageWaiting", "LagGrows", "NoCommits", "ProcessDown", "NotFresh"]
    ))
    for (const { alert, expr, for: lasting } of alerts) expect([alert, expr.length > 0, /^\d+[sm]$/.test(lasting)]).toEqual([alert, true, true])
    expect(panels.map(({ title }) => title)).toContain("Lag")
  })

  it("is scraped where the Compose file's processes listen", () => {
    const { scrape_configs: [job] } = parse(text("deploy/prometheus/prometheus.yml")) as {
      readonly scrape_configs: ReadonlyArray<{ readonly dns_sd_configs: ReadonlyArray<{ readonly names: ReadonlyArray<string>; readonly port: number }> }>
    }
    const compose = parse(text("docker-compose.yml"), { merge: true }) as {
      readonly services: Readonly<Record<string, { readonly environment?: Readonly<Record<string, string>> }>>
    }
    const listening = Object.entries(compose.services).filter(([, { environment }]) => environment?.["VOLTLAKE_HEALTH_PORT"] !== undefined)
    expect([...job!.dns_sd_configs[0]!.names].sort()).toEqual(listening.map(([name]) => name).sort())
    for (const [, { environment }] of listening) expect(Number(environment!["VOLTLAKE_HEALTH_PORT"])).toBe(job!.dns_sd_configs[0]!.port)
  })
})
