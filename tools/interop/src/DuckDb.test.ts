/** DuckDB's own reader of Iceberg, which shares no code with ours, reads our tables by their metadata files: what somebody with nothing else can do. */
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer } from "effect"
import type { Digest, Engine } from "./Engine.ts"
import * as InteropLake from "./InteropLake.ts"
import * as Installed from "./Installed.ts"
import * as LakeRun from "./LakeRun.ts"
import * as OwnTable from "./OwnTable.ts"

const installed = await Installed.install("duckdb")

class DuckDb extends Context.Tag("@voltlake/interop/DuckDb")<DuckDb, Engine>() {}

const parts = Layer.provideMerge(
  Layer.scoped(DuckDb, Effect.flatMap(installed, (program) => InteropLake.engine("duckdb", program))),
  InteropLake.layer
)

/** `more`: further arguments of the scan, `where`: what follows it. */
const theirs = (table: string, more = "", where = "") =>
  Effect.gen(function*() {
    const { metadataLocation } = yield* InteropLake.load(table)
    return yield* (yield* DuckDb).call<Digest>("read", { query: `SELECT * FROM iceberg_scan('${metadataLocation}'${more}) ${where}` })
  })

const ours = (table: string, options?: Parameters<typeof InteropLake.read>[1]) =>
  Effect.map(InteropLake.read(table, options), ({ count, digest, first }): Digest => ({ count, digest, first }))

describe.skipIf(Either.isLeft(installed))("DuckDB", () =>
  layer(parts, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect("reads a table of ours with all of its past", () =>
      Effect.gen(function*() {
        const table = "ours.cars"
        const { snapshots } = yield* OwnTable.make(table, true)
        expect(yield* theirs(table)).toEqual(yield* ours(table))
        for (const snapshot of snapshots) {
          expect(yield* theirs(table, `, snapshot_from_id = ${snapshot}`), `${snapshot}`).toEqual(yield* ours(table, { snapshot }))
        }
        expect(yield* theirs(table, "", "WHERE vehicle = 'car1'")).toEqual(yield* ours(table, { where: "vehicle = 'car1'" }))
      }))

    it.effect("reads bronze and silver", () =>
      Effect.gen(function*() {
        yield* LakeRun.round(0)
        yield* LakeRun.round(1)
        const digests = yield* LakeRun.digests
        expect(yield* LakeRun.eachTable((table) => theirs(table))).toEqual(digests)
        // Without any catalog: the newest metadata file of the folder.
        const guessed = LakeRun.eachTable((table) =>
          Effect.gen(function*() {
            const { metadata } = yield* InteropLake.load(table)
            return yield* (yield* DuckDb).call<Digest>("read", { query: `SELECT * FROM iceberg_scan('${metadata.location}', version = '?')` })
          }))
        expect(yield* guessed).toEqual(digests)
      }))
  }))
