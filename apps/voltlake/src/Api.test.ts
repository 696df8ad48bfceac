import { Schema } from "effect"
import { request } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as OpsApi from "@voltlake/api/OpsApi"
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
      .toEqual([
        "/api/dags", "/api/dashboard", "/api/events", "/api/live", "/api/runs", "/api/runs/{run}", "/api/runs/{run}/logs", "/api/status", "/health", "/ready"
      ])
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

  const get = async (path: string) => {
    const response = await fetch(`${address}${path}`)
    return { status: response.status, json: await response.json() as unknown }
  }
  const decoded = async <A, I>(schema: Schema.Schema<A, I>, path: string) => Schema.decodeUnknownSync(schema)((await get(path)).json)

  it("tells of DAGs and of a run with its tasks, attempts and logs what the command line tells", async () => {
    const name = "orphan_removal"
    const { id } = await lake.json<{ readonly id: string }>(["dag", "trigger", "--wait", name])
    const dags = await decoded(Schema.Array(OpsApi.Dag), "/api/dags")
    expect(dags.map((dag) => ({ ...dag, next: null, lastRun: null })))
      .toEqual((await lake.json<ReadonlyArray<object>>(["dag", "list"])).map((dag) => ({ ...dag, next: null, lastRun: null })))
    expect(dags.find((dag) => dag.name === name)).toMatchObject({ schedule: "40 3 * * *", maxActiveRuns: 1, lastRun: { id, state: "succeeded" } })
    const [newest] = await decoded(Schema.Array(OpsApi.Run), `/api/runs?dag=${name}&limit=1`)
    expect([newest]).toEqual(await lake.json(["dag", "runs", "--limit", "1", name]))
    const run = await decoded(OpsApi.RunDetails, `/api/runs/${id}`)
    expect(run).toEqual(await lake.json(["dag", "show", id]))
    expect(run.tasks).toMatchObject([{ task: "orphans", state: "succeeded", attempts: [{ attempt: 1, state: "succeeded", seconds: expect.any(Number) }] }])
    expect(await decoded(Schema.Array(OpsApi.LogLine), `/api/runs/${id}/logs`)).toEqual(await lake.json(["dag", "logs", id]))
  })

  it("answers events after an id, and commits where they are asked for", async () => {
    const events = (query: string) => decoded(Schema.Array(OpsApi.Event), `/api/events?${query}`)
    const [commit] = await events("kind=table_committed&limit=1")
    expect(commit).toMatchObject({ severity: "INFO", facts: { by: "voltlake" } })
    const [next] = await events(`after=${commit!.id}&all=true&limit=1`)
    expect(Number(next?.id ?? commit!.id)).toBeGreaterThanOrEqual(Number(commit!.id))
    expect((await events("")).map(({ kind }) => kind)).not.toContain("table_committed")
    expect((await events("after=0")).map(({ kind }) => kind)).toContain("run_succeeded")
    expect(await events("severity=ERROR")).toEqual([])
  })

  it("answers 404 for a run that is not there, and 400 for what cannot be asked", async () => {
    for (const run of ["nonsense", "00000000-0000-4000-8000-000000000000"]) {
      for (const path of [`/api/runs/${run}`, `/api/runs/${run}/logs`]) expect(await get(path)).toEqual({ status: 404, json: { _tag: "RunNotFound", run } })
    }
    for (const query of ["limit=0", "limit=1001", "limit=x"]) expect([query, (await get(`/api/runs?${query}`)).status]).toEqual([query, 400])
    for (const query of ["after=x", "after=-1", "severity=BAD", "all=perhaps"]) expect([query, (await get(`/api/events?${query}`)).status]).toEqual([query, 400])
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
