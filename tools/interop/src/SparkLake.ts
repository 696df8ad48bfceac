/**
 * A small lake whose gold Spark computes: stages within the test, tables in a local warehouse, and the REST catalog served at a free port, with a token for
 * readers and one for writers. Jobs go to one long session of Spark by way of a program in place of `spark-submit`.
 */
import { HttpRouter, HttpServer } from "@effect/platform"
import { NodeContext, NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { dirname, join } from "node:path"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import type * as SparkSettings from "@voltlake/gold/SparkSettings"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import { noProperties } from "@voltlake/rest-catalog/CatalogSettings"
import * as RestCatalog from "@voltlake/rest-catalog/RestCatalog"
import * as StageLake from "@voltlake/testing/StageLake"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as Engine from "./Engine.ts"
import { moduleFolder, type Program } from "./Installed.ts"

export const script = join(repository, "libs/stages/gold/src/spark/gold_batch.py")

export const readToken = "a-token-for-those-who-read"
const writeToken = "a-token-for-those-who-write"

/** What outlives a process, new and empty. */
const durable = Layer.mergeAll(
  MemoryEventLog.layer,
  MemoryCatalog.layer,
  Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
    Layer.merge(LocalObjectStore.layer(join(folder, "warehouse")), Layer.succeed(StageLake.Folder, folder))))
)

/** How jobs reach Spark over this lake. */
export class Spark extends Context.Tag("@voltlake/interop/SparkLake/Spark")<Spark, SparkSettings.SparkSettings>() {}

const served = Effect.gen(function*() {
  const tokens = { read: [Redacted.make(readToken)], write: Option.some(Redacted.make(writeToken)) }
  const app = yield* RestCatalog.make({ tokens, client: noProperties })
  const server = yield* NodeHttpServer.make(createServer, { host: "127.0.0.1", port: 0 })
  yield* server.serve(HttpRouter.empty.pipe(HttpRouter.mountApp(RestCatalog.mountPath, app)))
  return `${HttpServer.formatAddress(server.address)}${RestCatalog.mountPath}`
}).pipe(Effect.provide(Tables.layer))

/** A program in the lake's folder. */
export const program = (name: string, text: string) =>
  Effect.map(StageLake.Folder, (folder) => {
    const path = join(folder, name)
    writeFileSync(path, `#!/bin/sh\n${text}\n`)
    chmodSync(path, 0o755)
    return path
  })

const spark = ({ env, interpreter }: Program) =>
  Effect.gen(function*() {
    const socket = join(yield* StageLake.Folder, "jobs.socket")
    yield* Engine.start("spark_batch", { interpreter, env }, { script, socket })
    const submit = yield* program("submit", `exec ${interpreter} ${join(moduleFolder, "voltlake_interop/spark_submit.py")} ${socket} "$@"`)
    return Spark.of({ submit, catalogUri: yield* served, catalogToken: Option.some(Redacted.make(writeToken)) })
  })

/** Spark as it is installed by others: by its own `spark-submit`, with what it needs in its own settings. */
export const realSubmit = ({ env, interpreter }: Program) =>
  Effect.gen(function*() {
    const libraries = join(dirname(dirname(interpreter)), "lib")
    const home = join(libraries, readdirSync(libraries).find((name) => name.startsWith("python3"))!, "site-packages", "pyspark")
    const conf = join(yield* StageLake.Folder, "conf")
    mkdirSync(conf)
    const jars = readdirSync(env["SPARK_JARS"]!).filter((name) => name.startsWith("iceberg-")).map((name) => join(env["SPARK_JARS"]!, name))
    const settings = {
      "spark.master": "local[2]",
      "spark.jars": jars.join(","),
      "spark.driver.memory": "1g",
      // Compiled quickly and not well: it runs once.
      "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
      "spark.driver.bindAddress": "127.0.0.1",
      "spark.driver.host": "127.0.0.1",
      "spark.sql.shuffle.partitions": "2",
      "spark.ui.enabled": "false"
    }
    writeFileSync(join(conf, "spark-defaults.conf"), Object.entries(settings).map((pair) => pair.join(" ")).join("\n"))
    return yield* program("spark-submit", `export SPARK_HOME=${home} SPARK_CONF_DIR=${conf} PYSPARK_PYTHON=${interpreter}\nexec ${home}/bin/spark-submit "$@"`)
  })

/** For a test file. */
export const layer = (found: Program) => Layer.scoped(Spark, spark(found)).pipe(Layer.provideMerge(durable), Layer.provideMerge(NodeContext.layer))
