/** Tables of Spark's read here, and ours read, written, evolved, compacted and expired by Spark: all in one session, since it takes long to start. */
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer } from "effect"
import type { Digest, Engine } from "./Engine.ts"
import * as InteropLake from "./InteropLake.ts"
import * as Installed from "./Installed.ts"
import * as LakeRun from "./LakeRun.ts"
import * as OwnTable from "./OwnTable.ts"
import * as SparkTables from "./SparkTables.ts"

const installed = await Installed.install("spark")

class Spark extends Context.Tag("@voltlake/interop/Spark")<Spark, Engine>() {}

const parts = Layer.provideMerge(
  Layer.scoped(Spark, Effect.flatMap(installed, (program) => InteropLake.engine("spark", program))),
  InteropLake.layer
)

const call = <A>(name: string, args?: Readonly<Record<string, unknown>>) => Effect.flatMap(Spark, (engine) => engine.call<A>(name, args))

const run = (...statements: ReadonlyArray<string>) => call("run", { statements })

/** Of a table, and what follows its name in the query. */
const theirs = (table: string, more = "") => call<Digest>("read", { query: `SELECT * FROM lakehouse.${table} ${more}` })

const ours = (table: string, options?: Parameters<typeof InteropLake.read>[1]) =>
  Effect.map(InteropLake.read(table, options), ({ count, digest, first }): Digest => ({ count, digest, first }))

/** What a table's owner has Spark do at night: few files, few manifests, and no snapshot that nothing names. */
const maintain = (table: string) =>
  run(
    `CALL lakehouse.system.rewrite_data_files(table => '${table}', options => map('rewrite-all', 'true'))`,
    `CALL lakehouse.system.rewrite_manifests(table => '${table}')`,
    `CALL lakehouse.system.expire_snapshots(table => '${table}', older_than => TIMESTAMP '2999-01-01 00:00:00', retain_last => 1)`
  )

