import { NodeContext } from "@effect/platform-node"
import { expect, it } from "@effect/vitest"
import { Effect, Layer, Option, type Scope } from "effect"
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { join } from "node:path"
import { promisify } from "node:util"
import * as Kafka from "@voltlake/stack/Kafka"
import { describeStack, stackEnv } from "@voltlake/testing/RealStack"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import { EventLog, type NewRecord } from "./EventLog.ts"
import { openAll, record } from "./EventLogContract.ts"
import { layer } from "./KafkaEventLog.ts"
import { compressions, type KafkaSettings } from "./KafkaSettings.ts"

const settings: KafkaSettings = {
  bootstrapServers: (stackEnv?.kafka ?? "").split(","),
  protocol: "PLAINTEXT",
  mechanism: "PLAIN",
  username: Option.none(),
  password: Option.none(),
  caFile: Option.none(),
  certificateFile: Option.none(),
  keyFile: Option.none(),
  compression: "lz4"
}

const kafka = (own: Partial<KafkaSettings> = {}) => Layer.fresh(layer({ ...settings, ...own }).pipe(Layer.provide(NodeContext.layer)))
const newTopic = () => `topic_${randomUUID().slice(0, 8)}`

const produceKey = 0
const metadataKey = 3

/** Calls back with every whole message of the protocol: a length, and that many bytes. */
const messages = (socket: Socket, each: (message: Buffer) => void) => {
  let held = Buffer.alloc(0)
  socket.on("data", (bytes: Buffer) => {
    held = Buffer.concat([held, bytes])
    while (held.length >= 4 && held.length >= 4 + held.readInt32BE(0)) {
      const end = 4 + held.readInt32BE(0)
      each(held.subarray(0, end))
      held = held.subarray(end)
    }
  })
}

/** A broker's address as metadata tells it. */
const addressOf = (host: string, port: number): Buffer => {
  const bytes = Buffer.alloc(2 + host.length + 4)
  bytes.writeInt16BE(host.length, 0)
  bytes.write(host, 2)
  bytes.writeInt32BE(port, 2 + host.length)
  return bytes
}

/**
 * A proxy in front of the broker, to which clients come back as it names itself in the broker's place. Breaks connections at some of the requests to
 * produce: before they are passed on, or after the broker has answered.
 */
const harmful = (share: number): Effect.Effect<{ readonly address: string; readonly harmed: { before: number; after: number } }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const [host = "", port = ""] = settings.bootstrapServers[0]!.split(":")
    const random = SeededRandom.make(7)
    const harmed = { before: 0, after: 0 }
    const sockets = new Set<Socket>()
    const server = createServer((client) => {
      const broker = connect(Number(port), host)
      const close = () => {
        client.destroy()
        broker.destroy()
      }
      for (const socket of [client, broker]) {
        sockets.add(socket)
        socket.on("error", close).on("close", close)
      }
      const asked = new Map<number, number>()
      messages(client, (message) => {
        const key = message.readInt16BE(4)
        if (key === produceKey && random.next() < share) {
          harmed.before += 1
          return close()
        }
        asked.set(message.readInt32BE(8), key)
        broker.write(message)
      })
      messages(broker, (message) => {
        const key = asked.get(message.readInt32BE(4))
        if (key === produceKey && random.next() < share) {
          harmed.after += 1
          return close()
        }
        const at = key === metadataKey ? message.indexOf(addressOf(host, Number(port))) : -1
        if (at >= 0) addressOf(host, (server.address() as AddressInfo).port).copy(message, at)
        client.write(message)
      })
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, host, () => resume(Effect.void))),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return { address: `${host}:${(server.address() as AddressInfo).port}`, harmed }
  })

const text = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString())

