import { request } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { TestLake } from "@voltlake/testing/TestLake"

/** `fetch` sets the Host header itself, so this asks by hand. */
const ask = (address: string, path: string, host: string | undefined, method = "GET") =>
  new Promise<{ readonly status: number; readonly body: string }>((resolve, reject) => {
    const { hostname, port } = new URL(address)
    const headers = host === undefined ? {} : { host }
    request({ hostname, port, path, method, headers, setHost: false }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (text: string) => (body += text))
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }))
    }).on("error", reject).end()
  })

interface Message {
  readonly status: { readonly stages: ReadonlyArray<{ readonly stage: string; readonly state: string; readonly rows: string }> }
  readonly minutes: ReadonlyArray<{ readonly minute: string; readonly events: number }>
}

/** Reads messages of the stream until one satisfies. */
const messagesUntil = async (address: string, satisfies: (messages: ReadonlyArray<Message>) => boolean) => {
  const abort = new AbortController()
  const response = await fetch(`${address}/api/live`, { signal: abort.signal })
  expect(response.headers.get("content-type")).toMatch(/^text\/event-stream/)
  const messages: Array<Message> = []
  let text = ""
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true })
    const parts = text.split("\n\n")
    text = parts.pop() ?? ""
    for (const part of parts) messages.push(JSON.parse(part.replace(/^data: /, "")) as Message)
    if (satisfies(messages)) break
  }
  abort.abort()
  return messages
}

const rowsOfGold = (message: Message | undefined) =>
  Number(message?.status.stages.find(({ stage }) => stage === "gold")?.rows ?? 0)

describe("the API of start", () => {
  let lake: TestLake
  let address: string
  beforeAll(async () => {
    lake = await TestLake.make()
    address = await lake.start([], { env: { SIMULATOR_EVENTS_PER_SECOND: "200" } }).address()
  })
  afterAll(() => lake.close())

  it("describes its endpoints in /openapi.json", async () => {
    const document = await (await fetch(`${address}/openapi.json`)).json() as { readonly openapi: string; readonly paths: object }
    expect(document.openapi).toMatch(/^3\./)
    expect(Object.keys(document.paths).sort())
      .toEqual(["/api/dashboard", "/api/live", "/api/status", "/health", "/ready"])
  })

  it("is healthy at once, and ready as soon as the tables are there", async () => {
    expect((await fetch(`${address}/health`)).status).toBe(200)
    await waitFor("200 at /ready", async () => (await fetch(`${address}/ready`)).ok ? true : undefined)
  })

  it("refuses requests that name another host, for every path", async () => {
    const { port } = new URL(address)
    for (const path of ["/", "/app.js", "/api/status", "/api/live", "/openapi.json", "/health", "/nowhere"]) {
      for (const host of ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "localhost.", "127.0.0.1@evil.example"]) {
        expect([path, host, (await ask(address, path, host)).status]).toEqual([path, host, 421])
      }
    }
    for (const host of ["127.0.0.1", `127.0.0.1:${port}`, `localhost:${port}`, `LOCALHOST:${port}`, `[::1]:${port}`]) {
      expect([host, (await ask(address, "/health", host)).status]).toEqual([host, 200])
    }
  })

  it("listens on 127.0.0.1 only, and sends headers that keep the page to itself", async () => {
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const { headers } = await fetch(address)
    expect(headers.get("content-security-policy")).toMatch(/default-src 'self'/)
    expect(headers.get("x-content-type-options")).toBe("nosniff")
    expect(headers.get("access-control-allow-origin")).toBeNull()
  })

  it("answers wrong requests with 400 and 404, and goes on", async () => {
    for (const minutes of ["0", "x", "-5", "1.5", "1441", ""]) {
      expect([minutes, (await fetch(`${address}/api/dashboard?minutes=${minutes}`)).status]).toEqual([minutes, 400])
    }
    for (const path of ["/nowhere", "/../package.json", "/%2e%2e/voltlake.mjs", "/api"]) {
      expect([path, (await ask(address, path, "localhost")).status]).toEqual([path, 404])
    }
    expect((await ask(address, "/api/status", "localhost", "POST")).status).toBe(404)
    expect((await fetch(`${address}/health`)).status).toBe(200)
  })

  it("bounds a dashboard by the minutes asked for", async () => {
    const dashboard = await (await fetch(`${address}/api/dashboard?minutes=1`)).json() as Message
    expect(dashboard.minutes.length).toBeLessThanOrEqual(1)
  })

  it("streams the dashboard to every viewer while gold grows", async () => {
    const hasGrown = (messages: ReadonlyArray<Message>) =>
      messages.length > 1 && rowsOfGold(messages.at(-1)) > rowsOfGold(messages[0])
    const views = await Promise.all([messagesUntil(address, hasGrown), messagesUntil(address, hasGrown)])
    for (const messages of views) {
      // What writes to the log is no stage of the process, whose health it could tell.
      const [ingest, ...own] = messages.at(-1)?.status.stages ?? []
      expect(ingest?.stage).toBe("ingest")
      expect(own.map(({ stage, state }) => `${stage} ${state}`)).toEqual(["bronze running", "silver running", "gold running"])
      expect(messages.at(-1)?.minutes.length).toBeGreaterThan(0)
    }
  })
})
