/**
 * An S3 server: versitygw over a folder, or MinIO, both built by Go from their sources.
 *
 * `<dir>/s3.json` keeps which of them, the port and the root credentials (random, mode 0600), `<dir>/s3/` the data. The bucket `lakehouse` is
 * made at the first start.
 */
import { CreateBucketCommand, ListBucketsCommand, S3Client } from "@aws-sdk/client-s3"
import { Duration, Effect, Schema } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import * as Cache from "./Cache.ts"
import * as Detached from "./internal/Detached.ts"
import { attempt, readJson, reasonOf, remove, secret, writeWhole } from "./internal/Files.ts"
import * as Ports from "./internal/Ports.ts"
import * as Program from "./internal/Program.ts"
import type { Server, StackOptions } from "./Server.ts"
import { NotReady, NotUp, type StackError } from "./StackError.ts"
import * as Versions from "./Versions.ts"

const name = "s3"

export const bucket = "lakehouse"
export const region = "us-east-1"

const Settings = Schema.Struct({
  kind: Schema.Literal("versitygw", "minio"),
  port: Schema.Number,
  accessKeyId: Schema.String,
  secretAccessKey: Schema.String,
  /** versitygw keeps what it knows of objects in files beside them: where the file system has no extended attributes. */
  sidecar: Schema.Boolean
})
type Settings = typeof Settings.Type

const startLimit = Duration.seconds(30)
const requestMs = 3000

const settingsFile = (dir: string) => join(dir, "s3.json")
const folder = (dir: string) => join(dir, "s3")
const readSettings = (dir: string) => readJson(settingsFile(dir), Settings)

const modules = {
  versitygw: { title: `versitygw ${Versions.versitygw}`, version: Versions.versitygw, path: "github.com/versity/versitygw/cmd/versitygw" },
  minio: { title: `MinIO ${Versions.minio.slice(6, 14)}`, version: Versions.minio, path: "github.com/minio/minio" }
}

/** Path of the server's program, built where it is absent: that takes a minute or two, once. */
export const program = (kind: StackOptions["s3"]): Effect.Effect<string, StackError> => {
  const { path, title, version } = modules[kind]
  return Effect.map(
    Cache.ensure(`${kind}-${version}`, (into) =>
      Effect.gen(function*() {
        const go = yield* Program.find({ program: "go", neededFor: `building the S3 server ${title}` })
        yield* Program.run(title, go, ["install", `${path}@v${version}`], { env: { GOBIN: into } })
      })),
    (made) => join(made, kind)
  )
}

const endpoint = ({ port }: Settings) => `http://127.0.0.1:${port}`

const prepare = Effect.fnUntraced(function*(dir: string, kind: StackOptions["s3"]) {
  const known = yield* readSettings(dir)
  if (known !== undefined) return known
  const [port] = yield* Ports.choose(1)
  const settings: Settings = { kind, port: port!, accessKeyId: secret(10), secretAccessKey: secret(20), sidecar: false }
  yield* writeWhole(settingsFile(dir), JSON.stringify(settings))
  return settings
})

const launchOf = (dir: string, command: string, settings: Settings): Detached.Launch => {
  const address = `127.0.0.1:${settings.port}`
  const data = join(folder(dir), "data")
  const { accessKeyId, secretAccessKey } = settings
  // Credentials go by the environment: every account of the machine may read command lines.
  if (settings.kind === "minio") {
    return {
      command,
      args: ["server", data, "--address", address],
      env: { MINIO_ROOT_USER: accessKeyId, MINIO_ROOT_PASSWORD: secretAccessKey, MINIO_REGION: region, MINIO_BROWSER: "off", MINIO_UPDATE: "off" }
    }
  }
  return {
    command,
    args: [
      "--port", address, "--region", region, "--keep-alive", "--quiet",
      "posix", ...(settings.sidecar ? ["--sidecar", join(folder(dir), "sidecar")] : []), data
    ],
    env: { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey }
  }
}

/** Succeeds when the server lists the bucket, which is made where it is missing. */
const ask = (settings: Settings) =>
  Effect.tryPromise({
    try: async () => {
      const { accessKeyId, secretAccessKey } = settings
      const client = new S3Client({
        endpoint: endpoint(settings),
        region,
        credentials: { accessKeyId, secretAccessKey },
        forcePathStyle: true,
        maxAttempts: 1,
        requestHandler: { connectionTimeout: requestMs, requestTimeout: requestMs }
      })
      try {
        const { Buckets } = await client.send(new ListBucketsCommand({}))
        if (Buckets?.some(({ Name }) => Name === bucket) !== true) await client.send(new CreateBucketCommand({ Bucket: bucket }))
      } finally {
        client.destroy()
      }
    },
    catch: (cause) => new NotReady({ server: name, reason: reasonOf(cause) })
  })

const launch = Effect.fnUntraced(function*(dir: string, command: string, settings: Settings) {
  for (const part of ["data", "sidecar"]) {
    yield* attempt(folder(dir), () => fs.mkdir(join(folder(dir), part), { recursive: true, mode: 0o700 }))
  }
  yield* Detached.start(dir, name, launchOf(dir, command, settings), ask(settings), startLimit)
})

export const server: Server = {
  name,
  title: (dir) => Effect.map(readSettings(dir), (settings) => modules[settings?.kind ?? "versitygw"].title),
  fetch: ({ s3 }) => program(s3),
  logFile: (dir) => Effect.succeed(Detached.logFile(dir, name)),
  pid: (dir) => Detached.running(dir, name),
  check: Effect.fn("S3Server.check")(function*(dir: string) {
    const settings = yield* readSettings(dir)
    if (settings === undefined) return yield* new NotUp({ server: name, dir })
    yield* ask(settings)
  }),
  start: Effect.fn("S3Server.start")(function*(dir, { s3 }) {
    const command = yield* program((yield* readSettings(dir))?.kind ?? s3)
    const settings = yield* prepare(dir, s3)
    if ((yield* Detached.running(dir, name)) !== undefined) {
      if (yield* Effect.isSuccess(ask(settings))) return
      yield* Detached.stop(dir, name)
    }
    yield* launch(dir, command, settings).pipe(
      Effect.catchIf((error) => !settings.sidecar && error._tag === "StartFailed" && error.log.includes("xattr check failed"), () => {
        const beside: Settings = { ...settings, sidecar: true }
        return Effect.zipRight(writeWhole(settingsFile(dir), JSON.stringify(beside)), launch(dir, command, beside))
      })
    )
  }),
  stop: (dir) => Detached.stop(dir, name),
  kill: (dir) => Detached.kill(dir, name),
  wipe: (dir) => Effect.zipRight(remove(settingsFile(dir)), remove(folder(dir))),
  env: (dir) =>
    Effect.map(readSettings(dir), (settings) =>
      settings && {
        S3_ENDPOINT: endpoint(settings),
        AWS_ACCESS_KEY_ID: settings.accessKeyId,
        AWS_SECRET_ACCESS_KEY: settings.secretAccessKey,
        AWS_REGION: region,
        WAREHOUSE: `s3://${bucket}`
      })
}
