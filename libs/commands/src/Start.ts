/** `voltlake start`: every stage, the page and a source in one process. */
import { Console, Effect, Fiber } from "effect"
import { fileURLToPath } from "node:url"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as SessionLock from "@voltlake/postgres/SessionLock"
import * as Lake from "./Lake.ts"
import * as Stages from "./Stages.ts"

export interface StartOptions {
  readonly dataDir: string
  readonly port: number
  readonly source: "simulator" | "none"
}

/** The page's files stand beside the bundle that this module is part of. */
const pageFolder = fileURLToPath(new URL("./web/", import.meta.url))

const everything = Effect.fnUntraced(function*(options: StartOptions, keyIndex: string) {
  const settings = yield* Ingest.settingsConfig
  const simulator = yield* Simulator.settingsConfig
  const lock = yield* SessionLock.acquire(Lake.stagesLock, "voltlake start")
  const ingest = yield* Ingest.make(settings)
  const address = yield* ConsoleServer.serve({ port: options.port, topic: settings.topic, pageFolder })
  const stages = yield* Effect.fork(Stages.run(keyIndex))
  yield* Console.log(`Voltlake is at ${address}`)
  const source = options.source === "simulator" ? Simulator.run(simulator) : Effect.never
  yield* Effect.raceAll([
    Fiber.join(stages),
    Effect.provideService(source, Ingest.Ingest, ingest),
    Lake.keepLock(lock, "voltlake start")
  ])
})

export const run = (options: StartOptions) =>
  Effect.gen(function*() {
    const dataDir = yield* Lake.openDataDir(options.dataDir)
    yield* everything(options, dataDir.keyIndex).pipe(Effect.scoped, Effect.provide(Lake.layer(dataDir)))
  }).pipe(Effect.scoped)
