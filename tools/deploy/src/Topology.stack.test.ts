/**
 * The topology of docker-compose.yml without containers: each of our services by its command, in its environment and under its account, with the names
 * of hosts replaced by where the stack's servers listen.
 */
import { Effect, Either } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Client } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as ComposeProject from "./ComposeProject.ts"
import * as EnvFile from "./EnvFile.ts"

const names = ["ingestor", "bronze", "silver", "gold", "console"] as const
const id = randomUUID().slice(0, 8)
const database = `topology_${id}`
const bundles = process.env["VOLTLAKE_DIST"] ?? join(repository, "dist")
const reader = await Effect.runPromise(Effect.either(ComposeProject.program))
if (Either.isLeft(reader)) console.log(`the topology of docker-compose.yml is not tried: ${reader.left.message}`)

/** Beside the service's own a container has the image's variables, and no others. */
const imageEnvironment = Object.fromEntries(
  Array.from(readFileSync(join(repository, "deploy/Dockerfile"), "utf8").matchAll(/^ENV (.*)$/gm), ([, line]) => line!.split(" "))
    .flat().map((pair) => pair.split("=") as [string, string])
)

/** What stands in the file for another machine's address, and what has to differ where all share one machine and others its servers. */
const moved = (environment: Readonly<Record<string, string>>, dataDir: string): Record<string, string> => {
  const postgres = new URL(stackEnv!.postgresUrl!)
  const replaced = Object.entries(environment).map(([key, value]) => [
    key,
    value
      .replace("kafka:19092", stackEnv!.kafka!)
      .replace("http://s3:7070", stackEnv!.s3!.endpoint)
      .replace("@postgres:5432/lakehouse", `@${postgres.host}/${database}`)
  ])
  return {
    ...Object.fromEntries(replaced),
    VOLTLAKE_DATA_DIR: dataDir,
    VOLTLAKE_HEALTH_PORT: "0",
    VOLTLAKE_HOST: "127.0.0.1",
    KAFKA_TOPIC: `${environment["KAFKA_TOPIC"]}-${id}`,
    WAREHOUSE: `${environment["WAREHOUSE"]}/topology-${id}`,
    ...(environment["VOLTLAKE_PORT"] === undefined ? {} : { VOLTLAKE_PORT: "0" })
  }
}

/** Whether other accounts may pass all folders on the way. */
const mayEnter = (path: string) => {
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false
  }
  return true
}

const admin = async (query: string, at = stackEnv!.postgresUrl!) => {
  const client = new Client(at)
  await client.connect()
  return client.query(query).finally(() => client.end())
}

const describeTopology = Either.isLeft(reader) ? describe.skipIf(true) : describeStack("kafka", "s3", "postgresUrl")

