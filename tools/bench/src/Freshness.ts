/** Freshness: the time from sending an event (the log's timestamp) until gold in PostgreSQL counts it, at a steady rate of the simulator. */
import { setTimeout as sleep } from "node:timers/promises"
import { mkdtempSync, rmSync } from "node:fs"
import { once } from "node:events"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Redacted } from "effect"
import * as EmbeddedPostgres from "@voltlake/postgres/EmbeddedPostgres"
import * as Pg from "pg"
import * as Processes from "./Processes.ts"
import { withServers } from "./Servers.ts"

export interface FreshnessResult {
  readonly rate: number
  /** Events looked at. */
  readonly events: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly peakMemoryBytes: number
}

const percentile = (sorted: ReadonlyArray<number>, share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

/** Polls how far gold has come, and dates every event by its offset: visible at the first poll whose position lies beyond it. */
const watch = async (client: Pg.Client, untilMs: number): Promise<ReadonlyArray<readonly [atMs: number, position: Record<string, bigint>]>> => {
  const seen: Array<readonly [number, Record<string, bigint>]> = []
  while (Date.now() < untilMs) {
    const { rows } = await client.query("SELECT progress FROM lake.gold_progress")
    const progress = JSON.parse(rows[0].progress) as Record<string, { position: string }>
    seen.push([Date.now(), Object.fromEntries(Object.entries(progress).map(([key, value]) => [key, BigInt(value.position)]))])
    await sleep(20)
  }
  return seen
}

export interface FreshnessOptions {
  readonly rate: number
  readonly seconds: number
  /** Over Kafka, S3 and a PostgreSQL server, rather than embedded. */
  readonly isReal: boolean
}

/** Every n-th event is looked at: enough for percentiles, and no table too large to print. */
const sampleEvery = (rate: number) => Math.max(1, Math.round(rate / 1000))

const measure = async ({ rate, seconds }: FreshnessOptions, lake: string, env: Readonly<Record<string, string>>): Promise<FreshnessResult> => {
  const child = Processes.start(["start", "--data-dir", lake, "--port", "0"], {
    ...env,
    SIMULATOR_EVENTS_PER_SECOND: String(rate),
    SIMULATOR_VEHICLES: "500"
  })
  try {
    await once(child.stdout!, "data")
    const url = env["POSTGRES_URL"] ?? Redacted.value(await Effect.runPromise(EmbeddedPostgres.urlOf(lake)))
    const client = new Pg.Client({ connectionString: url })
    await client.connect()
    await sleep(5000)
    const seen = await watch(client, Date.now() + seconds * 1000)
    await client.end()
    const peakMemoryBytes = Processes.peakMemoryBytes(child.pid!)
    const [firstMs] = seen[0]!
    const [lastMs] = seen.at(-1)!
    const { output } = await Processes.run([
      "sql",
      `SELECT topic || '-' || "partition" AS key, "offset", epoch_ms(timestamp) AS sent FROM bronze.telemetry_raw
       WHERE "offset" % ${sampleEvery(rate)} = 0 AND epoch_ms(timestamp) BETWEEN ${firstMs} AND ${lastMs - 5000} ORDER BY ALL`,
      "--data-dir", lake, "--json"
    ], env)
    const delays: Array<number> = []
    for (const { key, offset, sent } of JSON.parse(output) as Array<{ key: string; offset: number; sent: number }>) {
      const visible = seen.find(([, position]) => (position[key] ?? 0n) > BigInt(offset))
      delays.push(visible === undefined ? Infinity : visible[0] - sent)
    }
    delays.sort((a, b) => a - b)
    return {
      rate,
      events: delays.length,
      p50Ms: percentile(delays, 0.5),
      p95Ms: percentile(delays, 0.95),
      p99Ms: percentile(delays, 0.99),
      maxMs: delays.at(-1) ?? 0,
      peakMemoryBytes
    }
  } finally {
    const closed = once(child, "close")
    child.kill("SIGINT")
    await closed
  }
}

export const run = async (options: FreshnessOptions): Promise<FreshnessResult> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-"))
  try {
    return options.isReal
      ? await withServers(({ env }) => measure(options, join(folder, "lake"), env))
      : await measure(options, join(folder, "lake"), {})
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
