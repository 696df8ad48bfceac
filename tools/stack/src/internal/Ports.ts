/** Ports of 127.0.0.1 that are free, and stay ours over a restart. */
import { Effect } from "effect"
import { createServer } from "node:net"

// Below the range from which systems take the ports of outgoing connections (Linux from 32768, others from 49152), any of which could occupy
// the port of a server that is down for a moment.
const first = 20_000
const end = 32_000

export const isFree = (port: number) =>
  Effect.async<boolean>((resume) => {
    const server = createServer()
    server.on("error", () => resume(Effect.succeed(false)))
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resume(Effect.succeed(true))))
  })

/** So many different free ports, at random, so that two that choose at once seldom meet. */
export const choose = Effect.fnUntraced(function*(count: number) {
  const chosen = new Set<number>()
  while (chosen.size < count) {
    const port = first + Math.floor(Math.random() * (end - first))
    if (!chosen.has(port) && (yield* isFree(port))) chosen.add(port)
  }
  return [...chosen]
})
