/** The command line on a stack of the test's own, whose servers are killed. */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3"
import { Kafka, logLevel } from "kafkajs"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Pg from "pg"
import { stackEnv } from "@voltlake/testing/RealStack"
import { launch, parseOutput } from "@voltlake/testing/VoltlakeProcess"
import type { Fetched, ServerStatus } from "./Stack.ts"

// Servers that the run was given are none of this stack's.
const own = { KAFKA_BOOTSTRAP_SERVERS: "", S3_ENDPOINT: "", POSTGRES_URL: "" }

const stack = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  launch(args, { app: "stack", env: { ...own, ...cacheSetting, ...env } }).ended

// The tests' processes are started without VOLTLAKE settings, and the programs are those of the run.
const cache = process.env["VOLTLAKE_CACHE_DIR"]
const cacheSetting: Readonly<Record<string, string>> = cache === undefined ? {} : { VOLTLAKE_CACHE_DIR: cache }

// Where the run's own stack is, so that nothing is left where this file is interrupted.
const folder = stackEnv?.dir ?? ""
const dir = join(folder, "killed")

const succeed = async (...args: ReadonlyArray<string>) => {
  const { code, stderr, stdout } = await stack([...args, "--dir", dir])
  expect(code, stderr).toBe(0)
  return stdout
}

const status = async () => JSON.parse(await succeed("status", "--json")) as ReadonlyArray<ServerStatus>

const env = async () =>
  Object.fromEntries((await succeed("env")).trim().split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]))

const canRun = JSON.parse((await stack(["fetch", "--json", "--dir", dir])).stdout) as ReadonlyArray<Fetched>

/** Processes that name the stack's folder on their command lines. */
const processes = () =>
  readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, "utf8").includes(dir)
    } catch {
      return false
    }
  })

const kafkaOf = (address: string) => new Kafka({ brokers: [address], logLevel: logLevel.NOTHING })

const send = async (address: string, topic: string, values: ReadonlyArray<string>) => {
  const admin = kafkaOf(address).admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] })
  await admin.disconnect()
  const producer = kafkaOf(address).producer()
  await producer.connect()
  await producer.send({ topic, acks: -1, messages: values.map((value) => ({ value })) })
  await producer.disconnect()
}

const receive = async (address: string, topic: string, count: number) => {
  const consumer = kafkaOf(address).consumer({ groupId: "stack-test" })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const values: Array<string> = []
  await new Promise<void>((resolve) => {
    void consumer.run({
      eachMessage: async ({ message }) => {
        values.push(String(message.value))
        if (values.length === count) resolve()
      }
    })
  })
  await consumer.disconnect()
  return values
}

const s3Of = (variables: Readonly<Record<string, string>>) =>
  new S3Client({
    endpoint: variables["S3_ENDPOINT"]!,
    region: variables["AWS_REGION"]!,
    credentials: { accessKeyId: variables["AWS_ACCESS_KEY_ID"]!, secretAccessKey: variables["AWS_SECRET_ACCESS_KEY"]! },
    forcePathStyle: true
  })

const query = async (url: string, sql: string) => {
  const client = new Pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql)).rows as ReadonlyArray<Record<string, unknown>>
  } finally {
    await client.end()
  }
}

afterAll(() => stack(["wipe", "--dir", dir]))

