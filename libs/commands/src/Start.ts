/** `voltlake start`: every stage, the page and a source in one process. */
import { Console, Effect } from "effect"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Lake from "./Lake.ts"
import { pageFolder } from "./Serve.ts"
import * as Stages from "./Stages.ts"

export interface StartOptions {
  readonly dataDir: string
  readonly port: number
  readonly source: "simulator" | "none"
}

const everything = Effect.fnUntraced(function*(options: StartOptions, home: Stages.Home) {
  const settings = yield* Ingest.settingsConfig
  const simulator = yield* Simulator.settingsConfig
  const acquired = yield* Effect.forEach(Stages.names, (stage) => Stages.acquire(stage, home))
  const ingest = yield* Ingest.make(settings)
  const address = yield* ConsoleServer.serve({ port: options.port, topic: settings.topic, pageFolder })
  yield* Console.log(`Voltlake is at ${address}`)
  const source = options.source === "simulator" ? Simulator.run(simulator) : Effect.never
  // None of them ends by itself. Not `raceAll`, which waits for one to succeed: the first failure ends the process.
  yield* Effect.all([
    Effect.provideService(source, Ingest.Ingest, ingest),
    ...acquired.map((stage) => Stages.runLocked(stage, home))
  ], { concurrency: "unbounded", discard: true })
})

export const run = (options: StartOptions) =>
  Effect.gen(function*() {
    const dataDir = yield* Lake.openDataDir(options.dataDir)
    const home: Stages.Home = { dataDir: dataDir.path, keyIndex: dataDir.keyIndex, purpose: "voltlake start" }
    yield* everything(options, home).pipe(Effect.scoped, Effect.provide(Lake.layer(dataDir)))
  }).pipe(Effect.scoped)
