/** An embedded lake of its own for what is measured within this process, and how that is timed. */
import { NodeContext } from "@effect/platform-node"
import { ConfigProvider, Effect, Layer } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Lake from "@voltlake/commands/Lake"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import { lakeTables } from "@voltlake/domain/Tables"
import { Tables } from "@voltlake/iceberg/Tables"

type Settings = Readonly<Record<string, string>>

export const median = (times: ReadonlyArray<number>) => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)]!
export const rounded = (value: number, places = 1) => Math.round(value * 10 ** places) / 10 ** places

export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const startedMs = performance.now()
    const value = yield* effect
    return { value, millis: performance.now() - startedMs }
  })

/** Runs over the lake in the folder, as a process would that starts now and ends with it. `settings` win over the environment. */
export const open = async <A, E, R>(folder: string, body: Effect.Effect<A, E, R>, settings: Settings = {}): Promise<A> => {
  const inside = Effect.gen(function*() {
    yield* Effect.forEach(lakeTables, LakeTables.ensure)
    yield* Tables
    return yield* body
  })
  const provider = ConfigProvider.orElse(ConfigProvider.fromMap(new Map(Object.entries(settings))), () => ConfigProvider.fromEnv())
  const run = Effect.scoped(Lake.use(join(folder, "lake"), () => Effect.scoped(inside))).pipe(
    Effect.provide(Layer.merge(NodeContext.layer, Layer.setConfigProvider(provider)))
  )
  return await Effect.runPromise(run as Effect.Effect<A, E>)
}

/** A folder that is gone afterwards. */
export const withFolder = async <A>(body: (folder: string) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-bench-"))
  try {
    return await body(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs over a new lake. */
export const inLake = <A, E, R>(body: Effect.Effect<A, E, R>, settings: Settings = {}): Promise<A> => withFolder((folder) => open(folder, body, settings))
