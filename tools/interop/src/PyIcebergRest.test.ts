/** PyIceberg over the REST catalog of a running lake: it reads our tables, writes its own, and may change ours as far as the catalog lets it. */
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer } from "effect"
import { lakeTables, qualifiedName } from "@voltlake/domain/Tables"
import * as Engine from "./Engine.ts"
import * as Installed from "./Installed.ts"
import * as ServedLake from "./ServedLake.ts"

const installed = await Installed.install("pyiceberg")

interface Parts {
  readonly lake: ServedLake.ServedLake
  readonly writer: Engine.Engine
  readonly reader: Engine.Engine
}

class Served extends Context.Tag("@voltlake/interop/Served")<Served, Parts>() {}

const rows = 600

const served = Layer.scoped(Served, Effect.gen(function*() {
  const program = yield* installed
  const lake = yield* ServedLake.start(rows)
  const open = (token: string) => Engine.start("pyiceberg_rest", program, { uri: lake.uri, token })
  return { lake, writer: yield* open(lake.writeToken), reader: yield* open(lake.readToken) }
}))

const names = lakeTables.map(qualifiedName)
/** A column of each that neither orders nor parts it: of others PyIceberg itself lets go not. */
const written: Readonly<Record<string, string>> = {
  "bronze.telemetry_raw": "value",
  "silver.telemetry_clean": "speed_mph",
  "silver.telemetry_rejected": "cause"
}
const somebody = { table: "somebody.trips" }

/** What PyIceberg said in refusing. */
const refusal = (engine: Engine.Engine, name: string, args: Readonly<Record<string, unknown>>) =>
  Effect.map(Effect.flip(engine.call(name, args)), (error) => error.reason)

describe.skipIf(Either.isLeft(installed))("PyIceberg over the REST catalog", () =>
  layer(served, { excludeTestServices: true, timeout: 120_000 })((it) => {
    it.effect("finds the lake's tables and reads in them what we read", () =>
      Effect.gen(function*() {
        const { lake, reader } = yield* Served
        expect(yield* reader.call("namespaces")).toEqual(["bronze", "silver"])
        expect(yield* reader.call("tables", { namespace: "silver" })).toEqual(["silver.telemetry_clean", "silver.telemetry_rejected"])
        for (const table of names) expect([table, yield* reader.call("count", { table })]).toEqual([table, yield* lake.count(table)])
        expect(yield* reader.call("count", { table: names[0] })).toBe(rows)
        const where = "battery_percent < 20 AND event_ts >= '2025-03-01T08:00:05+00:00'"
        const filtered = yield* reader.call<number>("count", { table: "silver.telemetry_clean", filter: where.toLowerCase().replace("t08", "T08") })
        expect(filtered).toBe(yield* lake.count("silver.telemetry_clean", where))
        expect(filtered).toBeGreaterThan(0)
      }), 60_000)

    it.effect("writes and changes tables of its own in every way that it has", () =>
      Effect.gen(function*() {
        const { writer } = yield* Served
        const made = yield* writer.call<{ readonly location: string }>("make_trips", { namespace: "somebody" })
        expect(made).toMatchObject({ properties: { note: "mine" }, columns: ["id", "city", "begin"] })
        expect(made.location).toMatch(/\/warehouse\/somebody\/trips$/)
        for (const start of [0, 20, 40]) yield* writer.call("append", { ...somebody, start, size: 20 })
        expect(yield* writer.call("count", { ...somebody, filter: "city == 'Graz'" })).toBe(20)
        expect(yield* writer.call("change_trips", somebody)).toMatchObject({
          counts: { delete: 57, overwrite: 43, append: 47, transaction: 48, "loaded anew": 48, "at the tag": 43 },
          columns: ["id", "city", "started", "fare"],
          properties: { note: "changed" }
        })
        expect(yield* writer.call("stage_trips", { table: "somebody.staged" })).toBe(10)
        yield* writer.call("move", { table: "somebody.staged", to: "somebody.moved" })
        yield* writer.call("register", { table: "somebody.again", copy_of: "somebody.moved" })
        expect(yield* writer.call("count", { table: "somebody.again" })).toBe(10)
        expect(yield* writer.call("tables", { namespace: "somebody" })).toEqual(["somebody.again", "somebody.trips"])
        expect(yield* refusal(writer, "drop_namespace", { namespace: "somebody" })).toContain("NamespaceNotEmptyError")
        yield* writer.call("purge", { table: "somebody.again" })
        yield* writer.call("drop", somebody)
        yield* writer.call("drop_namespace", { namespace: "somebody" })
        expect(yield* writer.call("namespaces")).toEqual(["bronze", "silver"])
      }), 60_000)

    it.effect("is refused what only the log may add, and hears what to do instead", () =>
      Effect.gen(function*() {
        const { lake, writer } = yield* Served
        for (const table of names) {
          const before = yield* lake.count(table)
          expect(yield* refusal(writer, "append_as_they_are", { table })).toMatch(/ForbiddenError: .*Send events into the log instead/s)
          expect(yield* refusal(writer, "drop", { table })).toContain(`${table} is one of Voltlake's own tables`)
          const column = written[table]!
          expect(yield* refusal(writer, "drop_column", { table, column })).toContain(`its column ${column} is written by Voltlake`)
          expect(yield* lake.count(table)).toBe(before)
        }
      }), 60_000)

    it.effect("may evolve and tag our tables and delete rows of them, and the lake goes on", () =>
      Effect.gen(function*() {
        const { lake, writer } = yield* Served
        for (const table of names) yield* writer.call("evolve", { table, column: "remark" })
        for (const table of names) expect(yield* writer.call("refs", { table })).toEqual(["main", "somebody", "voltlake-position"])
        const [table, filter] = ["silver.telemetry_clean", "vehicle_id == 'vehicle-7'"]
        const [all, some] = [yield* lake.count(table), yield* lake.count(table, "vehicle_id = 'vehicle-7'")]
        expect(some).toBeGreaterThan(0)
        const summary = yield* writer.call<Readonly<Record<string, string>>>("delete", { table, filter })
        expect(Object.keys(summary)).toEqual(expect.arrayContaining(["voltlake.position", "voltlake.progress", "voltlake.commit-id"]))
        expect(yield* lake.count(table)).toBe(all - some)
        const sent = yield* lake.send(200)
        expect(sent).toMatchObject({ events: 200, bronze: 200 })
        expect(yield* lake.count(names[0]!)).toBe(rows + 200)
        const left = all - some + sent.silver
        expect([yield* lake.count(table), yield* writer.call("count", { table })]).toEqual([left, left])
        for (const own of names) expect(yield* writer.call("refs", { table: own })).toContain("somebody")
      }), 120_000)

    it.effect("reads with a reader's token and changes nothing, and does neither with none", () =>
      Effect.gen(function*() {
        const { lake, reader } = yield* Served
        expect(yield* refusal(reader, "make_trips", { namespace: "somebody" })).toMatch(/ForbiddenError: .*CATALOG_WRITE_TOKEN/s)
        const program = yield* installed
        for (const token of ["", "a-token-that-nobody-gave"]) {
          const error = yield* Effect.flip(Effect.scoped(Engine.start("pyiceberg_rest", program, { uri: lake.uri, token })))
          expect(error.reason).toMatch(/UnauthorizedError: .*CATALOG_READ_TOKEN/s)
        }
      }), 60_000)
  }))
