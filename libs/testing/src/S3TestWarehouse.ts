/** A warehouse of a test's own in the bucket that the environment names (WAREHOUSE, S3_ENDPOINT and so on), or else in the run's stack. */
import { Config, ConfigProvider, Effect, Either, Layer, Random, type Scope, Stream } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as S3ObjectStore from "@voltlake/object-store/S3ObjectStore"
import { parseWarehouse, type S3Settings, settingsConfig, type S3Warehouse } from "@voltlake/object-store/S3Settings"
import { stackEnv } from "./RealStack.ts"

const variables = process.env["S3_ENDPOINT"] === undefined && stackEnv?.s3 !== undefined ? stackEnv.variables : process.env

/** False where the machine cannot run an S3 server; the run's setup has said why. */
export const isThere = variables["WAREHOUSE"] !== undefined

export interface S3TestWarehouse {
  readonly warehouse: S3Warehouse
  readonly settings: S3Settings
  readonly cacheFolder: string
}

const emptied = ({ cacheFolder, settings, warehouse }: S3TestWarehouse) =>
  Effect.scoped(Effect.flatMap(S3ObjectStore.make(warehouse, cacheFolder, settings), (store) =>
    Stream.runForEach(store.list(""), (info) => store.delete(info.key))))

/** A random prefix of the bucket, emptied with the scope, and a folder for caches. */
export const make: Effect.Effect<S3TestWarehouse, unknown, Scope.Scope> = Effect.gen(function*() {
  const [settings, location] = yield* Effect.withConfigProvider(
    Config.all([settingsConfig, Config.string("WAREHOUSE")]),
    ConfigProvider.fromJson(variables)
  )
  const { bucket } = Either.getOrThrow(parseWarehouse(location))
  const id = (yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)
  const cacheFolder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "voltlake-s3-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  const made = { warehouse: { bucket, prefix: `test-${id}/warehouse` }, settings, cacheFolder }
  yield* Effect.addFinalizer(() => Effect.ignoreLogged(emptied(made)))
  return made
})

/** A store in such a warehouse. */
export const layer: Layer.Layer<ObjectStore, unknown> =
  Layer.unwrapScoped(Effect.map(make, ({ cacheFolder, settings, warehouse }) => S3ObjectStore.layer(warehouse, cacheFolder, settings)))
