/** The verifier on a lake of its own: it holds on a healthy one, and every damage is found by the check that names it. */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { Kafka, logLevel } from "kafkajs"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import * as Pg from "pg"
import { stackEnv } from "@voltlake/testing/RealStack"
import { TestLake } from "@voltlake/testing/TestLake"
import { repository } from "@voltlake/testing/VoltlakeProcess"

const launcher = join(repository, "tools/verify/run.mjs")
const fetched = spawnSync(process.execPath, [launcher, "--fetch"], { encoding: "utf8" })
if (fetched.status !== 0) console.log(`the verifier's tests are skipped: ${fetched.stderr.trim()}`)

const name = `verify_${process.pid}_${Date.now()}`
const variables = stackEnv?.variables ?? {}
const postgresUrl = new URL(stackEnv?.postgresUrl ?? "postgres://nowhere")
postgresUrl.pathname = `/${name}`
const env: Readonly<Record<string, string>> = {
  ...variables,
  KAFKA_TOPIC: name,
  WAREHOUSE: `${variables["WAREHOUSE"]}/${name}`,
  POSTGRES_URL: postgresUrl.href
}

const good = (at: number) => ({
  event_id: `e${at}`,
  vehicle_id: `v${at % 7}`,
  event_time: new Date(Date.UTC(2026, 0, 1) + at * 997).toISOString(),
  ingest_time: "2026-01-01T00:00:00Z",
  source: "test",
  payload: { battery_percent: at % 101, speed_mph: at % 5 === 0 ? null : (at % 90) + 0.123456, odometer_miles: at / 3 }
})
const changed = (at: number, payload: object, change: object = {}) =>
  JSON.stringify({ ...good(at), ...change, payload: { ...good(at).payload, ...payload } })

/** A record for each rule, and those of which Python and DuckDB think differently unless they are told. */
const odd = [
  ...["{", "NaN", "[1]", "\"text\"", "5", "{}", `{"event_id":5}`, `{"event_id":"a"}`, `{"event_id":"a","vehicle_id":"\\u0000"}`],
  ...[`{"event_id":"\\ud800"}`, `{"a":1,}`, `{"a":Infinity}`, "\ufeff{}", `${"[".repeat(5000)}${"]".repeat(5000)}`],
  changed(90_001, {}, { event_time: "2026-01-01" }),
  changed(90_002, {}, { event_time: "2026-02-30T00:00:00Z" }),
  changed(90_003, { speed_mph: -1 }, { event_time: "2999-01-01T00:00:00Z" }),
  changed(90_004, { battery_percent: "x" }),
  changed(90_005, { battery_percent: 100.5 }),
  changed(90_006, { speed_mph: "1_0" }),
  changed(90_007, { speed_mph: -0.1 }),
  changed(90_008, { odometer_miles: true }),
  changed(90_009, { odometer_miles: {} }),
  changed(90_010, { battery_percent: " +5. ", speed_mph: "1e15", odometer_miles: -0 }),
  changed(90_011, { speed_mph: 0.0000005 }, { event_time: "2026-01-01T10:00:00,1234567+05:30" }),
  changed(90_012, {}, { source: "\ud83d\ude00 \\ud", event_time: "2026-01-01T10:00" }),
  changed(90_013, {}, { payload: 7 }).replace("{", `{"event_id":"first",`),
  JSON.stringify({ ...good(90_014), payload: [1] }),
  JSON.stringify({ ...good(90_015), source: null, ingest_time: "yesterday" })
]
const copies = Array.from({ length: 150 }, (_, at) => JSON.stringify(good(at * 3)))
const lines = [...Array.from({ length: 3000 }, (_, at) => JSON.stringify(good(at))), ...odd, ...copies]

interface Report {
  readonly ok: boolean
  readonly events: number
  readonly checks: Readonly<Record<string, { readonly compared: number; readonly problems: number }>>
}

const python = async (args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [launcher, ...args], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] })
  let [stdout, stderr] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
  const [code] = (await once(child, "close")) as [number | null]
  return { code, stdout, stderr }
}

const verify = async () => {
  const { code, stderr, stdout } = await python(["--json"])
  expect(stderr).toBe("")
  const report = JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as Report
  expect(code).toBe(report.ok ? 0 : 1)
  return { report, broken: Object.entries(report.checks).filter(([, check]) => check.problems > 0).map(([check]) => check) }
}

