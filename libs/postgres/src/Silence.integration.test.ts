// A server that is there and says nothing any more, as behind a network that swallows packets.
import { SqlClient } from "@effect/sql/SqlClient"
import { expect, layer as withLayer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { connect as connectTcp } from "node:net"
import { PostgresUrl } from "./PostgresUrl.ts"
import * as Postgres from "./Postgres.ts"
import { faultOf } from "./SqlFault.ts"
import { temporaryFolder } from "./testing/TemporaryFolder.ts"
import { transaction } from "./Transaction.ts"

const server = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => Postgres.embedded(folder)))

/** Passes bytes on, until it is told to fall silent; then connections stay open, also new ones. */
const silentProxy = (port: number) =>
  Effect.acquireRelease(
    Effect.async<{ readonly port: number; readonly fallSilent: () => void; readonly speak: () => void; readonly close: () => void }>((resume) => {
      let isSilent = false
      const sockets = new Set<Socket>()
      const proxy = createServer((client) => {
        const upstream = connectTcp(port, "127.0.0.1")
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.on("error", () => undefined)
        }
        client.on("data", (bytes) => isSilent || upstream.write(bytes))
        upstream.on("data", (bytes) => isSilent || client.write(bytes))
        client.on("close", () => upstream.destroy())
        upstream.on("close", () => isSilent || client.destroy())
      })
      proxy.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed({
          port: (proxy.address() as AddressInfo).port,
          fallSilent: () => (isSilent = true),
          speak: () => (isSilent = false),
          close: () => {
            for (const socket of sockets) socket.destroy()
            proxy.close()
          }
        })))
    }),
    (proxy) => Effect.sync(proxy.close)
  )

withLayer(server, { excludeTestServices: true, timeout: 60_000 })("PostgreSQL", (it) => {
  it.effect("that falls silent lets statements and transactions under way fail, and is used again when it speaks", () =>
    Effect.gen(function*() {
      const url = new URL(Redacted.value(yield* PostgresUrl))
      const proxy = yield* silentProxy(Number(url.port))
      url.port = String(proxy.port)
      const context = yield* Layer.build(Postgres.fromUrl(Redacted.make(url.toString()), "voltlake", Duration.millis(600)))
      const sql = Context.get(context, SqlClient)
      // Long statements are none of its business.
      expect(yield* sql`select 1 as one from pg_sleep(1.5)`).toEqual([{ one: 1 }])
      const statement = yield* Effect.fork(Effect.flip(sql`select pg_sleep(0.1)`))
      const inside = yield* Effect.fork(Effect.flip(
        Effect.provide(transaction(Effect.zipRight(sql`select 1`, sql`select pg_sleep(0.2)`)), context)
      ))
      yield* Effect.sleep(Duration.millis(50))
      proxy.fallSilent()
      expect(faultOf((yield* Fiber.join(statement)) as Error)).toMatchObject({ outcome: "Unknown", retryable: true })
      expect(yield* Fiber.join(inside)).toMatchObject({ _tag: "SqlError" })
      proxy.speak()
      const again = yield* Effect.retry(sql`select 1 as one`, Schedule.spaced("100 millis").pipe(Schedule.upTo("20 seconds")))
      expect(again).toEqual([{ one: 1 }])
    }).pipe(Effect.scoped))
})
