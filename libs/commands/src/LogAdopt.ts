/** `voltlake log adopt`. */
import { Console, Effect, Option } from "effect"
import * as LogAdoption from "@voltlake/bronze/LogAdoption"
import * as Lake from "./Lake.ts"
import * as Output from "./Output.ts"

export interface LogAdoptOptions {
  readonly dataDir: string
  readonly topic: Option.Option<string>
  readonly force: boolean
  readonly json: boolean
}

const adopt = Effect.fnUntraced(function*(options: LogAdoptOptions, { settings }: Lake.Opened) {
  const topic = Option.getOrElse(options.topic, () => settings.ingest.topic)
  const adopted = yield* LogAdoption.adopt(topic, options)
  if (options.json) return yield* Output.json({ topic, ...adopted })
  yield* Effect.forEach(adopted.differences, (difference) => Console.log(difference), { discard: true })
  yield* Console.log(`bronze goes on with the log that stands under ${topic} now, from its first offset; its rows say ${adopted.name}`)
})

export const run = (options: LogAdoptOptions) => Lake.use(options.dataDir, (opened) => adopt(options, opened))
