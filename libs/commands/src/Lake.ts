/** What every command needs: all settings checked together, the data directory opened, and the lake over it. */
import { Config, Effect, Layer } from "effect"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as Adapters from "@voltlake/adapters/Adapters"
import * as DataDir from "@voltlake/adapters/DataDir"
import * as Gold from "@voltlake/gold/Gold"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Cleaner from "@voltlake/maintenance/Cleaner"
import * as Silver from "@voltlake/silver/Silver"
import * as Stage from "@voltlake/stage-runner/Stage"

/** Read as a whole before anything is opened: a wrong value stops the process at once, and every wrong one is named. */
export const settingsConfig = Effect.flatMap(Adapters.settingsConfig, (adapters) =>
  Config.all({
    ingest: Ingest.settingsConfig,
    simulator: Simulator.settingsConfig,
    bronze: Bronze.settingsConfig,
    silver: Silver.settingsConfig,
    gold: Gold.settingsConfig,
    cleaner: Cleaner.settingsConfig,
    adapters
  }))
export type Settings = Effect.Effect.Success<typeof settingsConfig>

export interface Opened {
  readonly settings: Settings
  readonly dataDir: DataDir.DataDir
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    // Somebody else's process is alive all the same.
    return (cause as NodeJS.ErrnoException).code === "EPERM"
  }
}

const layer = ({ dataDir, settings }: Opened) =>
  Layer.provideMerge(Stage.layerHealth, Adapters.layer(dataDir, settings.adapters))

type Ports = Layer.Layer.Success<ReturnType<typeof layer>>

/** Runs a command over the lake in `path`. */
export const use = <A, E, R>(path: string, command: (opened: Opened) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const settings = yield* settingsConfig
    const dataDir = yield* DataDir.open(path, { pid: process.pid, isAlive })
    const opened: Opened = { settings, dataDir }
    return yield* Effect.provide(command(opened), layer(opened)) as Effect.Effect<A, E | Layer.Layer.Error<ReturnType<typeof layer>>, Exclude<R, Ports>>
  }).pipe(Effect.scoped)
