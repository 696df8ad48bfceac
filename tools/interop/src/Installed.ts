/**
 * What the other engines need, fetched once for all that use them into this account's cache: each folder appears whole or not at all.
 * PyIceberg and DuckDB share a Python environment; Spark has one of its own, and its jars.
 */
import { NodeContext } from "@effect/platform-node"
import { Effect, Either } from "effect"
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Cache from "@voltlake/stack/Cache"
import { BuildFailed } from "@voltlake/stack/StackError"

export interface Program {
  readonly interpreter: string
  /** Settings of its processes. */
  readonly env: Readonly<Record<string, string>>
}

/** Folder of the Python module that does what tests ask. */
export const moduleFolder = fileURLToPath(new URL("..", import.meta.url))
const requirements = join(moduleFolder, "requirements.txt")

const pysparkVersion = "4.1.1"
const jars = [
  ["org.apache.iceberg", "iceberg-spark-runtime-4.1_2.13", "1.12.0"],
  ["org.postgresql", "postgresql", "42.7.13"]
] as const

const alone = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>voltlake</groupId><artifactId>interop</artifactId><version>1</version><packaging>pom</packaging><dependencies>
${jars.map(([group, artifact, version]) =>
  `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>${alone}</dependency>`).join("\n")}
</dependencies></project>`

const digest = (text: string | Uint8Array) => createHash("sha256").update(text).digest("hex").slice(0, 16)

const run = (command: string, args: ReadonlyArray<string>) => execFileSync(command, args, { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" })

const made = (name: string, make: (folder: string) => void): Promise<string> =>
  Effect.runPromise(
    Cache.ensure(name, (folder) =>
      Effect.try({ try: () => make(folder), catch: (cause) => new BuildFailed({ what: name, output: String(cause) }) })).pipe(
        Effect.provide(NodeContext.layer)
      )
  )

/** Environments may be moved as long as their programs are run as modules. */
const environment = (name: string, packages: ReadonlyArray<string>) =>
  made(name, (folder) => {
    run("python3", ["-m", "venv", "--copies", folder])
    run(join(folder, "bin", "python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", ...packages])
  })

const interpreter = (folder: string) => join(folder, "bin", "python")

const pythonEngines = async (): Promise<Program> => {
  const folder = await environment(`interop-python-${digest(readFileSync(requirements))}`, ["-r", requirements])
  return { interpreter: interpreter(folder), env: {} }
}

const spark = async (): Promise<Program> => {
  run("java", ["-version"])
  const jarFolder = await made(`interop-spark-jars-${digest(pom)}`, (folder) => {
    writeFileSync(join(folder, "pom.xml"), pom)
    run("mvn", ["-q", "-B", "-f", join(folder, "pom.xml"), "dependency:copy-dependencies", `-DoutputDirectory=${folder}`])
  })
  const folder = await environment(`pyspark-${pysparkVersion}`, [`pyspark==${pysparkVersion}`])
  return { interpreter: interpreter(folder), env: { SPARK_JARS: jarFolder } }
}

const makers = { pyiceberg: pythonEngines, duckdb: pythonEngines, spark }

export type EngineName = keyof typeof makers

/** The engine's program, or why this machine cannot have it: then tests that need it are skipped, and say so. */
export const install = async (engine: EngineName): Promise<Either.Either<Program, string>> => {
  try {
    return Either.right(await makers[engine]())
  } catch (cause) {
    console.log(`tests with ${engine} are skipped: ${cause instanceof Error ? cause.message : String(cause)}`)
    return Either.left(String(cause))
  }
}
