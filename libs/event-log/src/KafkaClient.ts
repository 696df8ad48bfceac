/** kafkajs, set up once: addresses, security, its log lines as ours, its errors as ours. */
import { FileSystem } from "@effect/platform"
import { Duration, Effect, Option, Redacted, Runtime } from "effect"
import kafkajs, { type Kafka, type KafkaConfig, type LogEntry, type SASLOptions } from "kafkajs"
import type { Outcome } from "@voltlake/domain/Failure"
import { EventLogError } from "./EventLog.ts"
import * as KafkaCodecs from "./KafkaCodecs.ts"
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
  KafkaCodecs.register()
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

/** Another attempt as it stands will end the same way. */
const lasting = new Set([
  "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "SASL_AUTHENTICATION_FAILED",
  "MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_TOPIC_EXCEPTION", "INVALID_REPLICATION_FACTOR", "POLICY_VIOLATION", "UNSUPPORTED_SASL_MECHANISM"
])

/** Answers to a write that may have happened: the last two where an attempt that timed out was repeated. */
const doubtful = new Set(["REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "DUPLICATE_SEQUENCE_NUMBER", "OUT_OF_ORDER_SEQUENCE_NUMBER"])

/** `outcome` says what a failed write may have done: what the broker answered did nothing, anything else may have. */
export const failed = (operation: string, topic: string, sent: boolean) => (error: unknown): EventLogError => {
  const fault = innermost(error)
  const isAnswered = fault.type !== undefined && !doubtful.has(fault.type)
  const outcome: Outcome = sent && !isAnswered ? "Unknown" : "NotApplied"
  return new EventLogError({
    operation,
    topic,
    outcome,
    retryable: !lasting.has(fault.type ?? "") && fault.name !== "KafkaJSSASLAuthenticationError",
    reason: fault.type === undefined ? fault.message : `${fault.message} (${fault.type})`
  })
}

/** A call of kafkajs's. */
export const call = <A>(operation: string, topic: string, run: () => Promise<A>): Effect.Effect<A, EventLogError> =>
  Effect.tryPromise({ try: run, catch: failed(operation, topic, false) })

const closeLimit = Duration.seconds(4)

/** Closes connections, for as long as that is worth waiting for. */
export const disconnect = (open: { readonly disconnect: () => Promise<void> }): Effect.Effect<void> =>
  Effect.promise(() => open.disconnect().catch(() => undefined)).pipe(Effect.interruptible, Effect.timeoutOption(closeLimit), Effect.asVoid)
