/** Tables of PyIceberg's read here, and ours read, written and evolved by PyIceberg. */
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer } from "effect"
import * as Expression from "@voltlake/iceberg/Expression"
import type { Digest, Engine } from "./Engine.ts"
import * as InteropLake from "./InteropLake.ts"
import * as Installed from "./Installed.ts"
import * as LakeRun from "./LakeRun.ts"
import * as OwnTable from "./OwnTable.ts"

const installed = await Installed.install("pyiceberg")

class PyIceberg extends Context.Tag("@voltlake/interop/PyIceberg")<PyIceberg, Engine>() {}

const parts = Layer.provideMerge(
  Layer.scoped(PyIceberg, Effect.flatMap(installed, (program) => InteropLake.engine("pyiceberg", program))),
  InteropLake.layer
)

const call = <A>(name: string, args?: Readonly<Record<string, unknown>>) => Effect.flatMap(PyIceberg, (engine) => engine.call<A>(name, args))

const theirs = (table: string, args: Readonly<Record<string, unknown>> = {}) => call<Digest>("read", { table, ...args })

const ours = (table: string, options?: Parameters<typeof InteropLake.read>[1]) =>
  Effect.map(InteropLake.read(table, options), ({ count, digest, first }): Digest => ({ count, digest, first }))

interface Golden {
  readonly partitioned: ReadonlyArray<string>
  readonly snapshots: Readonly<Record<string, string>>
}

const micros = (time: string) => BigInt(Date.parse(time)) * 1000n
const days = (date: string) => Date.parse(date) / 86_400_000
const { test } = Expression

/** By the partitioned table: what is asked of it, as we plan it, as our engine reads it, and as PyIceberg does both. */
const filters: Readonly<Record<string, readonly [filter: Expression.Expression, where: string, theirs: string]>> = {
  by_identity: [test("vehicle", "=", "car2x"), "vehicle = 'car2x'", "vehicle == 'car2x'"],
  by_bucket: [test("id", "=", 17n), "id = 17", "id == 17"],
  by_truncate: [{ op: "starts-with", column: "vehicle", value: "car2" }, "vehicle LIKE 'car2%'", "vehicle like 'car2%'"],
  by_truncate_number: [test("speed", "<", -10), "speed < -10", "speed < -10"],
  by_hour: [test("at", "<", 0n), "\"at\" < TIMESTAMPTZ '1970-01-01 00:00:00+00'", "at < '1970-01-01T00:00:00+00:00'"],
  by_day: [test("at", ">=", micros("1970-01-02")), "\"at\" >= TIMESTAMPTZ '1970-01-02 00:00:00+00'", "at >= '1970-01-02T00:00:00+00:00'"],
  by_month: [test("day", "<", days("1969-06-15")), "day < DATE '1969-06-15'", "day < '1969-06-15'"],
  by_year: [{ op: "is-null", column: "day" }, "day IS NULL", "day is null"]
}

