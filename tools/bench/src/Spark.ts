/** Spark's version of the stages, over the same topic: its events per second, as it counts them itself, and the memory of all its processes. */
import { NodeContext } from "@effect/platform-node"
import { Effect } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Cache from "@voltlake/stack/Cache"
import type { Servers } from "./Servers.ts"

export interface SparkRun {
  readonly eventsPerSecond: number
  readonly peakMemoryBytes: number
  readonly seconds: number
  readonly rows: number
}

const pysparkVersion = "4.1.1"
const jars = [
  ["org.apache.spark", "spark-sql-kafka-0-10_2.13", pysparkVersion],
  ["org.apache.spark", "spark-token-provider-kafka-0-10_2.13", pysparkVersion],
  ["org.apache.kafka", "kafka-clients", "3.9.1"],
  ["org.apache.commons", "commons-pool2", "2.12.1"]
] as const

const alone = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>voltlake</groupId><artifactId>bench</artifactId><version>1</version><packaging>pom</packaging><dependencies>
${jars.map(([group, artifact, version]) =>
  `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>${alone}</dependency>`).join("\n")}
</dependencies></project>`

/** The script stands beside the repository, with the other data that is shared. */
const script = join(process.env["VOLTLAKE_SHARED"] ?? fileURLToPath(new URL("../../shared", import.meta.url)), "peers", "spark_baseline.py")

const made = (name: string, make: (folder: string) => void) =>
  Effect.runPromise(Cache.ensure(name, (folder) => Effect.sync(() => make(folder))).pipe(Effect.provide(NodeContext.layer)))

const quietly = { stdio: ["ignore", "ignore", "inherit"] as Array<"ignore" | "inherit"> }

const python = async () => {
  const folder = await made(`pyspark-${pysparkVersion}`, (into) => {
    execFileSync("python3", ["-m", "venv", "--copies", into], quietly)
    execFileSync(join(into, "bin", "python"), ["-m", "pip", "install", "-q", `pyspark==${pysparkVersion}`], quietly)
  })
  return join(folder, "bin", "python")
}

const jarFolder = () =>
  made(`spark-kafka-jars-${pysparkVersion}`, (into) => {
    writeFileSync(join(into, "pom.xml"), pom)
    execFileSync("mvn", ["-q", "-B", "-f", join(into, "pom.xml"), "dependency:copy-dependencies", `-DoutputDirectory=${into}`], quietly)
  })

/** Resident memory of a process and all below it. */
const memoryOfTree = (root: number): number => {
  const parents = new Map<number, number>()
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    try {
      parents.set(Number(name), Number(readFileSync(`/proc/${name}/stat`, "utf8").replace(/^.*\) /, "").split(" ")[1]))
    } catch {
      // It has ended since.
    }
  }
  const isBelow = (pid: number): boolean => pid === root || (parents.has(pid) && isBelow(parents.get(pid)!))
  let bytes = 0
  for (const pid of parents.keys()) {
    if (!isBelow(pid)) continue
    try {
      bytes += 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0)
    } catch {
      // As above.
    }
  }
  return bytes
}

export interface Installed {
  readonly interpreter: string
  readonly jarsAt: string
}

/** Installs what Spark needs, once. */
export const install = async (): Promise<Installed> => {
  if (!existsSync(script)) throw new Error(`Spark's version of the stages is not at ${script}; VOLTLAKE_SHARED names the folder that holds peers/`)
  return { interpreter: await python(), jarsAt: await jarFolder() }
}

export const run = async ({ interpreter, jarsAt }: Installed, { env, topic }: Servers): Promise<SparkRun> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-spark-"))
  try {
    const child = spawn(interpreter, [script, env["KAFKA_BOOTSTRAP_SERVERS"]!, topic, folder, jarsAt, "--dedup"], { stdio: ["ignore", "pipe", "ignore"] })
    let output = ""
    let peak = 0
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
    const watch = setInterval(() => (peak = Math.max(peak, memoryOfTree(child.pid!))), 200)
    const [code] = (await once(child, "close")) as [number | null]
    clearInterval(watch)
    const number = (name: string) => Number(new RegExp(`${name} ([0-9.]+)`).exec(output)?.[1])
    if (code !== 0 || Number.isNaN(number("events_per_s"))) throw new Error(`Spark ended with ${code}: ${output.slice(-2000)}`)
    return { eventsPerSecond: number("events_per_s"), peakMemoryBytes: peak, seconds: number("total_s"), rows: number("silver_rows") }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