/** What Kafka's own consumer reads, a line for each record. */
const javaConsumer = (topic: string, count: number) =>
  Effect.gen(function*() {
    const classPath = join(yield* Kafka.jars, "*")
    const shown = ["timestamp", "offset", "headers", "key"].flatMap((what) => ["--formatter-property", `print.${what}=true`])
    const { stdout } = yield* Effect.promise(() =>
      promisify(execFile)("java", [
        "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classPath, "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "--bootstrap-server", settings.bootstrapServers[0]!, "--topic", topic, "--from-beginning", "--max-messages", String(count), "--timeout-ms", "20000",
        ...shown, "--formatter-property", "null.literal=NULL"
      ]))
    return stdout.replace(/\n$/, "").split("\n")
  })

describeStack("kafka")("KafkaProducer", () => {
  it.scopedLive("has every record once where connections break before and after it was written", () =>
    Effect.gen(function*() {
      const topic = newTopic()
      const { address, harmed } = yield* harmful(0.25)
      const valuesOf = (append: number) => Array.from({ length: 50 }, (_, at) => `${append}/${at}`)
      const ranges = yield* Effect.flatMap(EventLog, (log) =>
        Effect.zipRight(
          log.ensureTopic(topic, 3),
          Effect.forEach(Array.from({ length: 40 }, (_, at) => at), (append) =>
            log.append(topic, new Map([append % 3, (append + 1) % 3].map((partition) => [partition, valuesOf(append).map((value) => record(value))]))),
            { concurrency: 4 })
        )).pipe(Effect.provide(kafka({ bootstrapServers: [address] })))
      expect(harmed.before).toBeGreaterThan(2)
      expect(harmed.after).toBeGreaterThan(2)
      yield* Effect.gen(function*() {
        const reader = yield* openAll(yield* EventLog, topic, 3)
        const logs: Array<ReadonlyArray<string | null>> = []
        for (const { end, partition } of yield* reader.assigned) {
          const values: Array<string | null> = []
          for (let at = 0n; at < end;) {
            const batch = yield* reader.read({ topic, partition }, at, { recordsMax: 1_000_000, bytesMax: 100_000_000 })
            values.push(...[...batch.records].map(({ value }) => text(value)))
            at = batch.end
          }
          logs.push(values)
        }
        expect(logs.flat()).toHaveLength(40 * 2 * 50)
        ranges.forEach((own, append) => {
          expect(own).toHaveLength(2)
          for (const { end, partition, start } of own) expect(logs[partition]!.slice(Number(start), Number(end))).toEqual(valuesOf(append))
        })
      }).pipe(Effect.provide(kafka()))
    }), 120_000)

  it.scopedLive("sends what Kafka's own consumer reads, with every codec", () =>
    Effect.gen(function*() {
      const topic = newTopic()
      // A broker drops what is older than its retention, but nothing that lies beside newer records.
      const sentMs = Date.now()
      const given = (codec: string): ReadonlyArray<NewRecord> => [
        { ...record(`${codec} ${"telemetry ".repeat(30)}`, "ключ", [{ key: "a", value: Buffer.from("1") }, { key: "a", value: null }]), timestampMs: sentMs },
        { ...record(null, "tombstone"), timestampMs: 0 },
        { ...record("", null, [{ key: "", value: Buffer.from("") }]), timestampMs: 1_600_000_000_000 }
      ]
      for (const compression of compressions) {
        yield* Effect.flatMap(EventLog, (log) => Effect.zipRight(log.ensureTopic(topic, 1), log.append(topic, new Map([[0, given(compression)]])))).pipe(
          Effect.provide(kafka({ compression })))
      }
      expect(yield* javaConsumer(topic, 3 * compressions.length)).toEqual(compressions.flatMap((codec, at) => [
        `CreateTime:${sentMs}\tOffset:${3 * at}\ta:1,a:NULL\tключ\t${codec} ${"telemetry ".repeat(30)}`,
        `CreateTime:0\tOffset:${3 * at + 1}\tNO_HEADERS\ttombstone\tNULL`,
        `CreateTime:1600000000000\tOffset:${3 * at + 2}\t:\tNULL\t`
      ]))
    }), 120_000)
})
