/** The dashboard in a real Superset, over gold in a real PostgreSQL: provisioned as in Compose, its charts' rows compared with the tables. */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Client } from "pg"
import { chromium } from "playwright-core"
import { afterAll, beforeAll, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import { TestLake } from "@voltlake/testing/TestLake"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as ComposeProject from "./ComposeProject.ts"
import * as EnvFile from "./EnvFile.ts"
import * as SupersetServer from "./SupersetServer.ts"

const executable = process.env["CHROMIUM"] ?? "/usr/bin/chromium"
const title = "Tesla Fleet Dashboard"
const database = "superset_gold"

/** The last statement's answer. */
const run = async (url: string, ...statements: ReadonlyArray<string>) => {
  const client = new Client(url)
  await client.connect()
  try {
    for (const before of statements.slice(0, -1)) await client.query(before)
    return await client.query<Record<string, string>>(statements.at(-1)!)
  } finally {
    await client.end()
  }
}

/** Three vehicles that lose charge, an event every twenty seconds each, over the last forty minutes; the bars differ from minute to minute. */
const events = (now: number) =>
  Array.from({ length: 120 }, (_, at) =>
    ["a", "b", "c"].filter((_, which) => at % (which + 2) !== 0).map((vehicle, which) =>
      JSON.stringify({
        event_id: `${vehicle}-${at}`,
        vehicle_id: `vehicle-${vehicle}`,
        event_time: new Date(now - (120 - at) * 20_000).toISOString(),
        source: "test",
        payload: { battery_percent: 90 - at / 4 - which * 3.5, speed_mph: 20 + (at % 30), odometer_miles: 1000 + at }
      }))).flat()

describeStack("postgresUrl")("Superset", () => {
  const secrets = EnvFile.make()
  let folder: string
  let lake: TestLake
  let superset: SupersetServer.SupersetServer
  let start: () => Promise<SupersetServer.SupersetServer>
  let owner: string
  let goldReader: string
  let token: string

  const api = async (path: string) => {
    const response = await fetch(`${superset.address}/api/v1/${path}`, {
      headers: { authorization: `Bearer ${token}` }
    })
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${(await response.text()).slice(0, 2000)}`)
    return await response.json() as never
  }

  const isUp = () =>
    waitFor("Superset", async () => {
      if (superset.hasEnded()) return true
      return (await fetch(`${superset.address}/health`)).ok || undefined
    })

  const login = async () => {
    const answer = await fetch(`${superset.address}/api/v1/security/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "admin", password: secrets["SUPERSET_ADMIN_PASSWORD"], provider: "db" })
    })
    token = ((await answer.json()) as { readonly access_token: string }).access_token
    expect(token).toBeTruthy()
  }

  beforeAll(async () => {
    folder = await fs.mkdtemp(join(tmpdir(), "voltlake-superset-"))
    const url = new URL(stackEnv!.postgresUrl!)
    await run(url.href, `CREATE DATABASE ${database}`)
    url.pathname = `/${database}`
    owner = url.href
    lake = await TestLake.make({ env: { POSTGRES_URL: owner } })
    const file = await lake.file("events.ndjson", events(Date.now()).join("\n"))
    expect(await lake.replay([file])).toMatchObject({ silver: events(0).length })

    const project = await Effect.runPromise(ComposeProject.load(["docker-compose.yml"], { ...secrets, POSTGRES_PASSWORD: url.password }))
    const moved = (service: string) =>
      Object.fromEntries(Object.entries(project.services[service]!.environment!).map(([key, value]) => [
        key,
        value.replace("@postgres:5432/lakehouse", `@${url.host}/${database}`).replace("@postgres:5432/", `@${url.host}/`)
      ]))
    const roles = project.services["superset-roles"]!
    const makeRoles = () =>
      execFileSync(process.execPath, [join(repository, roles.command![1]!)], { env: { PATH: process.env["PATH"], ...moved("superset-roles") } })
    makeRoles()
    makeRoles()
    const env = moved("superset")
    goldReader = env["GOLD_DATABASE_URL"]!.replace("postgresql+psycopg2", "postgres")
    start = () => Effect.runPromise(SupersetServer.start(env, folder))
    superset = await start()
    // The first start makes all of Superset's tables, which takes longer than one wait does.
    await isUp().catch(() => isUp()).catch(() => isUp())
    if (superset.hasEnded()) throw new Error(`Superset ended: ${superset.log()}`)
    await login()
  })
  afterAll(async () => {
    await superset?.stop()
    await lake?.close()
    await fs.rm(folder, { recursive: true, force: true })
  })

  interface Listed {
    readonly count: number
    readonly result: ReadonlyArray<Record<string, unknown>>
  }
  const chartsOf = async () => {
    const { result } = await api("dashboard/tesla-fleet/charts") as { readonly result: ReadonlyArray<{ readonly id: number; readonly slice_name: string }> }
    return result
  }

  it("has the dashboard under its name, with its two charts, refreshed by itself", async () => {
    const { count, result } = await api(`dashboard/?q=${encodeURIComponent(`(filters:!((col:dashboard_title,opr:eq,value:'${title}')))`)}`) as Listed
    expect(count).toBe(1)
    expect(result[0]).toMatchObject({ dashboard_title: title, published: true })
    expect((await chartsOf()).map(({ slice_name }) => slice_name).sort()).toEqual(["Tesla Battery Level Over Time", "Tesla Telemetry Events Per Minute"])
    const { result: whole } = await api("dashboard/tesla-fleet") as { readonly result: { readonly json_metadata: string } }
    expect(JSON.parse(whole.json_metadata)).toMatchObject({ refresh_frequency: 30 })
    const datasets = await api("dataset/") as Listed
    expect(datasets.result.map((one) => one["table_name"]).sort()).toEqual(["gold_fleet_minute_metrics", "gold_vehicle_minute_metrics"])
  })

  it.each([
    ["Tesla Battery Level Over Time", "MIN(min_battery_percent)"],
    ["Tesla Telemetry Events Per Minute", "SUM(event_count)"]
  ])("draws %s from the rows that SQL finds", async (name, metric) => {
    const chart = (await chartsOf()).find(({ slice_name }) => slice_name === name)!
    const { result } = await api(`chart/${chart.id}/data/?force=true`) as {
      readonly result: ReadonlyArray<{ readonly data: ReadonlyArray<Record<string, number>>; readonly error: unknown }>
    }
    expect(result[0]?.error ?? null).toBeNull()
    const drawn = result[0]!.data.map((row) => [row["minute_ts"], row[metric]])
    const { rows } = await run(owner, `
      SELECT extract(epoch FROM minute_ts) * 1000 AS at, ${metric} AS value FROM gold_vehicle_minute_metrics GROUP BY minute_ts ORDER BY minute_ts DESC`)
    expect(rows.length).toBeGreaterThan(35)
    expect(drawn).toEqual(rows.map(({ at, value }) => [Number(at), Number(value)]))
    expect(new Set(drawn.map(([, value]) => value)).size).toBeGreaterThan(1)
  })

  it("reads gold as a role that can do nothing else", async () => {
    expect((await run(goldReader, "SELECT count(*) AS n FROM gold_fleet_minute_metrics")).rows[0]!["n"]).not.toBe("0")
    for (const sql of ["SELECT * FROM vehicle_signal_latest", "SELECT * FROM lake.gold_progress", "SELECT * FROM iceberg_tables"]) {
      await expect(run(goldReader, sql)).rejects.toThrow(/permission denied/)
    }
    for (const sql of ["DELETE FROM gold_fleet_minute_metrics", "CREATE TABLE of_mine (x int)", "CREATE TEMPORARY TABLE of_mine (x int)"]) {
      await expect(run(goldReader, sql)).rejects.toThrow(/permission denied|read-only transaction/)
      await expect(run(goldReader, "SET default_transaction_read_only = off", sql)).rejects.toThrow(/permission denied/)
    }
    const { result } = await api("database/") as Listed
    expect(JSON.stringify(result)).not.toContain(secrets["GOLD_READER_PASSWORD"])
  })

  it("lets nobody in without the password of .env", async () => {
    const answer = await fetch(`${superset.address}/api/v1/security/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "admin", password: "admin", provider: "db" })
    })
    expect(answer.status).toBe(401)
    expect((await fetch(`${superset.address}/api/v1/dashboard/tesla-fleet`)).status).not.toBe(200)
  })

  it("shows both charts in a browser, without a complaint", async () => {
    expect(existsSync(executable), `${executable} is missing: name another by CHROMIUM`).toBe(true)
    const browser = await chromium.launch({ executablePath: executable, args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"] })
    const page = await browser.newPage({ viewport: { width: 1280, height: 1250 } })
    try {
      await page.goto(`${superset.address}/login/`)
      await page.locator("input#username, input[name=username]").fill("admin")
      await page.locator("input#password, input[name=password]").fill(secrets["SUPERSET_ADMIN_PASSWORD"]!)
      await page.locator("button[type=submit], input[type=submit]").first().click()
      await page.waitForURL((url) => !url.pathname.includes("login"))
      await page.goto(`${superset.address}/superset/dashboard/tesla-fleet/`)
      for (const name of ["Tesla Battery Level Over Time", "Tesla Telemetry Events Per Minute"]) {
        await page.locator(`[data-test-chart-name="${name}"] canvas`).first().waitFor()
      }
      // Charts are drawn in an animation.
      await page.waitForTimeout(2000)
      expect(await page.locator("[data-test-chart-name] .ant-alert-error, [role=alert]").count()).toBe(0)
    } finally {
      const screenshot = process.env["VOLTLAKE_SCREENSHOT"]
      if (screenshot !== undefined) await page.screenshot({ path: screenshot })
      await browser.close()
    }
  })

  it("is the same after a second start, but for what others made", async () => {
    const before = (await chartsOf()).map(({ id }) => id)
    await superset.stop()
    superset = await start()
    await isUp()
    expect(superset.hasEnded(), superset.log()).toBe(false)
    await login()
    expect((await chartsOf()).map(({ id }) => id)).toEqual(before)
    expect(((await api("dashboard/")) as Listed).count).toBe(1)
  })
})
