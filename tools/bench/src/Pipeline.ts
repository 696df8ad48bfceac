/**
 * Events that wait in Kafka go through all stages, to tables on S3 and gold in PostgreSQL. In one process, or one for each stage: events per second
 * from the processes' start until gold holds all, and their memory.
 */
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import * as Pg from "pg"
import * as Processes from "./Processes.ts"
import { type Servers, withServers } from "./Servers.ts"
import * as Spark from "./Spark.ts"
import * as Topic from "./Topic.ts"

export interface PipelineOptions {
  readonly events: number
  /** Share of events that are copies of earlier ones. */
  readonly repeats: number
  readonly processes: "one" | "each"
  readonly vsSpark: boolean
}

interface Run {
  readonly eventsPerSecond: number
  readonly peakMemoryBytes: number
  readonly seconds: number
  readonly cpuSeconds: number
  /** Events that gold counts: those of silver, without rejects and copies. */
  readonly rows: number
}

export interface PipelineResult extends Run {
  readonly events: number
  readonly bytesPerEvent: number
  readonly producedPerSecond: number
  readonly spark?: Spark.SparkRun
}

/** Larger than the defaults, which are for a laptop: fewer commits for the same rows, for a hundred megabytes more. Compose sets the same. */
const batches = {
  BRONZE_BATCH_ROWS_MAX: "60000",
  BRONZE_BATCH_BYTES_MAX: String(32 * 1024 * 1024),
  SILVER_BATCH_ROWS_MAX: "120000",
  GOLD_BATCH_ROWS_MAX: "240000"
}

/** Nothing moves for so long: something hangs. */
const stallMs = 60_000

/** Waits until gold has passed all offsets. */
const goldReaches = async (client: Pg.Client, events: number) => {
  let at = -1
  let movedAtMs = Date.now()
  while (at < events) {
    const { rows } = await client.query("SELECT progress FROM lake.gold_progress").catch(() => ({ rows: [] }))
    const progress = JSON.parse(rows[0]?.progress ?? "{}") as Record<string, { position: string }>
    const now = Object.values(progress).reduce((sum, { position }) => sum + Number(position), 0)
    if (now > at) movedAtMs = Date.now()
    else if (Date.now() > movedAtMs + stallMs) throw new Error(`gold has stood at offset ${at} of ${events} for ${stallMs / 1000} s`)
    at = now
    await sleep(50)
  }
}

const start = (processes: PipelineOptions["processes"], dataDir: string, env: Servers["env"]): ReadonlyArray<ChildProcess> =>
  processes === "one"
    ? [Processes.start(["start", "--source", "none", "--data-dir", dataDir, "--port", "0"], env)]
    : ["bronze", "silver", "gold"].map((stage) => Processes.startApp(stage, { ...env, VOLTLAKE_DATA_DIR: dataDir }))

const stop = async (child: ChildProcess) => {
  const closed = once(child, "close")
  child.kill("SIGINT")
  await closed
}

const runStages = async ({ events, processes }: PipelineOptions, { env: addresses, postgresUrl }: Servers): Promise<Run> => {
  const env = { ...addresses, ...batches }
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-"))
  const client = new Pg.Client({ connectionString: postgresUrl })
  await client.connect()
  const startedMs = performance.now()
  const children = start(processes, join(folder, "lake"), env)
  try {
    await goldReaches(client, events)
    const seconds = (performance.now() - startedMs) / 1000
    const { rows } = await client.query("SELECT sum(total_events)::int AS rows FROM gold_fleet_minute_metrics")
    const sum = (of: (pid: number) => number) => children.reduce((total, { pid }) => total + of(pid!), 0)
    return {
      eventsPerSecond: Math.round(events / seconds),
      peakMemoryBytes: sum(Processes.peakMemoryBytes),
      seconds,
      cpuSeconds: sum(Processes.cpuSeconds),
      rows: rows[0].rows
    }
  } finally {
    await Promise.all(children.map(stop))
    await client.end()
    rmSync(folder, { recursive: true, force: true })
  }
}

export const run = (options: PipelineOptions): Promise<PipelineResult> =>
  withServers(async (servers) => {
    const { events, repeats, vsSpark } = options
    // Before anything is measured: what is missing should be told at once.
    const spark = vsSpark ? await Spark.install() : undefined
    const filled = await Topic.fill(servers, events, repeats)
    const ours = await runStages(options, servers)
    return {
      ...ours,
      events,
      bytesPerEvent: Math.round(filled.bytes / events),
      producedPerSecond: Math.round(events / filled.seconds),
      ...(spark === undefined ? {} : { spark: await Spark.run(spark, servers) })
    }
  })
