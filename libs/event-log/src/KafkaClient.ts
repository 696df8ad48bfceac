/** kafkajs, set up once: addresses, security, its log lines as ours, its errors as ours. */
import { FileSystem } from "@effect/platform"
import { Duration, Effect, Option, Redacted, Runtime } from "effect"
import kafkajs, { type Kafka, type KafkaConfig, type LogEntry, type SASLOptions } from "kafkajs"
import { EventLogError } from "./EventLog.ts"
import { seeingOpenTransactions } from "./KafkaInternals.ts"
import type { KafkaSettings } from "./KafkaSettings.ts"

const connectTimeoutMs = 5_000
const requestTimeoutMs = 30_000

const saslOf = ({ mechanism, password, protocol, username }: KafkaSettings): SASLOptions | undefined => {
  if (!protocol.startsWith("SASL") || Option.isNone(username) || Option.isNone(password)) return undefined
  const login = { username: username.value, password: Redacted.value(password.value) }
  switch (mechanism) {
    case "PLAIN":
      return { mechanism: "plain", ...login }
    case "SCRAM-SHA-256":
      return { mechanism: "scram-sha-256", ...login }
    case "SCRAM-SHA-512":
      return { mechanism: "scram-sha-512", ...login }
  }
}

const sslOf = Effect.fnUntraced(function*({ caFile, certificateFile, keyFile, protocol }: KafkaSettings) {
  if (!protocol.endsWith("SSL")) return false
  const fs = yield* FileSystem.FileSystem
  const read = (path: Option.Option<string>) =>
    Effect.transposeOption(Option.map(path, (file) => fs.readFileString(file)))
  const [ca, cert, key] = yield* Effect.all([read(caFile), read(certificateFile), read(keyFile)])
  return {
    ...(Option.isSome(ca) ? { ca: [ca.value] } : {}),
    ...(Option.isSome(cert) ? { cert: cert.value } : {}),
    ...(Option.isSome(key) ? { key: key.value } : {})
  }
})

const { Kafka: Client, logLevel } = kafkajs

/** What kafkajs cannot mend by itself reaches us as an error as well, so its own lines are for those who look closely. */
const logLine = ({ log, namespace }: LogEntry) => {
  const { error, message } = log
  return Effect.logDebug(message).pipe(Effect.annotateLogs({ kafka: namespace, ...(typeof error === "string" ? { reason: error } : {}) }))
}

/** Clients of the settings: one for records, one for questions. They connect to nothing yet. */
export const make = Effect.fn("KafkaClient.make")(function*(settings: KafkaSettings) {
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const sasl = saslOf(settings)
  const config: KafkaConfig = {
    clientId: "voltlake",
    brokers: [...settings.bootstrapServers],
    ssl: yield* sslOf(settings),
    ...(sasl === undefined ? {} : { sasl }),
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 3 },
    logLevel: logLevel.WARN,
    logCreator: () => (entry) => {
      runFork(logLine(entry))
    }
  }
  const client: Kafka = new Client(config)
  return { client, adminClient: seeingOpenTransactions(new Client(config)) }
})

interface KafkaFault {
  readonly name?: string
  readonly message: string
  readonly type?: string
  readonly retriable?: boolean
  readonly cause?: unknown
  readonly errors?: ReadonlyArray<unknown>
}

/** The error that says most: kafkajs wraps what failed in what gave up. */
const innermost = (error: unknown): KafkaFault => {
  const fault = error as KafkaFault
  const inner = fault.errors?.[0] ?? fault.cause
  return inner instanceof Error ? innermost(inner) : fault
}

/** The protocol's name of the error, such as `UNKNOWN_TOPIC_OR_PARTITION`, where the broker answered with one. */
export const typeOf = (error: unknown): string | undefined => innermost(error).type

const lasting = new Set([
  "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "SASL_AUTHENTICATION_FAILED",
  "MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_TIMESTAMP", "UNSUPPORTED_COMPRESSION_TYPE", "UNSUPPORTED_VERSION",
  "UNSUPPORTED_FOR_MESSAGE_FORMAT", "INVALID_TOPIC_EXCEPTION", "INVALID_REPLICATION_FACTOR", "POLICY_VIOLATION", "UNSUPPORTED_SASL_MECHANISM"
])

/** Whether another attempt as it stands will end the same way; by the protocol's name of the error. */
export const isLasting = (type: string): boolean => lasting.has(type)

/** Of a call that changed nothing, as far as the caller must know. */
export const failed = (operation: string, topic: string) => (error: unknown): EventLogError => {
  const fault = innermost(error)
  return new EventLogError({
    operation,
    topic,
    outcome: "NotApplied",
    retryable: !isLasting(fault.type ?? "") && fault.name !== "KafkaJSSASLAuthenticationError",
    reason: fault.type === undefined ? fault.message : `${fault.message} (${fault.type})`
  })
}

/** A call of kafkajs's. */
export const call = <A>(operation: string, topic: string, run: () => Promise<A>): Effect.Effect<A, EventLogError> =>
  Effect.tryPromise({ try: run, catch: failed(operation, topic) })

const closeLimit = Duration.seconds(4)

/** Closes connections, for as long as that is worth waiting for. */
export const disconnect = (open: { readonly disconnect: () => Promise<void> }): Effect.Effect<void> =>
  Effect.promise(() => open.disconnect().catch(() => undefined)).pipe(Effect.interruptible, Effect.timeoutOption(closeLimit), Effect.asVoid)
