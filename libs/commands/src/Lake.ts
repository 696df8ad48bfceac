/** What every command needs: all settings checked together, the data directory opened, and the lake over it. */
import { Config, Effect, ExecutionStrategy, Exit, Layer, Scope } from "effect"
import { hostname } from "node:os"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as Adapters from "@voltlake/adapters/Adapters"
import * as DataDir from "@voltlake/adapters/DataDir"
import * as Gold from "@voltlake/gold/Gold"
import * as SparkSettings from "@voltlake/gold/SparkSettings"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as MinuteRetention from "@voltlake/gold/MinuteRetention"
import * as Ingest from "@voltlake/ingest/Ingest"
import * as Simulator from "@voltlake/ingest/Simulator"
import * as Cleaner from "@voltlake/maintenance/Cleaner"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as LogRetention from "@voltlake/maintenance/LogRetention"
import * as CatalogSettings from "@voltlake/rest-catalog/CatalogSettings"
import * as Silver from "@voltlake/silver/Silver"
import * as Stage from "@voltlake/stage-runner/Stage"
import * as Dags from "./Dags.ts"
import * as HealthServer from "./HealthServer.ts"
import * as LakeSetup from "./LakeSetup.ts"
import { patiently } from "./Patience.ts"
import { listenConfig } from "./StartConfig.ts"

/** Read as a whole before anything is opened: a wrong value stops the process at once, and every wrong one is named. */
export const settingsConfig = Effect.flatMap(Adapters.settingsConfig, (adapters) =>
  Config.all({
    ingest: Ingest.settingsConfig,
    simulator: Simulator.settingsConfig,
    bronze: Bronze.settingsConfig,
    silver: Silver.settingsConfig,
    gold: Gold.settingsConfig,
    cleaner: Cleaner.settingsConfig,
    compaction: Compaction.settingsConfig,
    retention: DayRetention.settingsConfig,
    logRetentionDays: LogRetention.settingsConfig,
    minutesDays: MinuteRetention.settingsConfig,
    dags: Dags.settingsConfig,
    batch: SparkSettings.settingsConfig,
    listen: listenConfig,
    catalog: CatalogSettings.settingsConfig,
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

const ports = ({ dataDir, settings }: Opened) =>
  Layer.merge(Adapters.layer(dataDir, settings.adapters), Layer.succeed(GoldModels.ModelFolder, settings.dags.modelFolder))

type Ports = ReturnType<typeof ports>
type Provided = Layer.Layer.Success<Ports> | Stage.StageHealth
type Failures = Layer.Layer.Error<Ports>

const open = Effect.fnUntraced(function*(path: string) {
  const settings = yield* settingsConfig
  const dataDir = yield* DataDir.open(path, { pid: process.pid, host: hostname(), isAlive })
  const opened: Opened = { settings, dataDir }
  return opened
})

/** Runs a command over the lake in `path`. */
export const use = <A, E, R>(path: string, command: (opened: Opened) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const opened = yield* open(path)
    return yield* Effect.provide(command(opened), ports(opened)) as Effect.Effect<A, E | Failures, Exclude<R, Layer.Layer.Success<Ports>>>
  }).pipe(Effect.scoped, Effect.provide(Stage.layerHealth))

/** One attempt to reach all servers, with topic and tables made. Of one that fails nothing stays open. */
const connectOnce = Effect.fnUntraced(function*(opened: Opened) {
  const scope = yield* Effect.flatMap(Effect.scope, (outer) => Scope.fork(outer, ExecutionStrategy.sequential))
  return yield* Layer.buildWithScope(ports(opened), scope).pipe(
    Effect.tap((context) => Effect.provide(LakeSetup.ensure(opened.settings.ingest), context)),
    Effect.onError(() => Scope.close(scope, Exit.void))
  )
})

/** Runs a service over the lake in `path`: tells its health, and waits for servers that are not there yet. `part` is its name in health and logs. */
export const serve = <A, E, R>(path: string, part: string, service: (opened: Opened) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const opened = yield* open(path)
    yield* HealthServer.serve(opened.settings.listen, [part])
    const context = yield* patiently(part, connectOnce(opened))
    return yield* Effect.provide(service(opened), context) as Effect.Effect<A, E, Exclude<R, Layer.Layer.Success<Ports>>>
  }).pipe(Effect.scoped, Effect.provide(Stage.layerHealth)) as Effect.Effect<
    A,
    E | Failures | Effect.Effect.Error<ReturnType<typeof connectOnce>> | Effect.Effect.Error<ReturnType<typeof open>> | HealthServer.HealthPortUnavailable,
    Exclude<Exclude<R, Provided>, Scope.Scope> | Exclude<Effect.Effect.Context<ReturnType<typeof open>>, Scope.Scope>
  >