describeTopology("the services of docker-compose.yml as processes", () => {
  const secrets = EnvFile.make()
  const running = new Map<string, { readonly child: ChildProcess; readonly out: { text: string } }>()
  let folder: string
  let project: ComposeProject.Project
  const environments = new Map<string, Record<string, string>>()

  const addressOf = (name: string, pattern: RegExp) =>
    waitFor(`the address of ${name}`, () => {
      const { child, out } = running.get(name)!
      if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: ${out.text}`)
      return pattern.exec(out.text)?.[1]
    })
  const healthOf = (name: string) => addressOf(name, /"health, readiness and metrics are served".*"address":"(http:[^"]+)"/)
  const page = () => addressOf("console", /The page is at (http:\S+)\n/)

  beforeAll(async () => {
    folder = await fs.realpath(await fs.mkdtemp(join(tmpdir(), "voltlake-topology-")))
    const url = new URL(stackEnv!.postgresUrl!)
    const s3 = stackEnv!.s3!
    project = await Effect.runPromise(ComposeProject.load(["docker-compose.yml"], {
      ...secrets,
      POSTGRES_PASSWORD: url.password,
      S3_ACCESS_KEY: s3.accessKeyId,
      S3_SECRET_KEY: s3.secretAccessKey
    }))
    await admin(`CREATE DATABASE ${database}`)
    const dataDir = join(folder, "lake")
    await fs.mkdir(dataDir)
    // As the image's folder, so the volume: owned by the account that the services run as.
    const account = process.getuid?.() === 0 && mayEnter(bundles) && mayEnter(process.execPath) ? { uid: 10_001, gid: 10_001 } : {}
    if (account.uid === undefined) {
      console.log("the services run under this account, since it cannot start processes of another one, or that cannot reach this folder")
    } else {
      await fs.chmod(folder, 0o755)
      await fs.chown(dataDir, account.uid, account.gid)
    }
    for (const name of names) {
      const { command, environment } = project.services[name]!
      const env = moved(environment!, dataDir)
      environments.set(name, env)
      const [, bundle] = command!
      const child = spawn(process.execPath, [join(bundles, bundle!.replace("dist/", ""))], {
        cwd: "/",
        env: { PATH: process.env["PATH"], ...imageEnvironment, ...env },
        stdio: ["ignore", "pipe", "pipe"],
        ...account
      })
      const out = { text: "" }
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (out.text += text))
      running.set(name, { child, out })
    }
  })
  afterAll(async () => {
    for (const { child } of running.values()) child.kill("SIGKILL")
    await admin(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
    await fs.rm(folder, { recursive: true, force: true })
  })

  it("name no host any more but those of the stack", () => {
    for (const [name, env] of environments) {
      expect(Object.values(env).filter((value) => /\b(kafka:19092|s3:7070|postgres:5432)\b/.test(value)), name).toEqual([])
    }
  })

  it("become healthy, by the file's own check", async () => {
    for (const name of names) {
      const port = new URL(await healthOf(name)).port
      const test = project.services[name]!.healthcheck!.test!
      expect(test.slice(0, 3)).toEqual(["CMD", "node", "-e"])
      await waitFor(`${name} to be ready`, async () => {
        const answer = await fetch(`http://127.0.0.1:${port}/ready`)
        if (!answer.ok) throw new Error(await answer.text())
        return true
      })
      execFileSync(process.execPath, ["-e", test[3]!], { env: { VOLTLAKE_HEALTH_PORT: port } })
    }
    expect(() => execFileSync(process.execPath, ["-e", project.services["gold"]!.healthcheck!.test![3]!], { env: { VOLTLAKE_HEALTH_PORT: "1" } })).toThrow()
  })

  it("bring the simulated fleet's events to gold", async () => {
    const total = async () =>
      Number((await admin("SELECT coalesce(sum(total_events), 0) AS n FROM gold_fleet_minute_metrics", environments.get("gold")!["POSTGRES_URL"])).rows[0].n)
    await waitFor("events in gold", async () => (await total()) > 50 || undefined)
  })

  it("show them to nobody without the token of .env", async () => {
    const status = `${await page()}/api/status`
    expect((await fetch(status)).status).toBe(401)
    expect((await fetch(status, { headers: { authorization: `Bearer ${"0".repeat(48)}` } })).status).toBe(401)
    const shown = await fetch(status, { headers: { authorization: `Bearer ${secrets["VOLTLAKE_TOKEN"]}` } })
    expect(shown.status).toBe(200)
    expect(((await shown.json()) as { readonly stages: ReadonlyArray<unknown> }).stages).toHaveLength(4)
  })

  it("hold no more memory than half of their limits", async () => {
    for (const name of names) {
      const metrics = await (await fetch(`${await healthOf(name)}/metrics`)).text()
      const bytes = Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1])
      expect(bytes, name).toBeGreaterThan(0)
      expect(bytes, name).toBeLessThan(Number(project.services[name]!.deploy!.resources!.limits!.memory) / 2)
      if (process.env["VOLTLAKE_FIGURES"] !== undefined) console.log(name, `${Math.round(bytes / 1e6)} MB`)
    }
  })

  it("end by SIGTERM within their grace period, and told no error", async () => {
    const graceMs = 15_000
    const askedAt = performance.now()
    const ends = names.map((name) => {
      const { child, out } = running.get(name)!
      return new Promise<void>((resolve, reject) => {
        child.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${name} ended with ${code}: ${out.text}`))))
        child.kill("SIGTERM")
      })
    })
    await Promise.all(ends)
    expect(performance.now() - askedAt).toBeLessThan(graceMs)
    for (const [name, { out }] of running) expect(out.text, name).not.toContain("\"logLevel\":\"ERROR\"")
  })
})