/** Offsets that are in the log and never in a table: a marker stands behind them. */
const abortTransaction = async () => {
  const kafka = new Kafka({ brokers: [stackEnv!.kafka!], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: name, numPartitions: 3 }], waitForLeaders: true })
  await admin.disconnect()
  const producer = kafka.producer({ transactionalId: name, maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  const transaction = await producer.transaction()
  await transaction.send({ topic: name, messages: [0, 1, 2].map((partition) => ({ partition, value: JSON.stringify(good(1)) })) })
  await transaction.abort()
  await producer.disconnect()
}

const isWanted = fetched.status === 0 && stackEnv?.kafka !== undefined && stackEnv.s3 !== undefined && stackEnv.postgresUrl !== undefined

describe.skipIf(!isWanted)("the verifier", () => {
  let server: Pg.Client
  let lake: TestLake
  let database: Pg.Client

  beforeAll(async () => {
    server = new Pg.Client({ connectionString: stackEnv!.postgresUrl })
    await server.connect()
    await server.query(`CREATE DATABASE ${name}`)
    lake = await TestLake.make({ env: { ...env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" } })
    await abortTransaction()
    await lake.replay([await lake.file("events.ndjson", lines.join("\n"))])
    database = new Pg.Client({ connectionString: env["POSTGRES_URL"] })
    await database.connect()
  })

  afterAll(async () => {
    await lake?.close()
    await database?.end()
    await server?.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
    await server?.end()
  })

  it("holds on a healthy lake, having looked at all of it", async () => {
    const { broken, report } = await verify()
    expect(broken).toEqual([])
    expect(report.events).toBe(lines.length)
    for (const check of ["bronze bytes", "bronze gaps", "silver accounts"]) expect(report.checks[check]?.compared, check).toBe(lines.length)
    for (const [check, { compared }] of Object.entries(report.checks)) expect(compared, check).toBeGreaterThan(0)
  })

  /** Tables are put back by the catalog: files stay where they are. */
  const restoring = async (damage: () => Promise<unknown>) => {
    const { rows } = await database.query("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables")
    try {
      await damage()
      return (await verify()).broken
    } finally {
      for (const row of rows) {
        await database.query("UPDATE iceberg_tables SET metadata_location = $3 WHERE table_namespace = $1 AND table_name = $2", Object.values(row))
      }
    }
  }

  it.each([
    ["a row of bronze is gone", "bronze-delete", ["bronze gaps", "counters"]],
    ["a row of bronze is there twice", "bronze-copy", ["bronze duplicates", "counters"]],
    ["a bit of a value is another", "bronze-byte", ["bronze bytes"]],
    ["a header is gone", "bronze-header", ["bronze bytes"]],
    ["a row of bronze bears another offset", "bronze-offset", ["bronze gaps", "bronze misfiled"]],
    ["a clean row is gone", "clean-delete", ["counters", "silver accounts"]],
    ["a clean row is there twice", "clean-copy", ["counters", "silver clean duplicates"]],
    ["a value of a clean row is another in its last digits", "clean-value", ["silver values"]],
    ["a time is another by a microsecond", "clean-time", ["silver values"]],
    ["a reject is gone", "rejected-delete", ["counters", "silver accounts"]],
    ["a reject bears another rule", "rejected-rule", ["silver rules"]]
  ])("finds that %s", async (_, damage, expected) => {
    const broken = await restoring(async () => {
      const { code, stderr } = await python(["--module", "damage", damage])
      expect(code, stderr).toBe(0)
    })
    expect(broken).toEqual(expect.arrayContaining(expected))
  })

  const someMinute = "(vehicle_id, minute_ts) = (SELECT vehicle_id, minute_ts FROM gold_vehicle_minute_metrics WHERE speed_count > 0 ORDER BY 1, 2 LIMIT 1)"
  it.each([
    ["a sum of a vehicle's minute is another by a millionth", `UPDATE gold_vehicle_minute_metrics SET speed_sum = speed_sum + $1 * 0.000001 WHERE ${someMinute}`, [
      "gold vehicle minutes"
    ]],
    ["a minute of the fleet counts an event too many", "UPDATE gold_fleet_minute_metrics SET total_events = total_events + $1 WHERE minute_ts = '2026-01-01'", [
      "gold fleet minutes"
    ]],
    ["a latest value is another", "UPDATE vehicle_signal_latest SET value = value + $1 WHERE signal = 'speed_mph' AND vehicle_id = 'v3'", ["gold latest"]]
  ])("finds that %s", async (_, statement, expected) => {
    await database.query(statement, [1])
    const { broken } = await verify()
    await database.query(statement, [-1])
    expect(broken).toEqual(expected)
  })

  it("holds again when every damage is undone", async () => {
    expect((await verify()).broken).toEqual([])
  })

  it("finds that the log lacks what a producer was told is in it", async () => {
    const wrong = { partition: 0, base: 4, count: 2, crc32: 1 }
    const beyond = { partition: 0, base: 1_000_000, count: 1, crc32: 1 }
    for (const batch of [wrong, beyond]) {
      const { code, stdout } = await python(["--acknowledged", await lake.file("acknowledged.ndjson", JSON.stringify(batch))])
      expect(stdout).toMatch(/^acknowledged +\d compared {2}1 WRONG$/m)
      expect(code).toBe(1)
    }
  })

  it("says what is not set, and where it could not look", async () => {
    const unset = spawnSync(process.execPath, [launcher], { encoding: "utf8", env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...cache } })
    expect(unset).toMatchObject({ status: 2, stderr: "verify: not set: KAFKA_BOOTSTRAP_SERVERS, POSTGRES_URL\n" })
  })
})

const cacheDir = process.env["VOLTLAKE_CACHE_DIR"]
const cache: Readonly<Record<string, string>> = cacheDir === undefined ? {} : { VOLTLAKE_CACHE_DIR: cacheDir }
