/**
 * PostgreSQL from the programs that npm installed: the embedded server, run without anybody who counts as its user.
 *
 * `<dir>/postgres.json` keeps its URL, with the password (mode 0600); the data lie where EmbeddedPostgres puts them (as root below `/var/lib`
 * where the server's account cannot reach the folder).
 */
import { Duration, Effect, Redacted, Schedule, Schema } from "effect"
import * as Pg from "pg"
import { join } from "node:path"
import * as EmbeddedPostgres from "@voltlake/postgres/EmbeddedPostgres"
import { readJson, reasonOf, remove, writeWhole } from "./internal/Files.ts"
import { startOf } from "./internal/Detached.ts"
import * as Ports from "./internal/Ports.ts"
import type { Server } from "./Server.ts"
import { NotReady, NotUp, StackUnusable, StartFailed } from "./StackError.ts"

const name = "postgres"

const Settings = Schema.Struct({ url: Schema.String, port: Schema.Number, log: Schema.String })

const connectMs = 3000
const goneEvery = Duration.millis(25)
const killLimit = Duration.seconds(5)

const settingsFile = (dir: string) => join(dir, "postgres.json")
const readSettings = (dir: string) => readJson(settingsFile(dir), Settings)

const unusable = (dir: string) => Effect.mapError((error: { readonly message: string }) => new StackUnusable({ path: dir, reason: error.message }))

const ask = (url: string) =>
  Effect.tryPromise({
    try: async () => {
      const client = new Pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, query_timeout: connectMs })
      // A connection that breaks says so here as well as to the query.
      client.on("error", () => undefined)
      try {
        await client.connect()
        await client.query("SELECT 1")
      } finally {
        await client.end()
      }
    },
    catch: (cause) => new NotReady({ server: name, reason: reasonOf(cause) })
  })

const pid = (dir: string) =>
  EmbeddedPostgres.serverOf(dir).pipe(
    Effect.map((found) => found.pid),
    Effect.catchTag("NoServerRunning", () => Effect.succeed(undefined)),
    unusable(dir)
  )

export const server: Server = {
  name,
  title: () => Effect.succeed("PostgreSQL 18, embedded"),
  // npm installed it; where it has none for this machine, starting says so.
  fetch: () => Effect.void,
  logFile: (dir) => Effect.map(readSettings(dir), (settings) => settings?.log ?? ""),
  pid,
  check: Effect.fn("PostgresServer.check")(function*(dir: string) {
    const settings = yield* readSettings(dir)
    if (settings === undefined) return yield* new NotUp({ server: name, dir })
    yield* ask(settings.url)
  }),
  start: Effect.fn("PostgresServer.start")(function*(dir) {
    const known = yield* readSettings(dir)
    const [free] = known === undefined ? yield* Ports.choose(1) : [known.port]
    const started = yield* EmbeddedPostgres.start(dir, free).pipe(
      Effect.mapError((error) => new StartFailed({ server: name, reason: error.message, log: "" }))
    )
    if (known !== undefined && known.port !== started.port) {
      yield* Effect.logWarning("the port was taken by another program").pipe(Effect.annotateLogs({ was: known.port, now: started.port }))
    }
    const url = Redacted.value(started.url)
    yield* writeWhole(settingsFile(dir), JSON.stringify({ url, port: started.port, log: started.log }))
    yield* ask(url)
  }),
  stop: (dir) => unusable(dir)(EmbeddedPostgres.stop(dir)),
  kill: Effect.fn("PostgresServer.kill")(function*(dir) {
    const found = yield* pid(dir)
    if (found === undefined) return
    yield* Effect.sync(() => process.kill(found, "SIGKILL"))
    yield* startOf(found).pipe(
      Effect.repeat({ while: (start) => start !== undefined, schedule: Schedule.spaced(goneEvery) }),
      Effect.timeoutOption(killLimit)
    )
  }),
  wipe: (dir) => Effect.zipRight(unusable(dir)(EmbeddedPostgres.remove(dir)), remove(settingsFile(dir))),
  env: (dir) => Effect.map(readSettings(dir), (settings) => settings && { POSTGRES_URL: settings.url })
}
