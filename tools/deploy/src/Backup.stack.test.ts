/** docs/BACKUP.md, step by step: saved while records come in, everything lost, restored, and gone on with. */
import { DeleteObjectsCommand, paginateListObjectsV2, S3Client } from "@aws-sdk/client-s3"
import { Effect, Either } from "effect"
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { cp, readdir } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { Client } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitFor } from "@voltlake/testing/Condition"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import { statusAt, TestLake, waitForNoLag } from "@voltlake/testing/TestLake"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as PostgresClients from "./PostgresClients.ts"

const exec = promisify(execFile)
const clients = await Effect.runPromise(Effect.either(PostgresClients.folder))
if (Either.isLeft(clients)) console.log(`backups are not tried: ${clients.left.message}`)
const describeBackup = Either.isLeft(clients) ? describe.skipIf(true) : describeStack("kafka", "s3", "postgresUrl")

describeBackup("A backup", () => {
  const id = randomUUID().slice(0, 8)
  const database = `backup_${id}`
  const prefix = `backup-${id}`
  let variables: Readonly<Record<string, string>>
  let lake: TestLake

  const admin = async (sql: string) => {
    const client = new Client(stackEnv!.postgresUrl!)
    await client.connect()
    await client.query(sql).finally(() => client.end())
  }
  const program = (name: string, ...args: ReadonlyArray<string>) => exec(join(Either.getOrThrow(clients), name), args)
  const bucket = async (...args: ReadonlyArray<string>) =>
    (await exec(process.execPath, [join(repository, "deploy/backup/bucket.mjs"), ...args], { env: { ...process.env, ...variables } })).stdout

  /** What a lost bucket is: every object of the lake, whatever its age. */
  const loseBucket = async () => {
    const { accessKeyId, endpoint, region, secretAccessKey } = stackEnv!.s3!
    const client = new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true })
    const Bucket = new URL(stackEnv!.s3!.warehouse).host
    let deleted = 0
    for await (const page of paginateListObjectsV2({ client }, { Bucket, Prefix: `${prefix}/` })) {
      const Objects = (page.Contents ?? []).map(({ Key }) => ({ Key: Key! }))
      if (Objects.length > 0) await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))
      deleted += Objects.length
    }
    client.destroy()
    return deleted
  }

  const send = async (seed: number, count: number) => {
    const made = TelemetryLines.make(SeededRandom.make(seed), count, { copies: 0.1, malformed: 0.02 })
    const finished = await lake.run(["replay", await lake.file(`${seed}.ndjson`, made.lines.join("\n"))])
    expect(finished.code, finished.stderr).toBe(0)
  }

  const startAll = async () => {
    for (const app of ["bronze", "silver", "gold"]) lake.serve(app)
    return lake.serve("console", { VOLTLAKE_PORT: "0" }).address()
  }

  const golden = async () => {
    const client = new Client(variables["POSTGRES_URL"])
    await client.connect()
    const { rows } = await client.query("SELECT * FROM gold_vehicle_minute_metrics ORDER BY vehicle_id, minute_ts").finally(() => client.end())
    return rows as ReadonlyArray<unknown>
  }

  beforeAll(async () => {
    await admin(`CREATE DATABASE ${database}`)
    const url = new URL(stackEnv!.postgresUrl!)
    url.pathname = `/${database}`
    variables = { ...stackEnv!.variables, POSTGRES_URL: url.href, KAFKA_TOPIC: prefix, WAREHOUSE: `${stackEnv!.s3!.warehouse}/${prefix}` }
    lake = await TestLake.make({ env: variables })
  })
  afterAll(async () => {
    await lake.close()
    await admin(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`)
  })

  it("taken while records come in brings everything back, and the lake goes on", async () => {
    const url = variables["POSTGRES_URL"]!
    const dump = join(lake.folder, "lake.dump")
    const objects = join(lake.folder, "objects")
    await send(1, 3000)
    const page = await startAll()
    await waitForNoLag(page)
    const atFirst = (await statusAt(page)).stages.at(-1)!.rows

    const sending = send(2, 3000)
    await waitFor("some of it", async () => (await statusAt(page)).stages.at(-1)!.rows > atFirst || undefined)
    await program("pg_dump", "--format=custom", "--file", dump, url)
    await bucket("save", objects)
    await sending
    await send(3, 1000)
    await waitForNoLag(page)
    const before = { status: await statusAt(page), gold: await golden() }
    await lake.endAll("SIGTERM")

    // A second run copies what came since, and nothing twice. What is restored is the first copy.
    const later = join(lake.folder, "later")
    await cp(objects, later, { recursive: true })
    const saved = (await readdir(later, { recursive: true })).length
    expect(await bucket("save", later)).toMatch(/^[1-9]\d* objects copied from /)
    expect(await bucket("save", later)).toMatch(/^0 objects copied from /)
    expect((await readdir(later, { recursive: true })).length).toBeGreaterThan(saved)

    await admin(`DROP DATABASE ${database} WITH (FORCE)`)
    expect(await loseBucket()).toBeGreaterThan(10)

    await bucket("restore", objects)
    await admin(`CREATE DATABASE ${database}`)
    await program("pg_restore", "--no-owner", "--exit-on-error", "--dbname", url, dump)

    const behind = await lake.status()
    expect(behind.stages.at(-1)!.rows).toBeGreaterThan(0)
    expect(behind.stages.at(-1)!.rows).toBeLessThan(before.status.stages.at(-1)!.rows)
    const again = await startAll()
    await waitForNoLag(again)
    expect(await statusAt(again)).toEqual(before.status)
    expect(await golden()).toEqual(before.gold)
    await send(4, 500)
    await waitForNoLag(again)
    expect((await statusAt(again)).stages.at(-1)!.rows).toBeGreaterThan(before.status.stages.at(-1)!.rows)
    await lake.endAll("SIGTERM")
    expect(await lake.breaches()).toEqual([])
  }, 120_000)

  it("of the bucket is refused where it says nothing of it", async () => {
    await expect(bucket("keep", lake.folder)).rejects.toThrow(/save FOLDER or restore FOLDER/)
    await expect(exec(process.execPath, [join(repository, "deploy/backup/bucket.mjs"), "save", lake.folder], { env: { PATH: process.env["PATH"] } }))
      .rejects.toThrow(/WAREHOUSE is not set/)
  })
})
