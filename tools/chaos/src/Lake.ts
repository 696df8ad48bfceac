/** The stack of a run, and what is asked of it from outside: where the log ends, how far gold is. */
import { Effect } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import * as Pg from "pg"
import type { ServerName } from "@voltlake/stack/Server"
import * as Stack from "@voltlake/stack/Stack"

export const serverNames: ReadonlyArray<ServerName> = ["kafka", "s3", "postgres"]

/** The quick compiler alone: Kafka is up sooner, and shares two cores with all that is tested. */
const options = { ...Stack.defaults, kafkaJvm: ["-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1"] }

export type Positions = ReadonlyMap<number, number>

export interface Lake {
  /** Settings of every process. */
  readonly env: Readonly<Record<string, string>>
  readonly topic: string
  readonly partitions: number
  readonly killServer: (name: ServerName) => Promise<void>
  readonly startServer: (name: ServerName) => Promise<void>
  /** Next offset of each partition of the log. */
  readonly logEnds: () => Promise<Positions>
  /** Next offset that gold reads, of each partition. Undefined while the database is away, or has no gold yet. */
  readonly goldAt: () => Promise<Positions | undefined>
  readonly close: () => Promise<void>
}

const database = "chaos"
const topic = "chaos_telemetry"
const queryMs = 3000

/** Servers that the environment names are none of a run's: it kills its own. */
const forgetServers = () => {
  for (const name of ["KAFKA_BOOTSTRAP_SERVERS", "S3_ENDPOINT", "POSTGRES_URL"]) delete process.env[name]
}

const withClient = async <A>(url: string, use: (client: Pg.Client) => Promise<A>): Promise<A> => {
  const client = new Pg.Client({ connectionString: url, connectionTimeoutMillis: queryMs, query_timeout: queryMs })
  // A server that is killed ends the connection outside of any query.
  client.on("error", () => undefined)
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

const sum = (positions: Positions): number => Array.from(positions.values()).reduce((total, offset) => total + offset, 0)

/** Offsets of the log that gold has not passed. */
export const lag = (gold: Positions, ends: Positions): number =>
  sum(ends) - Array.from(ends.keys()).reduce((total, partition) => total + (gold.get(partition) ?? 0), 0)

/** Starts the servers beside the folder (a stack's own folder holds nothing else), with a topic and a database of the run's own. */
export const open = async (folder: string, partitions: number): Promise<Lake> => {
  forgetServers()
  const dir = `${folder}-stack`
  await Effect.runPromise(Stack.up(dir, options))
  const own = await Effect.runPromise(Stack.env(dir))
  const url = new URL(own["POSTGRES_URL"]!)
  await withClient(url.href, (client) => client.query(`CREATE DATABASE ${database}`))
  url.pathname = `/${database}`
  const kafka = new Kafka({ brokers: [own["KAFKA_BOOTSTRAP_SERVERS"]!], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: true })
  const dataDir = join(folder, "data")
  mkdirSync(dataDir)
  const env = {
    ...own,
    POSTGRES_URL: url.href,
    KAFKA_TOPIC: topic,
    WAREHOUSE: `${own["WAREHOUSE"]}/chaos`,
    VOLTLAKE_DATA_DIR: dataDir,
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true"
  }
  return {
    env,
    topic,
    partitions,
    killServer: (name) => Effect.runPromise(Stack.kill(dir, name)),
    startServer: (name) => Effect.runPromise(Stack.start(dir, name, options)),
    logEnds: async () => new Map((await admin.fetchTopicOffsets(topic)).map(({ high, partition }) => [partition, Number(high)])),
    goldAt: () =>
      withClient(url.href, async (client) => {
        const { rows } = await client.query<{ progress: string }>("SELECT progress FROM lake.gold_progress")
        const progress = JSON.parse(rows[0]!.progress) as Record<string, { readonly position: string }>
        return new Map(Object.entries(progress).map(([key, { position }]) => [Number(key.slice(key.lastIndexOf("-") + 1)), Number(position)]))
      }).catch(() => undefined),
    close: async () => {
      await admin.disconnect().catch(() => undefined)
      await Effect.runPromise(Stack.wipe(dir))
    }
  }
}
