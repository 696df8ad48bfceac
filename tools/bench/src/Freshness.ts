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

export interface FreshnessResult {
  readonly rate: number
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

export const run = async (rate: number, seconds: number): Promise<FreshnessResult> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-"))
  const lake = join(folder, "lake")
  const child = Processes.start(["start", "--data-dir", lake, "--port", "0"], {
    SIMULATOR_EVENTS_PER_SECOND: String(rate),
    SIMULATOR_VEHICLES: "500"
  })
  try {
    await once(child.stdout!, "data")
    const url = Redacted.value(await Effect.runPromise(EmbeddedPostgres.urlOf(lake)))
    const client = new Pg.Client({ connectionString: url })
    await client.connect()
    await sleep(5000)
    const seen = await watch(client, Date.now() + seconds * 1000)
    await client.end()
    const peakMemoryBytes = Processes.peakMemoryBytes(child.pid!)
    const { output } = await Processes.run(
      ["sql", "SELECT \"partition\", \"offset\", epoch_ms(timestamp) AS sent FROM bronze.telemetry_raw ORDER BY 1, 2", "--data-dir", lake, "--json"]
    )
    const [firstMs] = seen[0]!
    const [lastMs] = seen.at(-1)!
    const delays: Array<number> = []
    for (const { offset, partition, sent } of JSON.parse(output) as Array<{ offset: number; partition: number; sent: number }>) {
      if (sent < firstMs || sent > lastMs - 5000) continue
      const visible = seen.find(([, position]) => (position[`telemetry_raw-${partition}`] ?? 0n) > BigInt(offset))
      if (visible !== undefined) delays.push(visible[0] - sent)
      else delays.push(Infinity)
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
    rmSync(folder, { recursive: true, force: true })
  }
}
