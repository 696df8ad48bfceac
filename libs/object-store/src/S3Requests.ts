/**
 * Requests to S3, each tried again within the budget, with what its failure means.
 *
 * Retries are made here and the SDK's are off: only who sees every attempt knows whether an earlier one may have been applied. That decides what a
 * later 412 means, and what a caller may be told.
 *
 * The SDK is loaded with the first client, since it costs a command that needs none a fifth of a second.
 */
import { Duration, Effect, Option, Redacted, Schedule, type Scope } from "effect"
import { s3Fault, type S3Fault } from "./S3Errors.ts"
import type * as Sdk from "./S3Sdk.ts"
import type { S3Settings } from "./S3Settings.ts"


/** Requests under way in one store. Beyond these they wait here: the SDK counts waiting for a socket as failing to connect. */
const requestsAtOnce = 32

export interface S3Requests {
  readonly sdk: typeof Sdk
  readonly client: Sdk.S3Client
  /**
   * Runs `attempt` until it succeeds, fails for good, or the budget is used up. An attempt ends when it needs the connection no more, its body read.
   * Of a write that failed, `outcome` covers all attempts.
   */
  readonly call: <A>(kind: "read" | "write", attempt: (signal: AbortSignal) => Promise<A>) => Effect.Effect<A, S3Fault>
}

/**
 * Integrity of uploads rests on the SHA-256 that signs their bytes. The further CRC32 that the SDK adds by default is unknown to a number of other
 * servers, and the one it wants of downloads is only there where such an upload put it; both are off, and lengths are checked.
 */
const clientOf = (sdk: typeof Sdk, settings: S3Settings) => {
  const agent = { keepAlive: true, maxSockets: requestsAtOnce }
  return new sdk.S3Client({
    region: settings.region,
    forcePathStyle: settings.pathStyle,
    maxAttempts: 1,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: Duration.toMillis(settings.connectTimeout),
      socketTimeout: Duration.toMillis(settings.requestTimeout),
      httpAgent: agent,
      httpsAgent: agent
    },
    ...(Option.isSome(settings.endpoint) ? { endpoint: settings.endpoint.value } : {}),
    ...(Option.isSome(settings.credentials)
      ? {
        credentials: {
          accessKeyId: settings.credentials.value.accessKeyId,
          secretAccessKey: Redacted.value(settings.credentials.value.secretAccessKey),
          ...(Option.isSome(settings.credentials.value.sessionToken)
            ? { sessionToken: Redacted.value(settings.credentials.value.sessionToken.value) }
            : {})
        }
      }
      : {})
  })
}

/** Waits of 50 ms and up, each between 0.8 and 1.2 of its turn's, at most 3 s. */
const backoff = (budget: Duration.Duration) =>
  Schedule.exponential(Duration.millis(50)).pipe(
    Schedule.union(Schedule.spaced(Duration.seconds(3))),
    Schedule.jittered,
    Schedule.upTo(budget)
  )

/** The SDK announces, on standard error of every command, that it will leave Node 20 some day. Its version is locked; this is its switch. */
const loadSdk = Effect.promise(() => {
  // eslint-disable-next-line no-restricted-properties
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true"
  return import("./S3Sdk.ts")
})

/** Opens a client that is closed with the scope. */
export const make = Effect.fn("S3Requests.make")(function*(settings: S3Settings): Effect.fn.Return<S3Requests, never, Scope.Scope> {
  const sdk = yield* loadSdk
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => clientOf(sdk, settings)),
    (open) => Effect.sync(() => open.destroy())
  )
  const slots = yield* Effect.makeSemaphore(requestsAtOnce)
  const schedule = backoff(settings.retryBudget)

  const call: S3Requests["call"] = (kind, attempt) =>
    Effect.suspend(() => {
      let uncertain = false
      return Effect.tryPromise({ try: attempt, catch: s3Fault }).pipe(
        slots.withPermits(1),
        Effect.tapError((fault) => {
          uncertain ||= kind === "write" && fault.outcome === "Unknown"
          return fault.retryable ? Effect.logDebug("request to S3 failed").pipe(Effect.annotateLogs({ reason: fault.reason })) : Effect.void
        }),
        Effect.retry({ schedule, while: (fault) => fault.retryable }),
        Effect.mapError((fault): S3Fault => ({ ...fault, outcome: uncertain ? "Unknown" : "NotApplied" }))
      )
    })

  return { sdk, client, call }
})
