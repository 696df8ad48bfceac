/**
 * What a process tells those who run it: `/health` whether it lives and none of its parts has stopped for good, `/ready` whether all do their work, and
 * `/metrics` for Prometheus. It tells states and counts, nothing of the data, so it asks for no token.
 */
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Clock, Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { createServer } from "node:http"
import * as Prometheus from "@voltlake/observability/Prometheus"
import { type Health, StageHealth } from "@voltlake/stage-runner/Stage"
import type { Listen } from "./StartConfig.ts"

export class HealthPortUnavailable extends Schema.TaggedError<HealthPortUnavailable>()("HealthPortUnavailable", {
  host: Schema.String,
  port: Schema.Number,
  reason: Schema.String
}) {
  override get message() {
    return `cannot listen on ${this.host}:${this.port}: ${this.reason}. Choose another port with VOLTLAKE_HEALTH_PORT (0 takes any free one).`
  }
}

/** A part that waits longer is no longer ready: whoever runs it should know. */
const waitingLimit = Duration.seconds(30)

/** Steps take seconds, with all that they try again; one under way for longer is stuck, whatever state it left behind. */
const stepLimit = Duration.minutes(1)

/** Why the process is not ready; none where it is. Pure. `stepSinceMs`: when the step under way of each part began. */
export const notReady = (
  parts: ReadonlyArray<string>,
  states: ReadonlyArray<Health>,
  hasSucceeded: ReadonlySet<string>,
  stepSinceMs: ReadonlyMap<string, number>,
  nowMs: number
): ReadonlyArray<string> =>
  parts.flatMap((part) => {
    const health = states.find(({ stage }) => stage === part)
    if (health === undefined) return [`${part} has not begun`]
    const because = health.reason === "" ? "" : `: ${health.reason}`
    switch (health.state) {
      case "stopped":
        return [health.reason]
      case "standby":
        return []
      case "waiting":
        if (nowMs - health.sinceMs > Duration.toMillis(waitingLimit)) return [`${part} waits for longer than ${Duration.format(waitingLimit)}${because}`]
    }
    if (health.state === "running" && nowMs - (stepSinceMs.get(part) ?? nowMs) > Duration.toMillis(stepLimit)) {
      return [`${part} has been at one step for longer than ${Duration.format(stepLimit)}`]
    }
    return hasSucceeded.has(part) ? [] : [`${part} has not come through its first step${because}`]
  })

/** What else of the process does not do its work, such as maintenance: somebody should know, but the parts do theirs without it. Pure. */
export const besides = (parts: ReadonlyArray<string>, states: ReadonlyArray<Health>, nowMs: number): ReadonlyArray<string> => {
  const others = states.map(({ stage }) => stage).filter((stage) => !parts.includes(stage))
  return notReady(others, states, new Set(others), new Map(), nowMs)
}

const json = (ok: boolean, body: object) =>
  HttpServerResponse.unsafeJson(body, { status: ok ? 200 : 503, headers: { "cache-control": "no-store" } })

const health = Effect.gen(function*() {
  const states = yield* (yield* StageHealth).all
  const ok = states.every(({ state }) => state !== "stopped")
  const stages = states.map(({ reason, sinceMs, stage, state }) => ({
    stage,
    state,
    since: DateTime.formatIso(DateTime.unsafeMake(sinceMs)),
    reason
  }))
  return json(ok, { status: ok ? "ok" : "stopped", stages })
})

const ready = (parts: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const known = yield* StageHealth
    const succeeded = yield* Effect.filter(parts, known.hasSucceeded)
    const steps = yield* Effect.forEach(parts, (part) => Effect.map(known.stepSinceMs(part), (sinceMs) => [part, sinceMs] as const))
    const underWay = new Map(steps.flatMap(([part, sinceMs]) => (sinceMs === undefined ? [] : [[part, sinceMs] as const])))
    const states = yield* known.all
    const nowMs = yield* Clock.currentTimeMillis
    const reasons = notReady(parts, states, new Set(succeeded), underWay, nowMs)
    return json(reasons.length === 0, { status: reasons.length === 0 ? "ready" : "not ready", reasons, besides: besides(parts, states, nowMs) })
  })

/** Serves until the scope closes, where a port is set. `parts` are those that must work for the process to be ready. */
export const serve = Effect.fn("HealthServer.serve")(function*({ healthPort, host }: Listen, parts: ReadonlyArray<string>) {
  if (Option.isNone(healthPort)) return
  const port = healthPort.value
  const metrics = yield* Prometheus.make
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/health", health),
    HttpRouter.get("/ready", ready(parts)),
    HttpRouter.get("/metrics", Effect.map(metrics, (text) => HttpServerResponse.text(text, { contentType: Prometheus.contentType })))
  )
  const app = Layer.provideMerge(
    HttpServer.serve(Effect.catchTag(router, "RouteNotFound", () => HttpServerResponse.text("There are /health, /ready and /metrics.\n", { status: 404 }))),
    NodeHttpServer.layer(createServer, { host, port })
  )
  const context = yield* Layer.build(app).pipe(
    Effect.catchTag("ServeError", ({ cause }) =>
      new HealthPortUnavailable({ host, port, reason: cause instanceof Error ? cause.message : String(cause) }))
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  const at = address._tag === "TcpAddress" ? `http://${host}:${address.port}` : address.path
  yield* Effect.logInfo("health, readiness and metrics are served").pipe(Effect.annotateLogs({ address: at }))
})
