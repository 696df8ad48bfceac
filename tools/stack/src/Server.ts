/** What every server of the stack does. All of it can be repeated. */
import type { Effect } from "effect"
import type { StackError } from "./StackError.ts"

export type ServerName = "kafka" | "s3" | "postgres"

export interface StackOptions {
  /** The S3 server that a new stack gets; an existing one keeps its own. */
  readonly s3: "versitygw" | "minio"
  /** Flags of Kafka's Java machine, at every start. */
  readonly kafkaJvm: ReadonlyArray<string>
}

export interface Server {
  readonly name: ServerName
  /** What it is, with its version, such as `Kafka 4.3.1`. */
  readonly title: (dir: string) => Effect.Effect<string, StackError>
  /** Fetches or builds its programs where they are not in the cache, and checks that what it needs of the machine is there. */
  readonly fetch: (options: StackOptions) => Effect.Effect<void, StackError>
  readonly logFile: (dir: string) => Effect.Effect<string, StackError>
  /** Process id, where it runs. */
  readonly pid: (dir: string) => Effect.Effect<number | undefined, StackError>
  /** Succeeds when it serves requests, not when it merely listens. */
  readonly check: (dir: string) => Effect.Effect<void, StackError>
  /** Returns when it serves. Port, credentials and data are made at the first start and kept. Does nothing where it runs and serves. */
  readonly start: (dir: string, options: StackOptions) => Effect.Effect<void, StackError>
  /** Ends it in order; by force where that takes longer than 20 s. */
  readonly stop: (dir: string) => Effect.Effect<void, StackError>
  /** Ends it at once, as a crash would. */
  readonly kill: (dir: string) => Effect.Effect<void, StackError>
  /** Removes data and settings. It must not run. */
  readonly wipe: (dir: string) => Effect.Effect<void, StackError>
  /** What its clients need, as environment variables; undefined where it was never started. */
  readonly env: (dir: string) => Effect.Effect<Readonly<Record<string, string>> | undefined, StackError>
}
