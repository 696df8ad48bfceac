/**
 * A real stack without Docker: Kafka, an S3 server and PostgreSQL as processes of this machine, under one folder.
 *
 * It belongs to the folder, not to a process: `up` starts what does not run and leaves it running. Ports, credentials and data are kept until
 * `wipe`. Everything listens on 127.0.0.1 only. Where the environment already names a server (`KAFKA_BOOTSTRAP_SERVERS`, `S3_ENDPOINT`,
 * `POSTGRES_URL`), that one is used and none is started; what `env` printed names the stack's own.
 *
 * Not guaranteed: anything against other accounts of the machine that may read this one's files.
 */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { join, resolve } from "node:path"
import { attempt, exists, remove } from "./internal/Files.ts"
import { withLock } from "./internal/FolderLock.ts"
import * as Kafka from "./Kafka.ts"
import * as PostgresServer from "./PostgresServer.ts"
import * as S3Server from "./S3Server.ts"
import type { Server, ServerName, StackOptions } from "./Server.ts"
import { NotUp, StackUnusable } from "./StackError.ts"

export const servers: ReadonlyArray<Server> = [Kafka.server, S3Server.server, PostgresServer.server]

/** The variable that names a server from elsewhere, and what else its clients need. */
const variables: Readonly<Record<ServerName, { readonly address: string; readonly others: ReadonlyArray<string> }>> = {
  kafka: { address: "KAFKA_BOOTSTRAP_SERVERS", others: [] },
  s3: { address: "S3_ENDPOINT", others: ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "WAREHOUSE"] },
  postgres: { address: "POSTGRES_URL", others: [] }
}

export const defaults: StackOptions = { s3: "versitygw", kafkaJvm: Kafka.defaultJvm }

const byName = (name: ServerName): Effect.Effect<Server, StackUnusable> => {
  const found = servers.find((one) => one.name === name)
  return found === undefined ? Effect.fail(new StackUnusable({ path: name, reason: "no such server" })) : Effect.succeed(found)
}

/** What the environment says of a server from elsewhere; undefined where it says nothing, or names the stack's own. */
const external = Effect.fnUntraced(function*(dir: string, server: Server) {
  const { address, others } = variables[server.name]
  const given = process.env[address]
  if (given === undefined || given === "") return undefined
  if ((yield* server.env(dir))?.[address] === given) return undefined
  const set: Record<string, string> = { [address]: given }
  for (const name of others) {
    const value = process.env[name] ?? { AWS_REGION: "us-east-1", WAREHOUSE: "s3://lakehouse" }[name]
    if (value === undefined) return yield* new StackUnusable({ path: address, reason: `it is set, so ${name} has to be set as well` })
    set[name] = value
  }
  return set
})

/** Marks a folder as a stack's, so that nothing else is ever written to or removed. */
const marker = "voltlake-stack"

export const isStack = (folder: string) => exists(join(folder, marker))

/** Makes the folder a stack's. Refuses one that holds other things. */
const makeFolder = Effect.fnUntraced(function*(dir: string) {
  yield* attempt(dir, () => fs.mkdir(dir, { recursive: true }))
  if (yield* isStack(dir)) return
  if ((yield* attempt(dir, () => fs.readdir(dir))).some((name) => name !== ".gitignore")) {
    // Another process may just have made it one.
    if (yield* isStack(dir)) return
    return yield* new StackUnusable({ path: dir, reason: "holds other things than a stack; choose another folder with --dir" })
  }
  // Passable for the account that PostgreSQL runs under where this one is root; what is secret below has a mode of its own.
  yield* attempt(dir, () => fs.chmod(dir, 0o755))
  yield* attempt(dir, () => fs.writeFile(join(dir, ".gitignore"), "*\n"))
  yield* attempt(dir, () => fs.writeFile(join(dir, marker), "A stack of npm run stack. Remove it with: npm run stack -- wipe\n"))
})

const chosen = (names: ReadonlyArray<ServerName>) =>
  servers.filter(({ name }) => names.length === 0 || names.includes(name))

export interface Fetched {
  readonly server: ServerName
  /** Why it cannot run on this machine; null where it can. */
  readonly missing: string | null
}

/** Fetches or builds the programs of the servers that `up` would start, and tells of each what is missing. Starts nothing. */
export const fetch = Effect.fn("Stack.fetch")(function*(folder: string, options: StackOptions = defaults) {
  const dir = resolve(folder)
  return yield* Effect.forEach(servers, (server) =>
    Effect.gen(function*() {
      if ((yield* external(dir, server)) === undefined) yield* server.fetch(options)
    }).pipe(Effect.match({
      onFailure: (error): Fetched => ({ server: server.name, missing: error.message }),
      onSuccess: (): Fetched => ({ server: server.name, missing: null })
    })), { concurrency: "unbounded" })
})

