/** One part of the lake in a process of its own. It waits for servers that are away, and tells its health. */
import { Console, Duration, Effect, Metric, Schedule } from "effect"
import { fileURLToPath } from "node:url"
import * as ConsoleServer from "@voltlake/console/ConsoleServer"
import * as DataDir from "@voltlake/adapters/DataDir"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as LakeStatus from "@voltlake/reconciliation/LakeStatus"
import { StageHealth } from "@voltlake/stage-runner/Stage"
import * as Lake from "./Lake.ts"
import { patiently } from "./Patience.ts"
import * as Stages from "./Stages.ts"
import { portConfig } from "./StartConfig.ts"

/** Runs a part over the lake that the environment names. */
const serve = <A, E, R>(name: string, part: (opened: Lake.Opened) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(DataDir.pathConfig, (path) => Lake.serve(path, name, part))

/** Runs one stage until interrupted. */
export const stage = (name: Stages.StageName) =>
  serve(name, (opened) => Stages.run(name, { ...opened, purpose: `${name} process`, whenStopped: "process ends" }))

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
export const pageFolder = fileURLToPath(new URL("./web/", import.meta.url))

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

/** Serves the page and its API until interrupted. */
export const consolePage = Effect.flatMap(portConfig, (port) =>
  serve("console", ({ settings }) =>
    Effect.scoped(Effect.gen(function*() {
      const { host, token } = settings.listen
      const address = yield* ConsoleServer.serve({ host, port, token, topic: settings.ingest.topic, pageFolder })
      yield* Console.log(`The page is at ${address}`)
      yield* begun("console")
      yield* measure(settings.ingest.topic)
    }))
  ))
