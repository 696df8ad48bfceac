/** `voltlake events`: what happened to the lake that an operator should know. */
import { Console, Duration, Effect, Option, Schedule } from "effect"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as Lake from "./Lake.ts"
import * as Output from "./Output.ts"

export interface EventsOptions {
  readonly follow: boolean
  /** Also commits to tables by which all goes on. */
  readonly all: boolean
  readonly severity: Option.Option<OpsEvents.Severity>
  readonly kind: Option.Option<string>
  readonly limit: number
  readonly dataDir: string
  readonly json: boolean
}

const line = ({ at, kind, message, severity, subject }: OpsEvents.OpsEvent) => `${at.toISOString()} ${severity} ${kind} ${subject}: ${message}`

const pollEvery = Duration.millis(500)
const readMax = 1000

/** Prints what comes, a line each, until interrupted. `known` are the newest that were there. */
const follow = Effect.fnUntraced(function*(
  print: (event: OpsEvents.OpsEvent) => Effect.Effect<void>,
  wanted: OpsEvents.Wanted,
  known: ReadonlyArray<OpsEvents.OpsEvent>
) {
  let seen = new Set(known.map(({ id }) => id))
  let last = BigInt(known.at(-1)?.id ?? 0)
  const step = Effect.gen(function*() {
    const found = yield* OpsEvents.after(String(last - BigInt(OpsEvents.overlap)), readMax, wanted)
    for (const event of found) {
      if (!seen.has(event.id)) yield* print(event)
      last = BigInt(event.id) > last ? BigInt(event.id) : last
    }
    seen = new Set(found.map(({ id }) => id))
  })
  yield* Effect.repeat(step, Schedule.spaced(pollEvery))
})

export const run = ({ all, dataDir, follow: isFollowing, json, kind, limit, severity }: EventsOptions) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const wanted = { commits: all, kind: Option.getOrUndefined(kind), severity: Option.getOrUndefined(severity) }
      const known = yield* OpsEvents.newest(isFollowing ? Math.max(limit, OpsEvents.overlap) : limit, wanted)
      const newest = limit === 0 ? [] : known.slice(-limit)
      if (!isFollowing) return yield* json ? Output.json(newest) : Effect.forEach(newest, (event) => Console.log(line(event)), { discard: true })
      // One document a line: what has no end is no document.
      const print = (event: OpsEvents.OpsEvent) => Console.log(json ? Output.jsonText(event) : line(event))
      yield* Effect.forEach(newest, print, { discard: true })
      yield* follow(print, wanted, known)
    }))
