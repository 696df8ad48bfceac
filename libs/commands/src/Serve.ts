/** One part of the lake in a process of its own. It waits for servers that are away, and tells its health. */
import { NodeContext } from "@effect/platform-node"
import { Console, Duration, Effect, Metric, Option, Schedule } from "effect"
import { fileURLToPath } from "node:url"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as DataDir from "@voltlake/adapters/DataDir"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as CatalogSettings from "@voltlake/rest-catalog/CatalogSettings"
import * as LakeStatus from "@voltlake/reconciliation/LakeStatus"
import { StageHealth } from "@voltlake/stage-runner/Stage"
import * as Dags from "./Dags.ts"
import * as Lake from "./Lake.ts"
import * as Orchestrate from "./Orchestrate.ts"
import { patiently } from "./Patience.ts"
import * as Stages from "./Stages.ts"
import { portConfig } from "./StartConfig.ts"

/** Runs a part over the lake that the environment names. */
const serve = <A, E, R>(name: string, part: (opened: Lake.Opened) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(DataDir.pathConfig, (path) => Lake.serve(path, name, part))

/** Runs one stage until interrupted, and maintenance of the tables where no other process does. */
export const stage = (name: (typeof Stages.names)[number]) =>
  serve(name, (opened) => {
    const home = { ...opened, purpose: `${name} process` }
    return Effect.all([
      Stages.run(name, { ...home, whenStopped: "process ends" }),
      Stages.run("maintenance", { ...home, whenStopped: "others go on" })
    ], { concurrency: "unbounded", discard: true })
  })

/** Orchestrates the lake's DAGs, or stands by while another process does, until interrupted. */
export const orchestrator = serve(Orchestrate.name, (opened) => patiently(Orchestrate.name, Orchestrate.run(opened)))

/** The part does its work from now on. */
const begun = Effect.fnUntraced(function*(name: string) {
  const health = yield* StageHealth
  yield* health.set(name, "running", "")
  yield* health.noteSuccess(name)
})

/** Runs the simulator as the source, until interrupted. */
export const ingestor = serve("ingest", ({ settings }) =>
  patiently("ingest", Effect.provide(Effect.zipRight(begun("ingest"), Simulator.run(settings.simulator)), Ingest.layer(settings.ingest))))

/** The page's files stand beside the bundle that this module is part of. */
const pageFolder = fileURLToPath(new URL("./web/", import.meta.url))

/** Serves page, API and REST catalog at this port. Whoever may use the page may read through the catalog. */
export const servePage = (settings: Lake.Settings, port: number) => {
  const { adapters, catalog, listen } = settings
  return ConsoleServer.serve({
    host: listen.host,
    port,
    token: listen.token,
    catalog: {
      tokens: { read: [...Option.toArray(catalog.readToken), ...Option.toArray(listen.token)], write: catalog.writeToken },
      client: CatalogSettings.clientProperties(Option.map(adapters.s3, ({ settings }) => settings), catalog)
    },
    topic: settings.ingest.topic,
    dags: Dags.all(settings).pipe(Effect.provideService(GoldModels.ModelFolder, settings.dags.modelFolder), Effect.provide(NodeContext.layer)),
    pageFolder
  })
}

const lag = Metric.gauge("lake_lag_offsets", { description: "Offsets that the stage has not committed yet, over all processes", bigint: true })
const rows = Metric.gauge("lake_rows", { description: "Rows that the stage has written since the lake began", bigint: true })
const measureEvery = Duration.seconds(5)

/** How far every stage is, whichever process runs it. */
const measure = (topic: string) =>
  LakeStatus.read(topic).pipe(
    Effect.flatMap(({ stages }) =>
      Effect.forEach(stages, (stage) =>
        Effect.zipRight(
          Metric.set(Metric.tagged(lag, "stage", stage.stage), stage.lag),
          Metric.set(Metric.tagged(rows, "stage", stage.stage), stage.rows)
        ), { discard: true })
    ),
    // Whoever asks the console learns why by its own `/ready`.
    Effect.ignore,
    Effect.repeat(Schedule.spaced(measureEvery))
  )

/** Serves the page, its API and the REST catalog until interrupted. */
export const consolePage = Effect.flatMap(portConfig, (port) =>
  serve("console", ({ settings }) =>
    Effect.scoped(Effect.gen(function*() {
      const address = yield* servePage(settings, port)
      yield* Console.log(`The page is at ${address}`)
      yield* begun("console")
      yield* measure(settings.ingest.topic)
    }))
  ))
