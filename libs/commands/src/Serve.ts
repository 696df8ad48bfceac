/** One part of the lake in a process of its own, over the data directory that the others use too. */
import { Console, Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as DataDir from "@voltlake/embedded/DataDir"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Stages from "./Stages.ts"
import { portConfig } from "./StartConfig.ts"

const openDataDir = Effect.flatMap(DataDir.pathConfig, Lake.openDataDir)

/** Runs one stage until interrupted. */
export const stage = (name: Stages.StageName) =>
  Effect.gen(function*() {
    const dataDir = yield* openDataDir
    const home: Stages.Home = { dataDir: dataDir.path, keyIndex: dataDir.keyIndex, purpose: `${name} process` }
    yield* Effect.zipRight(LakeSetup.ensure, Stages.run(name, home)).pipe(Effect.provide(Lake.layer(dataDir)))
  }).pipe(Effect.scoped)

/** Runs the simulator as the source, until interrupted. */
export const ingestor = Effect.gen(function*() {
  const dataDir = yield* openDataDir
  const settings = yield* Ingest.settingsConfig
  const simulator = yield* Simulator.settingsConfig
  yield* Simulator.run(simulator).pipe(Effect.provide(Ingest.layer(settings)), Effect.provide(Lake.layer(dataDir)))
}).pipe(Effect.scoped)

/** The page's files stand beside the bundle that this module is part of. */
export const pageFolder = fileURLToPath(new URL("./web/", import.meta.url))

/** Serves the page and its API until interrupted. */
export const console = Effect.gen(function*() {
  const dataDir = yield* openDataDir
  const { topic } = yield* Ingest.settingsConfig
  const port = yield* portConfig
  yield* Effect.gen(function*() {
    yield* LakeSetup.ensure
    const address = yield* ConsoleServer.serve({ port, topic, pageFolder })
    yield* Console.log(`The page is at ${address}`)
    yield* Effect.never
  }).pipe(Effect.scoped, Effect.provide(Lake.layer(dataDir)))
}).pipe(Effect.scoped)