describe.skipIf(Either.isLeft(installed))("Spark", () =>
  layer(parts, { excludeTestServices: true, timeout: 120_000 })((it) => {
    it.effect("writes tables that we read alike, of every type and partitioned in every way", () =>
      Effect.gen(function*() {
        yield* run("CREATE NAMESPACE lakehouse.theirs", ...SparkTables.types("lakehouse.theirs.types"))
        expect(yield* ours("theirs.types")).toEqual(yield* theirs("theirs.types"))
        for (const [at, [transforms, questions]] of SparkTables.partitioned.entries()) {
          const table = `theirs.part${at}`
          yield* run(...SparkTables.partitionedTable(`lakehouse.${table}`, transforms))
          expect(yield* ours(table), transforms).toEqual(yield* theirs(table))
          for (const [filter, where] of questions) {
            const { explanation, ...found } = yield* InteropLake.read(table, { filter, where })
            expect([found.count > 0, explanation.filesSkipped.partition > 0], where).toEqual([true, true])
            // The plan passes over no file that holds such a row.
            expect(yield* ours(table, { where }), where).toEqual(found)
          }
        }
      }), 120_000)

    it.effect.each(["merge-on-read", "copy-on-write"] as const)("changes its tables by %s, and we read every state of them", (mode) =>
      Effect.gen(function*() {
        const table = `theirs.evolved_${mode.replaceAll("-", "_")}`
        yield* run(...SparkTables.evolved(`lakehouse.${table}`, mode))
        const current = yield* theirs(table)
        expect(yield* ours(table)).toEqual(current)
        const { metadata } = yield* InteropLake.load(table)
        for (const { snapshotId } of metadata.snapshots) {
          expect(yield* ours(table, { snapshot: snapshotId }), `${snapshotId}`).toEqual(yield* theirs(table, `VERSION AS OF ${snapshotId}`))
        }
        for (const ref of ["before", "audit"]) {
          expect(yield* ours(table, { snapshot: { ref } }), ref).toEqual(yield* theirs(table, `VERSION AS OF '${ref}'`))
        }
        const atMs = metadata.snapshots[1]!.timestampMs
        expect(yield* ours(table, { snapshot: { atMs } })).toEqual(yield* theirs(table, `TIMESTAMP AS OF TIMESTAMP_MILLIS(${atMs})`))
        const { explanation } = yield* InteropLake.read(table)
        expect(explanation.deleteFiles > 0).toBe(mode === "merge-on-read")
        yield* run(`CALL lakehouse.system.rewrite_data_files(table => '${table}', options => map('rewrite-all', 'true', 'delete-file-threshold', '1'))`)
        expect(yield* ours(table)).toEqual(current)
      }), 120_000)

    it.effect("changes columns within others, and we find them by their ids", () =>
      Effect.gen(function*() {
        yield* run(...SparkTables.nested("lakehouse.theirs.nested"))
        const found = yield* ours("theirs.nested")
        expect(found).toEqual(yield* theirs("theirs.nested"))
        expect(found.count).toBe(12)
        // What is read alike could be wrong alike.
        expect(found.first).toContain(`{"id":1,"place":{"latitude":1.000000,"lon":null},"stops":[{"points":{"k":{"count":1,"n":"old"},"none":null}},null]}`)
      }), 120_000)

    it.effect("reads a table of ours with all of its past, and we what it makes of it", () =>
      Effect.gen(function*() {
        const table = "ours.cars"
        const { snapshots } = yield* OwnTable.make(table, false)
        expect(yield* theirs(table)).toEqual(yield* ours(table))
        for (const snapshot of snapshots) {
          expect(yield* theirs(table, `VERSION AS OF ${snapshot}`), `${snapshot}`).toEqual(yield* ours(table, { snapshot }))
        }
        const before = yield* ours(table, { snapshot: { ref: "before" } })
        expect(yield* theirs(table, "VERSION AS OF 'before'")).toEqual(before)

        yield* run(
          `INSERT INTO lakehouse.${table} (id, at, vehicle, speed_kmh) SELECT id, TIMESTAMP '2024-02-29 12:00:00Z', CONCAT('car', id), id FROM RANGE(1000, 1010)`,
          `ALTER TABLE lakehouse.${table} ADD COLUMN driver STRING FIRST`,
          `ALTER TABLE lakehouse.${table} RENAME COLUMN battery TO charge`,
          `INSERT INTO lakehouse.${table} (id, at, driver, charge) VALUES (2000, TIMESTAMP '2024-03-01 12:00:00Z', 'Zoë', 0.5)`,
          `DELETE FROM lakehouse.${table} WHERE id = 25`
        )
        const changed = yield* theirs(table)
        expect(changed.count).toBe(98 + 10)
        expect(yield* ours(table)).toEqual(changed)
        yield* maintain(table)
        expect(yield* ours(table)).toEqual(changed)
        expect(yield* ours(table, { snapshot: { ref: "before" } })).toEqual(before)
      }), 120_000)

    it.effect("compacts bronze and silver and expires their snapshots, and the stages go on", () =>
      Effect.gen(function*() {
        yield* LakeRun.round(0)
        yield* LakeRun.round(1)
        // Bronze goes back by what came last, and reads it again.
        const { metadata } = yield* InteropLake.load("bronze.telemetry_raw")
        yield* run(`CALL lakehouse.system.rollback_to_snapshot('bronze.telemetry_raw', ${metadata.snapshots[0]!.snapshotId})`)
        yield* LakeRun.catchUp
        expect(yield* LakeRun.breaches).toEqual([])
        yield* LakeRun.checkComplete(2)
        expect(yield* LakeRun.eachTable((table) => theirs(table))).toEqual(yield* LakeRun.digests)
        yield* LakeRun.eachTable(maintain)
        expect(yield* LakeRun.breaches).toEqual([])
        yield* LakeRun.round(2)
        expect(yield* LakeRun.breaches).toEqual([])
        yield* LakeRun.checkComplete(3)
        expect(yield* LakeRun.eachTable((table) => theirs(table))).toEqual(yield* LakeRun.digests)
      }), 120_000)

    it.effect("refuses, as we do, what it does not read", () =>
      Effect.gen(function*() {
        yield* OwnTable.make("ours.more", true)
        expect(yield* Effect.flip(theirs("ours.more"))).toMatchObject({ reason: expect.stringContaining("Spark does not support time fields") })
        for (const [name, refusal, statements] of SparkTables.refused("lakehouse.theirs")) {
          yield* run(...statements)
          expect(yield* Effect.flip(ours(`theirs.${name}`)), name).toMatchObject(refusal)
        }
      }), 120_000)
  }))