describe.skipIf(canRun.some(({ missing }) => missing !== null))("A stack", () => {
  let started: ReadonlyArray<ServerStatus> = []

  beforeAll(async () => {
    // Two at once, on a folder that is not there yet.
    const [first, second] = await Promise.all([stack(["up", "--json", "--dir", dir]), stack(["up", "--json", "--dir", dir])])
    started = parseOutput<ReadonlyArray<ServerStatus>>(first)
    expect(parseOutput(second)).toEqual(started)
  })

  it("is one, healthy, whoever starts it and how many", async () => {
    expect(started.map(({ server, state }) => [server, state])).toEqual([["kafka", "healthy"], ["s3", "healthy"], ["postgres", "healthy"]])
    expect(await status()).toEqual(started)
    expect(processes().filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("kafka.Kafka"))).toHaveLength(1)
  })

  it("tells clients what they need, and keeps it from others", async () => {
    const variables = await env()
    expect(Object.keys(variables)).toEqual([
      "KAFKA_BOOTSTRAP_SERVERS", "S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "WAREHOUSE", "POSTGRES_URL"
    ])
    expect(variables["WAREHOUSE"]).toBe("s3://lakehouse")
    for (const name of ["s3.json", "postgres.json"]) expect(statSync(join(dir, name)).mode & 0o077).toBe(0)
    expect(JSON.stringify(started)).not.toContain(new URL(variables["POSTGRES_URL"]!).password)
  })

  it("keeps the records of a Kafka that was killed, and its port", async () => {
    const { KAFKA_BOOTSTRAP_SERVERS: address } = await env()
    await send(address!, "kept", ["a", "b", "c"])
    await succeed("kill", "kafka")
    expect((await status()).map(({ state }) => state)).toEqual(["stopped", "healthy", "healthy"])
    await succeed("up", "kafka")
    expect((await env())["KAFKA_BOOTSTRAP_SERVERS"]).toBe(address)
    expect(await receive(address!, "kept", 3)).toEqual(["a", "b", "c"])
  })

  it("keeps the objects of an S3 server that was killed, and its port", async () => {
    const variables = await env()
    const client = s3Of(variables)
    await client.send(new PutObjectCommand({ Bucket: "lakehouse", Key: "kept/object", Body: "bytes" }))
    await expect(client.send(new CreateBucketCommand({ Bucket: "lakehouse" }))).rejects.toThrow()
    await succeed("kill", "s3")
    await succeed("up", "s3")
    expect(await env()).toEqual(variables)
    const { Body } = await client.send(new GetObjectCommand({ Bucket: "lakehouse", Key: "kept/object" }))
    expect(await Body!.transformToString()).toBe("bytes")
  })

  it("keeps the rows of a PostgreSQL that was killed, and its port", async () => {
    const { POSTGRES_URL: url } = await env()
    await query(url!, "CREATE TABLE kept AS SELECT 42 AS answer")
    await succeed("kill", "postgres")
    await expect(query(url!, "SELECT 1")).rejects.toThrow()
    await succeed("restart", "postgres")
    expect((await env())["POSTGRES_URL"]).toBe(url)
    expect(await query(url!, "SELECT answer FROM kept")).toEqual([{ answer: 42 }])
  })

  it("uses a server that the environment names, and starts none in its place", async () => {
    const { code, stderr, stdout } = await stack(["up", "kafka", "--json", "--dir", join(folder, "other")], { KAFKA_BOOTSTRAP_SERVERS: "127.0.0.1:1" })
    expect(code, stderr).toBe(0)
    const [kafka] = JSON.parse(stdout) as ReadonlyArray<ServerStatus>
    expect(kafka).toMatchObject({ state: "external", address: "127.0.0.1:1", pid: null })
    // What `env` printed, evaluated in a shell, does not turn the stack's own server into another's.
    const [ours] = JSON.parse((await stack(["status", "--json", "--dir", dir], await env())).stdout) as ReadonlyArray<ServerStatus>
    expect(ours).toMatchObject({ state: "healthy" })
  })

  it("leaves no process when it is down, and no file when it is wiped", async () => {
    expect(processes().length).toBeGreaterThanOrEqual(3)
    await succeed("down")
    expect(processes()).toEqual([])
    expect((await status()).map(({ state }) => state)).toEqual(["stopped", "stopped", "stopped"])
    await succeed("wipe")
    expect(existsSync(dir)).toBe(false)
  })
})

describe("The command line of the stack", () => {
  it("says which program is missing, what for, and what to do", async () => {
    const bare = { PATH: join(folder, "nothing"), VOLTLAKE_CACHE_DIR: join(folder, "cache") }
    const java = await stack(["up", "kafka", "--dir", join(folder, "bare")], bare)
    expect(java.code).toBe(1)
    expect(java.stderr).toMatch(/^stack: java is not on the PATH; it is needed for running Kafka: install .+\n$/)
    const go = await stack(["up", "s3", "--dir", join(folder, "bare")], bare)
    expect(go.stderr).toMatch(/stack: go is not on the PATH; it is needed for building the S3 server versitygw .+: install Go/)
  })

  it("touches no folder that holds other things", async () => {
    const other = join(folder, "project")
    mkdirSync(other, { recursive: true })
    writeFileSync(join(other, "file"), "")
    expect((await stack(["up", "postgres", "--dir", other])).stderr).toContain("holds other things than a stack")
    expect((await stack(["wipe", "--dir", other])).stderr).toContain("holds no stack")
    expect(readdirSync(other)).toEqual(["file"])
  })
})