describe.skipIf(Either.isLeft(installed))("PyIceberg", () =>
  layer(parts, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect("writes tables that we read alike, whatever types, partitions and past they have", () =>
      Effect.gen(function*() {
        const golden = yield* call<Golden>("make_golden", { namespace: "theirs" })
        expect(yield* ours("theirs.types")).toEqual(yield* theirs("theirs.types"))
        expect((yield* ours("theirs.types")).count).toBe(80)

        expect(golden.partitioned).toEqual(Object.keys(filters))
        for (const [table, [filter, where, row_filter]] of Object.entries(filters)) {
          expect(yield* ours(`theirs.${table}`), table).toEqual(yield* theirs(`theirs.${table}`))
          const found = yield* InteropLake.read(`theirs.${table}`, { filter, where })
          expect(found, table).toMatchObject(yield* theirs(`theirs.${table}`, { filter: row_filter }))
          expect([found.count, found.explanation.filesSkipped.partition], table).toEqual([expect.toSatisfy((n) => n > 0), expect.toSatisfy((n) => n > 0)])
          // The plan passes over no file that holds such a row.
          expect(yield* ours(`theirs.${table}`, { where }), table).toMatchObject({ count: found.count })
        }

        expect(yield* ours("theirs.evolved")).toEqual(yield* theirs("theirs.evolved"))
        for (const [what, snapshot] of Object.entries(golden.snapshots)) {
          expect(yield* ours("theirs.evolved", { snapshot: BigInt(snapshot) }), what).toEqual(yield* theirs("theirs.evolved", { snapshot }))
        }
        for (const ref of ["before", "audit", "main"]) {
          expect(yield* ours("theirs.evolved", { snapshot: { ref } }), ref).toEqual(yield* theirs("theirs.evolved", { ref }))
        }
      }))

    it.effect("writes tables that we read alike whose columns changed within others, or whose files are others' and have no ids", () =>
      Effect.gen(function*() {
        const mapping = yield* call<string>("make_by_columns", { namespace: "columns" })
        const nested = yield* ours("columns.nested")
        expect(nested).toEqual(yield* theirs("columns.nested"))
        expect(nested.count).toBe(24)
        // What is read alike could be wrong alike.
        expect(nested.first[1]).toMatch(
          /^\{"id":1,"place":\{"latitude":0.500000,"lon":null,"name":"n1"\},"stops":\[\{"at":\d+,"points":\{"m1":\{"count":1,"n":"s1"\},"none":null\}\}\]\}$/
        )

        const added = yield* ours("columns.added")
        expect(added).toEqual(yield* theirs("columns.added"))
        expect(added.count).toBe(20)
        expect(JSON.parse(mapping)).toMatchObject([{ "field-id": 1, names: ["id"] }, { "field-id": 2 }, { names: ["stops", "visits"] }, { names: ["driver"] }])
        for (const { snapshotId } of (yield* InteropLake.load("columns.added")).metadata.snapshots) {
          expect(yield* ours("columns.added", { snapshot: snapshotId })).toEqual(yield* theirs("columns.added", { snapshot: String(snapshotId) }))
        }
        yield* call("drop_property", { table: "columns.added", key: "schema.name-mapping.default" })
        expect(yield* Effect.flip(ours("columns.added"))).toMatchObject({ _tag: "ReadUnsupported", subject: expect.stringMatching(/plain-[01]\.parquet$/) })
      }))

    it.effect("reads a table of ours with all of its past, and we what it makes of it", () =>
      Effect.gen(function*() {
        const { snapshots } = yield* OwnTable.make("ours.cars", true)
        expect(yield* theirs("ours.cars")).toEqual(yield* ours("ours.cars"))
        expect((yield* ours("ours.cars")).count).toBe(98)
        expect(yield* theirs("ours.cars", { ref: "before" })).toEqual(yield* ours("ours.cars", { snapshot: { ref: "before" } }))
        for (const snapshot of snapshots) {
          expect(yield* theirs("ours.cars", { snapshot: String(snapshot) }), `${snapshot}`).toEqual(yield* ours("ours.cars", { snapshot }))
        }
        const filtered = yield* ours("ours.cars", { filter: test("vehicle", "=", "car1"), where: "vehicle = 'car1'" })
        expect(yield* theirs("ours.cars", { filter: "vehicle == 'car1'" })).toEqual(filtered)
      }))

    it.effect("appends to a table of ours, evolves it and deletes from it, and we read on", () =>
      Effect.gen(function*() {
        yield* OwnTable.make("ours.changed", true)
        yield* call("change", { table: "ours.changed" })
        const changed = yield* ours("ours.changed")
        expect(changed).toEqual(yield* theirs("ours.changed"))
        expect(changed.count).toBeLessThan(98)
        yield* call("rewrite", { table: "ours.changed" })
        expect(yield* ours("ours.changed")).toEqual(changed)
        expect(yield* call("expire", { table: "ours.changed" })).toBe(3)
        expect(yield* ours("ours.changed")).toEqual(changed)
        const before = yield* ours("ours.changed", { snapshot: { ref: "before" } })
        expect(before.count).toBe(40)
        expect(before).toEqual(yield* theirs("ours.changed", { ref: "before" }))
      }))

    it.effect("rewrites bronze and silver, gives them columns and expires their snapshots, and the stages go on", () =>
      Effect.gen(function*() {
        yield* LakeRun.round(0)
        expect(yield* LakeRun.digests).toEqual(yield* LakeRun.eachTable((table) => theirs(table)))
        yield* LakeRun.eachTable((table) => call("rewrite", { table }))
        yield* LakeRun.acknowledge
        expect(yield* LakeRun.breaches).toEqual([])
        yield* LakeRun.eachTable((table) => call("add_columns", { table }))
        yield* LakeRun.round(1)
        expect(yield* LakeRun.digests).toEqual(yield* LakeRun.eachTable((table) => theirs(table)))
        yield* LakeRun.eachTable((table) => call("expire", { table }))
        yield* LakeRun.round(2)
        expect(yield* LakeRun.breaches).toEqual([])
        yield* LakeRun.eachTable((table) => call("rewrite", { table }))
        yield* LakeRun.eachTable((table) => call("expire", { table }))
        yield* LakeRun.round(3)
        // Snapshots that took rows out and expired before we came by leave no trace, and no row is missing.
        expect(yield* LakeRun.breaches).toEqual([])
        expect(yield* LakeRun.digests).toEqual(yield* LakeRun.eachTable((table) => theirs(table)))
        yield* LakeRun.checkComplete(4)
      }))
  }))
