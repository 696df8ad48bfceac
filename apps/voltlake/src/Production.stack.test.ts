// Processes as in production: Kafka, S3 and PostgreSQL are servers, and each stage runs in several processes that share its work.
import kafkajs from "kafkajs"
import { randomUUID } from "node:crypto"
import { Client } from "pg"
import { afterEach, beforeEach, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { statusAt, TestLake, waitForNoLag } from "@voltlake/testing/TestLake"
import type { VoltlakeProcess } from "@voltlake/testing/VoltlakeProcess"

interface HealthBody {
  readonly status: string
  readonly stages: ReadonlyArray<{ readonly stage: string; readonly state: string; readonly reason: string }>
}

const ask = async (process: VoltlakeProcess, path: string) => {
  const response = await fetch(`${await process.healthAddress()}${path}`)
  return { status: response.status, text: await response.text() }
}

const healthOf = async (process: VoltlakeProcess) => JSON.parse((await ask(process, "/health")).text) as HealthBody

/** Every process of a stage stands by for maintenance besides. */
const stageOf = async (process: VoltlakeProcess, name: string) =>
  (await healthOf(process)).stages.find(({ stage }) => stage === name)

const isReady = (process: VoltlakeProcess) =>
  waitFor(`process ${process.pid} to be ready`, async () => {
    const { status, text } = await ask(process, "/ready")
    if (status !== 200) throw new Error(text)
    return true
  })

/** The value of a metric of a stage; 0 where it has none yet. */
const metric = async (process: VoltlakeProcess, name: string) => {
  const line = (await ask(process, "/metrics")).text.split("\n").find((one) => one.startsWith(`${name}{`))
  return Number(line?.split(" ").at(-1) ?? 0)
}

/** A database of the test's own on the shared server. */
const withDatabase = async <A>(url: string, run: (client: Client) => Promise<A>): Promise<A> => {
  const client = new Client(url)
  client.on("error", () => undefined)
  await client.connect()
  return run(client).finally(() => client.end())
}

describeStack("kafka", "s3", "postgresUrl")("processes over Kafka, S3 and PostgreSQL", () => {
  let lake: TestLake
  let variables: Readonly<Record<string, string>>
  let database: string
  beforeEach(async () => {
    const id = randomUUID().slice(0, 8)
    database = `production_${id}`
    const url = new URL(stackEnv!.postgresUrl!)
    await withDatabase(url.toString(), (client) => client.query(`CREATE DATABASE ${database}`))
    url.pathname = `/${database}`
    variables = {
      ...stackEnv!.variables,
      POSTGRES_URL: url.toString(),
      KAFKA_TOPIC: `production-${id}`,
      WAREHOUSE: `${stackEnv!.s3!.warehouse}/production-${id}`,
      VOLTLAKE_HEALTH_PORT: "0"
    }
    lake = await TestLake.make({ env: variables })
  })
  afterEach(async () => {
    await lake.close()
    await withDatabase(stackEnv!.postgresUrl!, (client) => client.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`))
  })

  const send = async (seed: number) => {
    const made = TelemetryLines.make(SeededRandom.make(seed), 3000, { copies: 0.1, malformed: 0.02 })
    const file = await lake.file(`events-${seed}.ndjson`, made.lines.join("\n"))
    const finished = await lake.run(["replay", file])
    expect(finished.code, finished.stderr).toBe(0)
    return made
  }

  const expectInSilver = async (batches: ReadonlyArray<TelemetryLines.MadeLines>) => {
    const sum = (of: (lines: TelemetryLines.MadeLines) => number) => batches.reduce((total, lines) => total + of(lines), 0)
    const status = await lake.status()
    expect(status.stages.map(({ lag }) => lag)).toEqual([0, 0, 0, 0])
    expect(status).toMatchObject({ rejected: sum((lines) => lines.malformed), duplicates: sum((lines) => lines.copies), skipped: 0, lost: 0 })
    expect(status.stages.at(-1)?.rows).toBe(sum((lines) => lines.keys))
    expect(await lake.breaches()).toEqual([])
    expect(await lake.sql("SELECT count(*)::INT AS n FROM silver.telemetry_clean")).toEqual([{ n: sum((lines) => lines.keys) }])
  }

  it("share the work, take over from those that are killed, and end by SIGTERM within ten seconds; every event arrives once", async () => {
    const pair = (app: string) => [lake.serve(app), lake.serve(app)] as const
    const [bronze, silver, gold] = [pair("bronze"), pair("silver"), pair("gold")]
    const console = lake.serve("console", { VOLTLAKE_PORT: "0" })
    const address = await console.address()
    await Promise.all([...bronze, ...silver, ...gold, console].map(isReady))
    const sent = [await send(1)]
    await waitForNoLag(address)
    for (const process of [...bronze, ...silver]) {
      expect(await metric(process, "lake_stage_commits_total"), process.stderr()).toBeGreaterThan(0)
      // They may have taken the same partition for theirs at first, but none gave up work of its own for that of the other.
      expect((await ask(process, "/metrics")).text).not.toContain("kind=\"DeduplicationStale\"")
    }
    for (const parts of [bronze, silver, gold]) {
      const read = await Promise.all(parts.map((process) => metric(process, "lake_stage_offsets_total")))
      expect(read.reduce((sum, offsets) => sum + offsets, 0)).toBe(sent[0]!.lines.length)
      expect(await Promise.all(parts.map((process) => metric(process, "lake_stage_lag_offsets")))).toEqual([0, 0])
    }
    expect(await metric(console, "lake_lag_offsets")).toBe(0)
    const states = await Promise.all(gold.map(async (process) => (await stageOf(process, "gold"))?.state))
    expect([...states].sort()).toEqual(["running", "standby"])

    const killed = [bronze[0], silver[1], gold[states.indexOf("running")]!]
    await Promise.all(killed.map((process) => process.kill("SIGKILL")))
    const killedAt = performance.now()
    sent.push(await send(2))
    const rows = sent.reduce((total, lines) => total + lines.lines.length, 0)
    await waitFor("all records in bronze", async () => (await statusAt(address)).stages[1]?.rows === rows || undefined)
      .catch(async (error: unknown) => {
        const health = JSON.stringify(await healthOf(bronze[1]))
        throw new Error(`${String(error)}; the bronze that is left: ${health}\n${bronze[1].stderr()}`)
      })
    await waitForNoLag(address)
    const tookOverMs = performance.now() - killedAt
    expect(tookOverMs).toBeLessThan(30_000)

    // In the middle of the work.
    const sending = send(3)
    await waitFor("some of it", async () => ((await statusAt(address)).stages[1]?.rows ?? 0) > rows || undefined)
    const left = [...bronze, ...silver, ...gold, console].filter((process) => !killed.includes(process))
    const askedAt = performance.now()
    for (const { code, stderr } of await Promise.all(left.map((process) => process.kill("SIGTERM")))) {
      expect(code, stderr).toBe(0)
      expect(stderr).not.toContain("level=ERROR")
    }
    expect(performance.now() - askedAt).toBeLessThan(10_000)
    sent.push(await sending)
    const members = await withDatabase(variables["POSTGRES_URL"]!, (client) =>
      client.query("SELECT pid FROM lake.member WHERE heartbeat_at > now() - interval '5 seconds'"))
    expect(members.rows).toEqual([])

    const again = ["bronze", "silver", "gold"].map((app) => lake.serve(app))
    const page = await lake.serve("console", { VOLTLAKE_PORT: "0" }).address()
    await Promise.all(again.map(isReady))
    await waitForNoLag(page)
    await lake.endAll("SIGTERM")
    await expectInSilver(sent)
  }, 120_000)

  it("do not read a topic that was made anew, say so, and go on with it once it was adopted", async () => {
    const first = await send(4)
    const bronze = lake.serve("bronze")
    const page = await lake.serve("console", { VOLTLAKE_PORT: "0" }).address()
    lake.serve("silver")
    lake.serve("gold")
    await waitForNoLag(page)
    const refused = await lake.run(["log", "adopt"])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain("this is the log that bronze has read: nothing to adopt")

    const topic = variables["KAFKA_TOPIC"]!
    const admin = new kafkajs.Kafka({ brokers: stackEnv!.kafka!.split(","), logLevel: kafkajs.logLevel.NOTHING }).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [topic] })
    // The broker deletes in the background.
    await waitFor("the topic to be made anew", async () => {
      await admin.createTopics({ topics: [{ topic, numPartitions: 4 }], waitForLeaders: true })
      return true
    })
    await admin.disconnect()
    const second = await send(5)
    const reason = await waitFor("bronze to see it", async () => {
      const found = await stageOf(bronze, "bronze")
      return found?.state === "waiting" && found.reason.includes("LogReplaced") ? found.reason : undefined
    })
    expect(reason).toContain("voltlake log adopt")
    const adopted = await lake.json<{ readonly name: string; readonly differences: ReadonlyArray<string> }>(["log", "adopt"])
    expect(adopted).toMatchObject({ name: `${topic}~2` })
    expect(adopted.differences.length).toBeGreaterThan(0)
    await waitForNoLag(page)
    await waitFor("bronze to be well", async () => (await stageOf(bronze, "bronze"))?.state === "running" || undefined)
    expect(bronze.hasEnded()).toBe(false)
    await lake.endAll("SIGTERM")
    await expectInSilver([first, second])
  }, 90_000)

  it("wait for servers that are not there yet and say so, but end where somebody has to act", async () => {
    const away = lake.serve("bronze", { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" })
    const ready = await waitFor("the reason", async () => {
      const answer = await ask(away, "/ready")
      return answer.text.includes("first step: ") ? answer : undefined
    })
    expect(ready.status).toBe(503)
    expect(ready.text).toMatch(/ensureTopic on topic production-\w+ failed|partitions on topic/)
    expect(await healthOf(away)).toMatchObject({ status: "ok", stages: [{ stage: "bronze", state: "waiting" }] })
    expect((await away.kill("SIGTERM")).code).toBe(0)

    const noDatabase = lake.serve("gold", { POSTGRES_URL: "postgres://nobody:secret@127.0.0.1:1/none" })
    await waitFor("the reason", () => noDatabase.stderr().includes("ECONNREFUSED") || undefined)
    expect(await ask(noDatabase, "/ready")).toMatchObject({ status: 503 })
    expect((await noDatabase.kill("SIGTERM")).code).toBe(0)
    expect(noDatabase.stderr()).not.toContain("secret")

    const wrongPassword = new URL(variables["POSTGRES_URL"]!)
    wrongPassword.password = "not-the-password"
    const refused = await Promise.all([
      lake.serve("silver", { POSTGRES_URL: wrongPassword.toString() }).ended,
      lake.serve("silver", { WAREHOUSE: "s3://no-such-bucket-here" }).ended,
      lake.serve("silver", { SILVER_BATCH_ROWS_MAX: "many" }).ended,
      lake.serve("console", { VOLTLAKE_HOST: "0.0.0.0", VOLTLAKE_PORT: "0" }).ended
    ])
    expect(refused.map(({ code }) => code)).toEqual([1, 1, 1, 1])
    const [password, bucket, setting, open] = refused.map(({ stderr }) => stderr)
    expect(password).toContain("password authentication failed")
    expect(password).not.toContain("not-the-password")
    expect(bucket).toContain("NoSuchBucket")
    expect(setting).toContain("SILVER_BATCH_ROWS_MAX")
    expect(open).toContain("set VOLTLAKE_TOKEN")
  }, 60_000)
})
