/** `voltlake events`: what happened to the lake that an operator should know. */
import { Console, Duration, Effect, Schedule } from "effect"
import * as OpsEvents from "@voltlake/postgres/OpsEvents"
import * as Lake from "./Lake.ts"
import * as Output from "./Output.ts"

export interface EventsOptions {
  readonly follow: boolean
  readonly limit: number
  readonly dataDir: string
  readonly json: boolean
}

const line = ({ at, kind, message, severity, subject }: OpsEvents.OpsEvent) => `${at.toISOString()} ${severity} ${kind} ${subject}: ${message}`

const pollEvery = Duration.millis(500)
const readMax = 1000

/** Prints what comes, a line each, until interrupted. */
const follow = Effect.fnUntraced(function*(print: (event: OpsEvents.OpsEvent) => Effect.Effect<void>, from: string) {
  let last = from
  const step = Effect.gen(function*() {
    for (const event of yield* OpsEvents.after(last, readMax)) {
      yield* print(event)
      last = event.id
    }
  })
  yield* Effect.repeat(step, Schedule.spaced(pollEvery))
})

export const run = ({ dataDir, follow: isFollowing, json, limit }: EventsOptions) =>
  Lake.use(dataDir, () =>
    Effect.gen(function*() {
      const newest = yield* OpsEvents.newest(limit)
      if (!isFollowing) return yield* json ? Output.json(newest) : Effect.forEach(newest, (event) => Console.log(line(event)), { discard: true })
      // One document a line: what has no end is no document.
      const print = (event: OpsEvents.OpsEvent) => Console.log(json ? Output.jsonText(event) : line(event))
      yield* Effect.forEach(newest, print, { discard: true })
      yield* follow(print, newest.at(-1)?.id ?? "0")
    }))
