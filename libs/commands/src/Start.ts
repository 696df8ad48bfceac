/** `voltlake start`: every stage, the page and a source in one process. */
import { Console, Effect } from "effect"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as HealthServer from "./HealthServer.ts"
import * as Lake from "./Lake.ts"
import * as Orchestrate from "./Orchestrate.ts"
import { servePage } from "./Serve.ts"
import * as Stages from "./Stages.ts"

export interface StartOptions {
  readonly dataDir: string
  readonly port: number
  readonly source: "simulator" | "none"
}

const everything = Effect.fnUntraced(function*(options: StartOptions, home: Stages.Home) {
  const { ingest: settings, simulator } = home.settings
  const stages = yield* Effect.forEach(Stages.names, (stage) => Stages.claim(stage, home))
  const ingest = yield* Ingest.make(settings)
  yield* HealthServer.serve(home.settings.listen, Stages.names)
  const address = yield* servePage(home.settings, options.port)
  yield* Console.log(`Voltlake is at ${address}`)
  const source = options.source === "simulator" ? Simulator.run(simulator) : Effect.never
  // None of them ends by itself. Not `raceAll`, which waits for one to succeed: the first failure ends the process.
  yield* Effect.all([
    Effect.provideService(source, Ingest.Ingest, ingest),
    ...stages,
    Stages.run("maintenance", home),
    Orchestrate.run(home)
  ], { concurrency: "unbounded", discard: true })
})

export const run = (options: StartOptions) =>
  Lake.use(options.dataDir, (opened) => Effect.scoped(everything(options, { ...opened, purpose: "voltlake start", whenStopped: "others go on" })))
