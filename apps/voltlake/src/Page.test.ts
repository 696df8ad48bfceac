// The page in a real browser, over a real lake with the simulator.
import { existsSync } from "node:fs"
import { type Browser, chromium, type Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { TestLake } from "@voltlake/testing/TestLake"

const executable = process.env["CHROMIUM"] ?? "/usr/bin/chromium"

// In CI a missing browser is a failure, not a reason to say nothing.
const isWanted = existsSync(executable) || process.env["CI"] !== undefined

const browserArgs = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

const stages = ["ingest", "bronze", "silver", "gold"]
const titles = ["Tesla Battery Level Over Time", "Tesla Telemetry Events Per Minute"]

describe.skipIf(!isWanted)(`the page in Chromium (${executable}, skipped where that is absent)`, () => {
  let lake: TestLake
  let browser: Browser
  let page: Page
  const complaints: Array<string> = []
  const asked: Array<string> = []
  let address: string

  beforeAll(async () => {
    lake = await TestLake.make()
    address = await lake.start([], { env: { SIMULATOR_EVENTS_PER_SECOND: "200" } }).address()
    browser = await chromium.launch({ executablePath: executable, args: browserArgs })
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text())
    })
    page.on("pageerror", (error) => complaints.push(error.message))
    page.on("request", (request) => asked.push(request.url()))
    await page.goto(address)
  })
  afterAll(async () => {
    await browser?.close()
    await lake.close()
  })

  const rows = async () =>
    Promise.all(stages.map(async (stage) => Number(await page.locator(`[data-stage=${stage}] [data-rows]`).getAttribute("data-rows"))))

  it("says that it is live", async () => {
    await page.waitForSelector("[data-connection=live]")
    expect(await page.locator("[role=status]").innerText()).toBe("live")
  })

  it("draws both charts under the names that they have had, with points", async () => {
    for (const title of titles) {
      const chart = page.locator(`[role=img][aria-label^="${title}"]`)
      await chart.locator("svg text", { hasText: title }).waitFor()
      await page.waitForFunction(
        (label) => Number(document.querySelector(`[aria-label^="${label}"]`)?.getAttribute("data-points")) > 0,
        title
      )
    }
  })

  it("shows the rows of every stage grow without a reload", async () => {
    await page.evaluate("window.notReloaded = true")
    await page.waitForFunction((names) =>
      names.every((name) => Number(document.querySelector(`[data-stage=${name}] [data-rows]`)?.getAttribute("data-rows")) > 0), stages)
    const before = await rows()
    await page.waitForFunction(([names, known]) =>
      names.every((name, index) =>
        Number(document.querySelector(`[data-stage=${name}] [data-rows]`)?.getAttribute("data-rows")) > known[index]!), [stages, before] as const)
    expect(await page.evaluate("window.notReloaded")).toBe(true)
    for (const [index, count] of (await rows()).entries()) expect(count).toBeGreaterThan(before[index]!)
    const shown = await page.locator("[data-stage=bronze] [data-rows]").innerText()
    expect(Number(shown.replaceAll(",", ""))).toBeGreaterThan(before[1]!)
  })

  it("fits a narrow screen", async () => {
    await page.setViewportSize({ width: 390, height: 800 })
    await page.waitForFunction(() => document.documentElement.scrollWidth <= 390)
    for (const title of titles) {
      expect((await page.locator(`[aria-label^="${title}"] svg`).boundingBox())?.width).toBeLessThanOrEqual(390)
    }
    await page.setViewportSize({ width: 1280, height: 900 })
  })

  it("asks nobody but its own server, and complains of nothing", async () => {
    const screenshot = process.env["VOLTLAKE_SCREENSHOT"]
    if (screenshot !== undefined) await page.screenshot({ path: screenshot, fullPage: true })
    expect(asked.filter((url) => !url.startsWith(`${address}/`))).toEqual([])
    expect(complaints).toEqual([])
  })

  it("says that the connection is lost when start ends, and is live again when it is back", async () => {
    const { port } = new URL(address)
    await lake.endAll("SIGINT")
    await page.waitForSelector("[data-connection=lost]")
    await lake.launch(["start", "--port", port]).address()
    await page.waitForSelector("[data-connection=live]")
  })
})
