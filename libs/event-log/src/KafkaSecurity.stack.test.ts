/** A broker of the test's own that takes logins over TLS only: the stack's takes anybody on loopback. */
import { NodeContext } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option, Schedule } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as Kafka from "@voltlake/stack/Kafka"
import { describeStack } from "@voltlake/testing/RealStack"
import { EventLog } from "./EventLog.ts"
import { openAll, record } from "./EventLogContract.ts"
import { layer } from "./KafkaEventLog.ts"
import { settingsConfig } from "./KafkaSettings.ts"

const user = "voltlake"
const password = "scram-secret"
const storePassword = "store-password"

const freePort = Effect.promise(async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as { readonly port: number }
  server.close()
  await once(server, "close")
  return port
})

const properties = (folder: string, port: number, controllerPort: number) => `process.roles=broker,controller
node.id=1
listeners=SECURE://localhost:${port},CONTROLLER://127.0.0.1:${controllerPort}
advertised.listeners=SECURE://localhost:${port}
listener.security.protocol.map=SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SECURE
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:${controllerPort}
log.dirs=${join(folder, "data")}
ssl.keystore.location=${join(folder, "server.p12")}
ssl.keystore.password=${storePassword}
ssl.keystore.type=PKCS12
ssl.truststore.location=${join(folder, "server.p12")}
ssl.truststore.password=${storePassword}
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="broker" password="broker-secret" user_broker="broker-secret" user_plain="plain-secret";
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
`

/** Starts the broker; answers its address, and the certificate by which it is known. */
const secureBroker = Effect.gen(function*() {
  const folder = yield* temporaryFolder
  const classPath = join(yield* Kafka.jars, "*")
  const [port, controllerPort] = yield* Effect.all([freePort, freePort])
  mkdirSync(join(folder, "data"))
  const keytool = (...args: ReadonlyArray<string>) =>
    execFileSync("keytool", [...args, "-alias", "kafka", "-keystore", join(folder, "server.p12"), "-storepass", storePassword], { stdio: "pipe" })
  keytool("-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-validity", "2", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1")
  writeFileSync(join(folder, "ca.pem"), keytool("-exportcert", "-rfc"))
  writeFileSync(join(folder, "server.properties"), properties(folder, port, controllerPort))
  execFileSync("java", [
    "-XX:TieredStopAtLevel=1", "-cp", classPath, "kafka.tools.StorageTool", "format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg",
    "-c", join(folder, "server.properties"), "--add-scram", `SCRAM-SHA-512=[name=${user},password=${password}]`
  ], { stdio: "pipe" })
  const broker = yield* Effect.acquireRelease(
    Effect.sync((): ChildProcess => spawn("java", [
      "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classPath, "kafka.Kafka", join(folder, "server.properties")
    ], { stdio: "ignore" })),
    (child) => Effect.promise(async () => {
      const closed = once(child, "close")
      child.kill("SIGKILL")
      await closed
    })
  )
  expect(broker.pid).toBeGreaterThan(0)
  return { address: `localhost:${port}`, caFile: join(folder, "ca.pem") }
})

const withSettings = <A, E>(settings: Record<string, string>, use: Effect.Effect<A, E, EventLog>) =>
  settingsConfig.pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(settings)))),
    Effect.map(Option.getOrThrow),
    Effect.flatMap((found) => Effect.provide(use, layer(found).pipe(Layer.provide(NodeContext.layer))))
  )

describeStack("kafka")("KafkaEventLog over TLS", () => {
  it.live("sends and reads with a login of either kind, and says what is wrong with others", () =>
    Effect.scoped(Effect.gen(function*() {
      const { address, caFile } = yield* secureBroker
      const scram = {
        KAFKA_BOOTSTRAP_SERVERS: address,
        KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
        KAFKA_SSL_CA_FILE: caFile,
        KAFKA_SASL_USERNAME: user,
        KAFKA_SASL_PASSWORD: password
      }
      const there = Effect.flatMap(EventLog, (log) => log.ensureTopic("telemetry_raw", 1))
      yield* withSettings(scram, there).pipe(
        Effect.retry({ schedule: Schedule.spaced("300 millis"), until: () => false }),
        Effect.timeout("40 seconds")
      )
      const sendAndRead = (value: string) =>
        Effect.scoped(Effect.gen(function*() {
          const log = yield* EventLog
          const [{ start } = { start: -1n }] = yield* log.append("telemetry_raw", new Map([[0, [record(value)]]]))
          const reader = yield* openAll(log, "telemetry_raw", 1)
          const batch = yield* reader.read({ topic: "telemetry_raw", partition: 0 }, start, { recordsMax: 1, bytesMax: 1 })
          return Buffer.from(batch.records.value(0)!).toString()
        }))
      expect(yield* withSettings(scram, sendAndRead("by scram"))).toBe("by scram")
      const plain = { ...scram, KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "plain", KAFKA_SASL_PASSWORD: "plain-secret" }
      expect(yield* withSettings(plain, sendAndRead("by plain"))).toBe("by plain")

      const wrongPassword = yield* Effect.flip(withSettings({ ...plain, KAFKA_SASL_PASSWORD: "wrong-secret" }, there))
      expect(wrongPassword._tag === "EventLogError" && [wrongPassword.outcome, wrongPassword.retryable, wrongPassword.reason])
        .toEqual(["NotApplied", false, expect.stringContaining("SASL PLAIN authentication failed")])
      expect(String(wrongPassword)).not.toContain("wrong-secret")
      const { KAFKA_SSL_CA_FILE: _, ...noAuthority } = scram
      expect(String(yield* Effect.flip(withSettings(noAuthority, there)))).toContain("self-signed certificate")
    })), 90_000)
})

describe("Kafka's settings", () => {
  const given = (settings: Record<string, string>) =>
    Effect.either(Effect.withConfigProvider(settingsConfig, ConfigProvider.fromMap(new Map(Object.entries(settings)))))
  const servers = { KAFKA_BOOTSTRAP_SERVERS: "a:9092" }

  it.effect("are none without an address", () => Effect.map(given({}), (found) => expect(found).toMatchObject({ right: { _tag: "None" } })))

  it.effect.each([
    ["an address without a port", { KAFKA_BOOTSTRAP_SERVERS: "a:9092, b" }, "KAFKA_BOOTSTRAP_SERVERS"],
    ["a login without a name", { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL", KAFKA_SASL_PASSWORD: "secret" }, "KAFKA_SASL_USERNAME"],
    ["a login without a password", { ...servers, KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT", KAFKA_SASL_USERNAME: "u" }, "KAFKA_SASL_PASSWORD"],
    ["a certificate without its key", { ...servers, KAFKA_SSL_CERTIFICATE_FILE: "c.pem" }, "KAFKA_SSL_KEY_FILE"],
    ["another protocol", { ...servers, KAFKA_SECURITY_PROTOCOL: "TLS" }, "KAFKA_SECURITY_PROTOCOL"]
  ] as ReadonlyArray<readonly [string, Record<string, string>, string]>)("refuse %s", ([, settings, name]) =>
    Effect.map(given(settings), (found) => {
      expect(found._tag).toBe("Left")
      expect(String(found._tag === "Left" ? found.left : "")).toContain(name)
      expect(String(found._tag === "Left" ? found.left : "")).not.toContain("secret")
    }))
})
