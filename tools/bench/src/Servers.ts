/** The servers that a bench needs: those that the environment names, or a stack of its own (tools/stack), gone afterwards. */
import { NodeContext } from "@effect/platform-node"
import { Effect, Logger } from "effect"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Stack from "@voltlake/stack/Stack"
import * as Pg from "pg"

/** What the product's processes are told: addresses, credentials, and a place of the bench's own on each server. */
export interface Servers {
  readonly env: Readonly<Record<string, string>>
  readonly topic: string
  readonly postgresUrl: string
}

const run = <A, E>(effect: Effect.Effect<A, E, NodeContext.NodeContext>): Promise<A> =>
  Effect.runPromise(effect.pipe(Effect.provide([NodeContext.layer, Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))])))

/** A database of the bench's own on the server, dropped afterwards. */
const ownDatabase = async (serverUrl: string, name: string) => {
  const server = new Pg.Client({ connectionString: serverUrl })
  await server.connect()
  await server.query(`CREATE DATABASE ${name}`)
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  const close = async () => {
    await server.query(`DROP DATABASE ${name} WITH (FORCE)`)
    await server.end()
  }
  return { url: url.href, close }
}

/** Brings the servers up, and calls `bench` with a topic, a database and a warehouse that nobody else uses. */
export const withServers = async <A>(bench: (servers: Servers) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-stack-"))
  // As root, PostgreSQL runs under another account.
  chmodSync(folder, 0o755)
  try {
    await run(Stack.up(folder))
    const env = await run(Stack.env(folder))
    const name = `bench_${Date.now()}`
    const database = await ownDatabase(env["POSTGRES_URL"]!, name)
    try {
      return await bench({
        topic: name,
        postgresUrl: database.url,
        env: { ...env, POSTGRES_URL: database.url, KAFKA_TOPIC: name, WAREHOUSE: `${env["WAREHOUSE"]}/${name}` }
      })
    } finally {
      await database.close()
    }
  } finally {
    await run(Stack.wipe(folder))
    rmSync(folder, { recursive: true, force: true })
  }
}
