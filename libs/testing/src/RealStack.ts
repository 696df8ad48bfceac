/**
 * The real Kafka, S3 server and PostgreSQL that the run's global setup started: for files named `*.stack.test.ts`, which share them. A test makes
 * topics, prefixes and schemas of its own; one that kills servers starts a stack of its own (`@voltlake/stack/Stack`) below `stackEnv.dir`.
 */
import { describe, inject } from "@effect/vitest"

declare module "vitest" {
  interface ProvidedContext {
    readonly stack: { readonly dir: string; readonly env: Readonly<Record<string, string>> }
  }
}

export interface RealS3 {
  /** Such as `http://127.0.0.1:1234`; paths, not host names, carry the bucket. */
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
  /** Such as `s3://lakehouse`; the bucket is there. */
  readonly warehouse: string
}

export interface StackEnv {
  /** Folder for stacks of a test's own: whatever runs there is stopped and removed after the run, also an interrupted one. */
  readonly dir: string
  /** Bootstrap servers, `host:port`, separated by commas. */
  readonly kafka?: string
  readonly s3?: RealS3
  /** `postgres://user:password@host:port/database`. */
  readonly postgresUrl?: string
  /** The same as environment variables, for processes. */
  readonly variables: Readonly<Record<string, string>>
}

const read = (dir: string, variables: Readonly<Record<string, string>>): StackEnv => {
  const { AWS_ACCESS_KEY_ID, AWS_REGION, AWS_SECRET_ACCESS_KEY, KAFKA_BOOTSTRAP_SERVERS, POSTGRES_URL, S3_ENDPOINT, WAREHOUSE } = variables
  return {
    dir,
    ...(KAFKA_BOOTSTRAP_SERVERS === undefined ? {} : { kafka: KAFKA_BOOTSTRAP_SERVERS }),
    ...(S3_ENDPOINT === undefined ? {} : {
      s3: {
        endpoint: S3_ENDPOINT,
        accessKeyId: AWS_ACCESS_KEY_ID ?? "",
        secretAccessKey: AWS_SECRET_ACCESS_KEY ?? "",
        region: AWS_REGION ?? "",
        warehouse: WAREHOUSE ?? ""
      }
    }),
    ...(POSTGRES_URL === undefined ? {} : { postgresUrl: POSTGRES_URL }),
    variables
  }
}

const provided = inject("stack")

/** Undefined in a file that is no `*.stack.test.ts`; a server is absent where this machine cannot run it. */
export const stackEnv: StackEnv | undefined = provided === undefined ? undefined : read(provided.dir, provided.env)

/** As `describe`, and skipped where one of the servers is absent; the setup has said why. */
export const describeStack = (...servers: ReadonlyArray<"kafka" | "s3" | "postgresUrl">) =>
  describe.skipIf(servers.some((server) => stackEnv?.[server] === undefined))
