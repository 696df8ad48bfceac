/** One part of the lake in a process of its own, over the data directory that the others use too. */
import { Console, Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as DataDir from "@voltlake/adapters/DataDir"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Stages from "./Stages.ts"
import { portConfig } from "./StartConfig.ts"

/** Runs a part over the lake that the environment names. */
const serve = <A, E, R>(part: (opened: Lake.Opened) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(DataDir.pathConfig, (path) => Lake.use(path, part))

/** Runs one stage until interrupted. */
export const stage = (name: Stages.StageName) =>
  serve((opened) =>
    Effect.zipRight(LakeSetup.ensure(opened.settings.ingest), Stages.run(name, { ...opened, purpose: `${name} process`, whenStopped: "process ends" }))
  )

/** Runs the simulator as the source, until interrupted. */
export const ingestor = serve(({ settings }) =>
  Effect.provide(Simulator.run(settings.simulator), Ingest.layer(settings.ingest))
)

/** The page's files stand beside the bundle that this module is part of. */
export const pageFolder = fileURLToPath(new URL("./web/", import.meta.url))

/** Serves the page and its API until interrupted. */
export const consolePage = Effect.flatMap(portConfig, (port) =>
  serve(({ settings }) =>
    Effect.scoped(Effect.gen(function*() {
      yield* LakeSetup.ensure(settings.ingest)
      const address = yield* ConsoleServer.serve({ port, topic: settings.ingest.topic, pageFolder })
      yield* Console.log(`The page is at ${address}`)
      yield* Effect.never
    }))
  ))
