/**
 * An HTTP proxy in front of a server, for tests: passes requests on as they are (also the Host header, which S3's signatures cover), and does harm to
 * those that a test names. Which of them it harms, a seed decides; what it did, it counts.
 */
import { Effect, type Scope } from "effect"
import { createServer, type IncomingMessage, request as httpRequest, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import * as SeededRandom from "./SeededRandom.ts"

/**
 * `unavailable`: 503, not passed on · `resetBefore`: the connection breaks, not passed on · `resetAfter`: passed on and applied, the connection
 * breaks in place of the answer · `delay`: the answer comes later · `truncate`: the answer's body ends midway.
 */
export type Fault = "unavailable" | "resetBefore" | "resetAfter" | "delay" | "truncate"

export interface FaultPlan {
  readonly fault: Fault
  /** Share of the matching requests that meet the fault, 0 to 1. */
  readonly share: number
  /** Requests to harm at most; none: no limit. */
  readonly timesMax?: number
  readonly matches?: (method: string, path: string) => boolean
  /** For `delay`. */
  readonly delayMs?: number
}

export interface FaultProxy {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** What happens from now on; `undefined`: nothing but passing on. Counts begin anew. */
  readonly plan: (plan: FaultPlan | undefined) => Effect.Effect<void>
  readonly counts: () => Counts
}

export interface Counts {
  readonly passed: number
  readonly harmed: number
  /** Answers of the server by status, also those that the client never saw. */
  readonly statuses: ReadonlyMap<number, number>
}

interface State {
  plan: FaultPlan | undefined
  passed: number
  harmed: number
  statuses: Map<number, number>
}

const bodyOf = (message: IncomingMessage) =>
  new Promise<Buffer>((resolve, reject) => {
    const chunks: Array<Buffer> = []
    message.on("data", (chunk: Buffer) => chunks.push(chunk))
    message.on("end", () => resolve(Buffer.concat(chunks)))
    message.on("error", reject)
  })

/** Node gives names and values in turn, as they came; it takes a list of values for a name that came more than once. */
const headersOf = (raw: ReadonlyArray<string>) => {
  const headers: Record<string, string | Array<string>> = {}
  for (let at = 0; at < raw.length; at += 2) {
    const [name, value] = [raw[at]!, raw[at + 1]!]
    headers[name] = headers[name] === undefined ? value : [headers[name], value].flat()
  }
  return headers
}

/** Passes the request on as it streams in; with the server's answer when its head is there. */
const passOn = (target: URL, incoming: IncomingMessage) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = httpRequest(
      { host: target.hostname, port: target.port, method: incoming.method, path: incoming.url, headers: headersOf(incoming.rawHeaders), agent: false },
      resolve
    )
    outgoing.on("error", reject)
    outgoing.on("continue", () => undefined)
    incoming.on("error", () => outgoing.destroy())
    incoming.on("close", () => {
      if (!incoming.complete) outgoing.destroy()
    })
    incoming.pipe(outgoing)
  })

const relay = (answer: IncomingMessage, response: ServerResponse) => {
  response.writeHead(answer.statusCode!, headersOf(answer.rawHeaders))
  response.on("close", () => answer.destroy())
  answer.on("error", () => response.destroy())
  answer.pipe(response)
}

const truncated = async (answer: IncomingMessage, response: ServerResponse) => {
  const body = await bodyOf(answer)
  response.writeHead(answer.statusCode!, headersOf(answer.rawHeaders))
  // The rest never comes: the head promised more.
  response.write(body.subarray(0, Math.floor(body.length / 2)), () => response.socket?.destroySoon())
}

const serve = async (target: URL, state: State, random: SeededRandom.SeededRandom, incoming: IncomingMessage, response: ServerResponse) => {
  const { plan } = state
  const harm = plan !== undefined
    && state.harmed < (plan.timesMax ?? Infinity)
    && (plan.matches?.(incoming.method ?? "", incoming.url ?? "") ?? true)
    && random.next() < plan.share
  if (harm) state.harmed++
  else state.passed++
  const fault = harm ? plan.fault : undefined
  if (fault === "resetBefore") return void incoming.socket.resetAndDestroy()
  if (fault === "unavailable") {
    incoming.resume()
    incoming.on("end", () => response.writeHead(503, { "content-type": "text/plain" }).end("slow down"))
    return
  }
  const answer = await passOn(target, incoming)
  const status = answer.statusCode!
  state.statuses.set(status, (state.statuses.get(status) ?? 0) + 1)
  if (fault === "resetAfter") {
    await bodyOf(answer)
    incoming.socket.resetAndDestroy()
  } else if (fault === "truncate" && status < 300) await truncated(answer, response)
  else if (fault === "delay") setTimeout(() => relay(answer, response), plan?.delayMs ?? 2000)
  else relay(answer, response)
}

const listening = (server: Server) =>
  Effect.async<number, Error>((resume) => {
    server.once("error", (cause) => resume(Effect.fail(cause)))
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
  })

/** Listens on a free port of loopback until the scope closes. */
export const make = (targetUrl: string, seed: number): Effect.Effect<FaultProxy, Error, Scope.Scope> =>
  Effect.gen(function*() {
    const state: State = { plan: undefined, passed: 0, harmed: 0, statuses: new Map() }
    const random = SeededRandom.make(seed)
    const target = new URL(targetUrl)
    const server = createServer((incoming, response) => {
      incoming.on("error", () => undefined)
      response.on("error", () => undefined)
      serve(target, state, random, incoming, response).catch(() => incoming.socket.destroy())
    })
    // Whoever waits for leave to send a body gets it from the proxy: it is for the server to refuse.
    server.on("checkContinue", (incoming, response) => {
      response.writeContinue()
      server.emit("request", incoming, response)
    })
    yield* Effect.addFinalizer(() =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
    )
    const port = yield* listening(server)
    return {
      url: `http://127.0.0.1:${port}`,
      plan: (plan: FaultPlan | undefined) => Effect.sync(() => void Object.assign(state, { plan, passed: 0, harmed: 0, statuses: new Map() })),
      counts: () => ({ passed: state.passed, harmed: state.harmed, statuses: new Map(state.statuses) })
    }
  })
