/**
 * Apache Kafka in KRaft mode: one node that is broker and controller, run by Java from the jars that Maven fetches.
 *
 * `<dir>/kafka.json` keeps the ports, `<dir>/kafka/` its configuration and data.
 */
import { Duration, Effect, Schema } from "effect"
import { Kafka, logLevel } from "kafkajs"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Cache from "./Cache.ts"
import * as Detached from "./internal/Detached.ts"
import { attempt, readJson, reasonOf, remove, secret, writeWhole } from "./internal/Files.ts"
import * as Ports from "./internal/Ports.ts"
import * as Program from "./internal/Program.ts"
import type { Server } from "./Server.ts"
import { NotReady, NotUp, type StackError } from "./StackError.ts"
import * as Versions from "./Versions.ts"

const name = "kafka"

const Settings = Schema.Struct({ port: Schema.Number, controllerPort: Schema.Number })
type Settings = typeof Settings.Type

/** Memory bounded, otherwise as Java chooses. */
export const defaultJvm: ReadonlyArray<string> = ["-Xms256m", "-Xmx512m"]

const startLimit = Duration.seconds(90)
const connectMs = 1000
const requestMs = 3000

const settingsFile = (dir: string) => join(dir, "kafka.json")
const folder = (dir: string) => join(dir, "kafka")
const readSettings = (dir: string) => readJson(settingsFile(dir), Settings)

const java = { program: "java", neededFor: "running Kafka" } as const

const findJava = Effect.gen(function*() {
  const path = yield* Program.find(java)
  const told = yield* Program.run("java -version", path, ["-version"])
  // Such as `openjdk version "17.0.15"`; before 9 the major version was the second number.
  const major = Number(/version "(?:1\.)?(\d+)/.exec(told)?.[1] ?? Versions.javaMajorMin)
  if (major < Versions.javaMajorMin) return yield* Program.missing(java, `is of version ${major}, which is too old`)
  return path
})

const dependency = (group: string, artifact: string, version: string) =>
  `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>voltlake</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
${dependency("org.apache.kafka", "kafka_2.13", Versions.kafka)}
${dependency("org.apache.kafka", "kafka-tools", Versions.kafka)}
${dependency("org.apache.logging.log4j", "log4j-slf4j-impl", Versions.log4jBinding)}
</dependencies></project>
`

/** Folder of the jars, fetched where it is absent. */
export const jars: Effect.Effect<string, StackError> = Cache.ensure(`kafka-${Versions.kafka}`, (into) =>
  Effect.gen(function*() {
    const maven = yield* Program.find({ program: "mvn", neededFor: "fetching Kafka's jars" })
    const file = join(into, "pom.xml")
    yield* attempt(file, () => fs.writeFile(file, pom))
    yield* Program.run("Kafka's jars", maven, ["-q", "-B", "-f", file, "dependency:copy-dependencies", `-DoutputDirectory=${into}`])
  }))

const log4j = `status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.kafka.name = kafka
logger.kafka.level = info
`

const properties = (dir: string, { controllerPort, port }: Settings) => `process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:${controllerPort}
log.dirs=${join(folder(dir), "data")}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
log.retention.ms=-1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A killed broker is let in again when its session has expired. Default 9 s; still longer than a busy machine keeps a heartbeat waiting.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
`

interface Runtime {
  readonly java: string
  readonly classPath: string
}

const quiet = (dir: string) => `-Dlog4j2.configurationFile=${join(folder(dir), "log4j2.properties")}`

/** Settings and empty storage, where there are none. The settings file comes last: with it everything is there. */
const prepare = Effect.fnUntraced(function*(dir: string, runtime: Runtime) {
  const known = yield* readSettings(dir)
  if (known !== undefined) return known
  const [port, controllerPort] = yield* Ports.choose(2)
  const settings = { port: port!, controllerPort: controllerPort! }
  yield* remove(folder(dir))
  yield* attempt(folder(dir), () => fs.mkdir(folder(dir), { mode: 0o700 }))
  yield* attempt(folder(dir), () => fs.writeFile(join(folder(dir), "log4j2.properties"), log4j))
  const file = join(folder(dir), "server.properties")
  yield* attempt(file, () => fs.writeFile(file, properties(dir, settings)))
  // The first byte is 0: an id that began with a dash, as one in 64 would, is taken for an option.
  const clusterId = Buffer.from(`00${secret(15)}`, "hex").toString("base64url")
  yield* Program.run("Kafka's storage", runtime.java, [
    // The fastest start for a program that runs for a second.
    "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", quiet(dir), "-cp", runtime.classPath,
    "kafka.tools.StorageTool", "format", "--standalone", "-t", clusterId, "-c", file
  ])
  yield* writeWhole(settingsFile(dir), JSON.stringify(settings))
  return settings
})

/** Succeeds when the broker is known to its controller and answers. */
const ask = (port: number) =>
  Effect.tryPromise({
    try: async () => {
      const client = new Kafka({
        clientId: "voltlake-stack",
        brokers: [`127.0.0.1:${port}`],
        connectionTimeout: connectMs,
        requestTimeout: requestMs,
        retry: { retries: 0 },
        logLevel: logLevel.NOTHING
      })
      const admin = client.admin()
      try {
        await admin.connect()
        const { brokers } = await admin.describeCluster()
        if (brokers.length === 0) throw new Error("the broker is not registered yet")
      } finally {
        await admin.disconnect()
      }
    },
    catch: (cause) => new NotReady({ server: name, reason: reasonOf(cause) })
  })

export const server: Server = {
  name,
  title: () => Effect.succeed(`Kafka ${Versions.kafka}`),
  fetch: () => Effect.zipRight(findJava, jars),
  logFile: (dir) => Effect.succeed(Detached.logFile(dir, name)),
  pid: (dir) => Detached.running(dir, name),
  check: Effect.fn("Kafka.check")(function*(dir: string) {
    const settings = yield* readSettings(dir)
    if (settings === undefined) return yield* new NotUp({ server: name, dir })
    yield* ask(settings.port)
  }),
  start: Effect.fn("Kafka.start")(function*(dir, { kafkaJvm }) {
    const runtime = { java: yield* findJava, classPath: join(yield* jars, "*") }
    const settings = yield* prepare(dir, runtime)
    if ((yield* Detached.running(dir, name)) !== undefined) {
      const answers = yield* Effect.isSuccess(ask(settings.port))
      if (answers) return
      yield* Detached.stop(dir, name)
    }
    yield* Detached.start(dir, name, {
      command: runtime.java,
      args: [...kafkaJvm, quiet(dir), "-cp", runtime.classPath, "kafka.Kafka", join(folder(dir), "server.properties")]
    }, ask(settings.port), startLimit)
  }),
  stop: (dir) => Detached.stop(dir, name),
  kill: (dir) => Detached.kill(dir, name),
  wipe: (dir) => Effect.zipRight(remove(settingsFile(dir)), remove(folder(dir))),
  env: (dir) =>
    Effect.map(readSettings(dir), (settings) => settings && { KAFKA_BOOTSTRAP_SERVERS: `127.0.0.1:${settings.port}` })
}