/** Starts what does not run, all at once, and returns when each of them serves. Without names: every server. */
export const up = Effect.fn("Stack.up")(function*(
  folder: string,
  options: StackOptions = defaults,
  names: ReadonlyArray<ServerName> = []
) {
  const dir = resolve(folder)
  yield* makeFolder(dir)
  const start = Effect.fnUntraced(function*(server: Server) {
    if ((yield* external(dir, server)) === undefined) yield* server.start(dir, options)
  })
  yield* withLock(dir, Effect.forEach(chosen(names), start, { concurrency: "unbounded", discard: true }))
})

/** Stops what runs; data stays. */
export const down = Effect.fn("Stack.down")(function*(folder: string, names: ReadonlyArray<ServerName> = []) {
  const dir = resolve(folder)
  if (!(yield* exists(dir))) return
  yield* withLock(dir, Effect.forEach(chosen(names), (server) => server.stop(dir), { concurrency: "unbounded", discard: true }))
})

/** Stops what runs and removes the folder with all data. Refuses a folder that holds no stack. */
export const wipe = Effect.fn("Stack.wipe")(function*(folder: string) {
  const dir = resolve(folder)
  if (!(yield* exists(dir))) return
  if (!(yield* isStack(dir))) return yield* new StackUnusable({ path: dir, reason: "holds no stack" })
  yield* withLock(dir, Effect.forEach(
    servers,
    (server) => Effect.zipRight(server.stop(dir), server.wipe(dir)),
    { concurrency: "unbounded", discard: true }
  ))
  yield* remove(dir)
})

/** Starts one server again on the same port with the same data, as after {@link kill} or {@link stop}. */
export const start = Effect.fn("Stack.start")(function*(folder: string, name: ServerName, options: StackOptions = defaults) {
  yield* up(folder, options, [name])
})

const change = Effect.fnUntraced(function*(
  folder: string,
  name: ServerName,
  how: (server: Server, dir: string) => ReturnType<Server["stop"]>
) {
  const dir = resolve(folder)
  const server = yield* byName(name)
  if (!(yield* exists(dir)) || (yield* server.env(dir)) === undefined) return yield* new NotUp({ server: name, dir })
  yield* withLock(dir, how(server, dir))
})

/** Stops one server in order. */
export const stop = (folder: string, name: ServerName) => change(folder, name, (server, dir) => server.stop(dir))

/** Ends one server as a crash would: kill -9. */
export const kill = (folder: string, name: ServerName) => change(folder, name, (server, dir) => server.kill(dir))

export const restart = (folder: string, name: ServerName, options: StackOptions = defaults) =>
  change(folder, name, (server, dir) => Effect.zipRight(server.stop(dir), server.start(dir, options)))

/** What clients of the stack need, as environment variables: of the servers that were ever started here, or that the environment names. */
export const env = Effect.fn("Stack.env")(function*(folder: string) {
  const dir = resolve(folder)
  const parts = yield* Effect.forEach(servers, (server) =>
    Effect.flatMap(external(dir, server), (given) => given === undefined ? server.env(dir) : Effect.succeed(given)))
  return Object.assign({}, ...parts) as Readonly<Record<string, string>>
})

export interface ServerStatus {
  readonly server: ServerName
  readonly title: string
  /** `healthy`, `silent` (it runs and does not answer), `stopped`, `absent` (never started here), or `external`. */
  readonly state: "healthy" | "silent" | "stopped" | "absent" | "external"
  readonly address: string | null
  readonly pid: number | null
  readonly log: string | null
  /** Why it is silent. */
  readonly reason: string | null
}

/** An address without the user and password that it may carry. */
const withoutSecrets = (address: string) => address.replace(/\/\/[^/@]*@/, "//")

const statusOf = Effect.fnUntraced(function*(dir: string, server: Server) {
  const { address } = variables[server.name]
  const given = yield* external(dir, server)
  const base = { server: server.name, pid: null, log: null, reason: null }
  if (given !== undefined) {
    const status: ServerStatus = { ...base, title: `from ${address}`, state: "external", address: withoutSecrets(given[address]!) }
    return status
  }
  const title = yield* server.title(dir)
  const own = yield* server.env(dir)
  if (own === undefined) return { ...base, title, state: "absent", address: null } satisfies ServerStatus
  const pid = yield* server.pid(dir)
  const answer = pid === undefined ? undefined : yield* Effect.either(server.check(dir))
  const status: ServerStatus = {
    ...base,
    title,
    state: answer === undefined ? "stopped" : answer._tag === "Right" ? "healthy" : "silent",
    address: withoutSecrets(own[address] ?? ""),
    pid: pid ?? null,
    log: yield* server.logFile(dir),
    reason: answer?._tag === "Left" ? answer.left.message : null
  }
  return status
})

export const status = Effect.fn("Stack.status")(function*(folder: string) {
  const dir = resolve(folder)
  return yield* Effect.forEach(servers, (server) => statusOf(dir, server), { concurrency: "unbounded" })
})
