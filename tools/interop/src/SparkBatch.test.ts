/** Gold by batch on Spark is gold by batch, to the last digit: both engines compute each model over the same lake, whatever came to it in between. */
import { describe, expect, layer } from "@effect/vitest"
import { Chunk, Effect, Either, Fiber, Option, Redacted, Scope, Stream } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, writeFileSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { join } from "node:path"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import type { GoldModel } from "@voltlake/domain/GoldModel"
import { telemetryClean } from "@voltlake/domain/Tables"
import { BatchEngine, duckDb, type Engine } from "@voltlake/gold/BatchEngine"
import type { Run } from "@voltlake/gold/BatchWork"
import * as GoldBatch from "@voltlake/gold/GoldBatch"
import * as ModelCheck from "@voltlake/gold/ModelCheck"
import * as ModelTable from "@voltlake/gold/ModelTable"
import * as SparkBatch from "@voltlake/gold/SparkBatch"
import * as SparkStaging from "@voltlake/gold/SparkStaging"
import type { SparkSettings } from "@voltlake/gold/SparkSettings"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { currentSchema } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Forget from "@voltlake/maintenance/Forget"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { waitFor } from "@voltlake/testing/Condition"
import * as ModelFiles from "@voltlake/testing/ModelFiles"
import * as SeededRandom from "@voltlake/testing/SeededRandom"
import * as StageLake from "@voltlake/testing/StageLake"
import * as TelemetryLines from "@voltlake/testing/TelemetryLines"
import * as Installed from "./Installed.ts"
import * as SparkLake from "./SparkLake.ts"
import * as SparkModels from "./SparkModels.ts"

const installed = await Installed.install("spark")

const { event, fillSilver, inProcess, send } = StageLake

const order = (model: GoldModel) => model.key.map((name) => `"${name}"`).join(", ")

const tableOf = (model: GoldModel) => inProcess(Effect.flatMap(Tables, (tables) => tables.load(ModelTable.identifier(model))))

/** What the table holds, as text. */
const held = (model: GoldModel) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* (yield* Tables).load(ModelTable.identifier(model))
    const { files } = yield* Scan.plan(metadata)
    const columns = (yield* ModelFiles.checked(model)).columns.map(({ name }) => `"${name}"`).join(", ")
    const relation = yield* ReadSql.relation(currentSchema(metadata), metadata, files)
    return (yield* connection.table(`SELECT ${columns} FROM ${relation} ORDER BY ${order(model)}`)).rows
  }))

/** The model over all of silver at once, by DuckDB. */
const recomputed = (model: GoldModel) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    const { metadata } = yield* LakeTables.ensure(telemetryClean)
    const all = yield* SnapshotSource.all(telemetryClean, metadata)
    yield* connection.run(`CREATE OR REPLACE TEMP VIEW ${ModelCheck.sourceName} AS ${ModelCheck.sourceSql(all)}`)
    return (yield* connection.table(`SELECT * FROM (${ModelCheck.boundSql(model)}) ORDER BY ${order(model)}`)).rows
  }))

interface Changed {
  readonly settings?: Partial<SparkSettings>
  readonly engine?: (engine: Engine) => Engine
}

/** Brings the model's table to silver by Spark. */
const build = (model: GoldModel, { engine: changed = (engine) => engine, settings = {} }: Changed = {}) =>
  Effect.flatMap(SparkLake.Spark, (known) =>
    inProcess(Effect.gen(function*() {
      const engine = changed(yield* SparkBatch.make({ ...known, ...settings }))
      return yield* GoldBatch.build(yield* ModelFiles.checked(model)).pipe(Effect.provideService(BatchEngine, engine))
    })))

/** What Spark works through, which must be gone after each run. */
const left = inProcess(Effect.flatMap(Catalog, (catalog) =>
  Effect.map(catalog.list, (all) => all.map(render).filter((name) => name.startsWith("gold_staging.")))))

const expectAlike = (model: GoldModel, kind: GoldBatch.Built["kind"]) =>
  Effect.gen(function*() {
    expect(yield* build(model)).toMatchObject({ kind })
    const rows = yield* held(model)
    expect(rows.length, model.name).toBeGreaterThan(0)
    expect(rows, model.name).toEqual(yield* recomputed(model))
    // What says which silver it was computed from is as by the other engine: it finds nothing to do.
    expect(yield* ModelFiles.build(model)).toMatchObject({ kind: "unchanged" })
    expect(yield* build(model)).toMatchObject({ kind: "unchanged" })
    expect(yield* left).toEqual([])
  })

const expectAllAlike = (kind: GoldBatch.Built["kind"]) => Effect.forEach(ModelFiles.all, (model) => expectAlike(model, kind), { discard: true })

/** At which nobody listens. */
const freePort = Effect.promise(async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  return port
})

const someLines = (seed: number) => TelemetryLines.make(SeededRandom.make(seed), 150, { copies: 0.2, malformed: 0.05 }).lines

/** Some vehicles around a midnight, with figures of which engines make decimals each in its way. */
const nightly = (seed: number) => {
  const random = SeededRandom.make(seed)
  const odd = [0.1234565, 2.5e-6, 1.0000005, 99.9999995, 123456789.1234567, 999999999999.25, 12345678901234.5]
  return Array.from({ length: 40 }, (_, index) =>
    event({
      id: `night ${seed} ${index}`,
      vehicle: `night-${random.below(5)}`,
      time: new Date(Date.parse("2025-03-04T20:00:00Z") + random.below(480 * 60_000)).toISOString(),
      battery: random.next() < 0.2 ? null : random.below(1000) / 10,
      speed: random.next() < 0.3 ? odd[random.below(odd.length)]! : random.below(3) * 20,
      odometer: random.below(1000) / 8
    }))
}

describe.skipIf(Either.isLeft(installed))("gold by batch on Spark", () =>
  layer(SparkLake.layer(Either.getOrThrow(installed)), { excludeTestServices: true, timeout: 120_000 })((it) => {
    it.effect("has the rows that DuckDB computes, of each model, after each thing that may come", () =>
      Effect.gen(function*() {
        yield* send(0, [...someLines(1), ...nightly(1)])
        yield* fillSilver
        yield* expectAllAlike("full")
        // Late by a month and by years, and again around midnight.
        const late = [event({ id: "late", time: "2025-01-30T23:30:00Z" }), event({ id: "later", time: "1969-12-31T23:59:30Z", battery: 3 })]
        yield* send(1, [...nightly(2), ...late])
        yield* fillSilver
        yield* expectAllAlike("touched")
        const kept = Math.floor(Date.now() / 86_400_000) - Date.parse("2025-02-28") / 86_400_000
        yield* inProcess(DayRetention.run({ bronzeDays: Option.none(), silverDays: Option.some(kept) }, false))
        yield* expectAllAlike("touched")
        yield* inProcess(Forget.run({ vehicleId: "night-3", dropReferences: false, dryRun: false }))
        yield* expectAlike(ModelFiles.named("vehicle_day"), "full")
        for (const model of ModelFiles.all) expect((yield* tableOf(model)).metadata.location).not.toContain("staged")
      }), 200_000)

    it.effect("means by each function, window, set and join what DuckDB means", () =>
      Effect.gen(function*() {
        const odd = [-0.5, 0.5, 49.5, 50, 50.5, 999999.9999995].map((odometer, index) =>
          event({
            id: `${index} \u00e9\\\u{1f697}'`,
            vehicle: `v\u00e9 \u00df\\${index % 2}`,
            odometer: Math.abs(odometer),
            speed: index * 1.1,
            battery: index === 2 ? null : 50
          }))
        yield* send(0, [...odd, ...nightly(5)])
        yield* fillSilver
        for (const model of [SparkModels.each, SparkModels.windows, SparkModels.relations]) yield* expectAlike(model, "full")
      }), 120_000)

    it.effect("leaves the table as it was where rows are not as the model says, or Spark cannot compute them, and names the model", () =>
      Effect.gen(function*() {
        yield* send(0, [event({ id: "x" }), event({ id: "y" })])
        yield* fillSilver
        for (const [model, reason] of SparkModels.broken) {
          const refused = yield* Effect.flip(build(model))
          expect(refused.message, model.name).toMatch(new RegExp(`^gold model ${model.name}: ${reason.source}.*\\. Its table stays as it was\\.$`, "s"))
          expect(yield* held(model)).toEqual([])
        }
        expect(yield* left).toEqual([])
        // Of what was written and not committed nothing stays.
        const { metadata } = yield* tableOf(SparkModels.broken[0]![0])
        const store = yield* ObjectStore
        const files = yield* Stream.runCollect(store.list(`${store.keyOf(metadata.location)!}/staged/`))
        expect(Chunk.toReadonlyArray(files).filter(({ key }) => key.endsWith(".parquet"))).toEqual([])
      }), 60_000)

    it.effect("gives a run up that another one overtook", () =>
      Effect.gen(function*() {
        const model = ModelFiles.named("vehicle_day")
        yield* send(0, [event({ id: "one more" })])
        yield* fillSilver
        const context = yield* Effect.context<Effect.Effect.Context<ReturnType<typeof ModelFiles.build>>>()
        const other = Effect.orDie(Effect.asVoid(ModelFiles.build(model).pipe(Effect.provide(context), Effect.provideService(BatchEngine, duckDb))))
        const overtaken = (engine: Engine): Engine => ({ ...engine, compute: (run, wanted) => Effect.tap(engine.compute(run, wanted), () => other) })
        expect(yield* Effect.flip(build(model, { engine: overtaken }))).toMatchObject({ _tag: "BatchSuperseded" })
        expect(yield* build(model)).toMatchObject({ kind: "unchanged" })
        expect(yield* held(model)).toEqual(yield* recomputed(model))
        expect(yield* left).toEqual([])
      }), 60_000)

    it.effect("says what is wrong with its settings, and what to do", () =>
      Effect.gen(function*() {
        const model = ModelFiles.named("vehicle_day")
        yield* send(0, [event({ id: "and one more" })])
        yield* fillSilver
        const { catalogUri } = yield* SparkLake.Spark
        const failing = yield* SparkLake.program("fails", "echo 'Exception in thread \"main\": the cluster is away' >&2; exit 7")
        const cases: ReadonlyArray<readonly [Partial<SparkSettings>, said: RegExp]> = [
          [{ submit: "/nowhere/submit" }, /^gold model vehicle_day: Spark cannot be started by SPARK_SUBMIT=\/nowhere\/submit: .*name its spark-submit by/],
          [{ submit: failing }, /^gold model vehicle_day: Spark \(.*\/fails\) ended with 7: Exception in thread "main": the cluster is away\./],
          [
            { catalogUri: `http://127.0.0.1:${yield* freePort}/catalog` },
            /^the REST catalog at SPARK_CATALOG_URI=http:\/\/127.0.0.1:\d+\/catalog cannot be used: .*ECONNREFUSED.*console running/
          ],
          [{ catalogUri: catalogUri.replace("/catalog", "") }, /does not end in \/catalog/],
          [{ catalogToken: Option.some(Redacted.make(SparkLake.readToken)) }, /SPARK_CATALOG_TOKEN does not let that token write.*CATALOG_WRITE_TOKEN/],
          [{ catalogToken: Option.none() }, /SPARK_CATALOG_TOKEN is not given/]
        ]
        for (const [settings, said] of cases) expect((yield* Effect.flip(build(model, { settings }))).message).toMatch(said)
        expect(yield* left).toEqual([])
      }), 60_000)

    it.effect("ends by itself where its table is gone, so that nobody waits for it", () =>
      Effect.gen(function*() {
        const { catalogToken, catalogUri } = yield* SparkLake.Spark
        const folder = yield* StageLake.Folder
        const [job, answer] = [join(folder, "gone.json"), join(folder, "gone-answer.json")]
        const rows = { path: "v1/namespaces/gold_staging/tables/gone" }
        writeFileSync(job, JSON.stringify({ name: "gone", catalog: { name: "voltlake", uri: catalogUri }, rows }))
        const { interpreter } = Either.getOrThrow(installed)
        const env = { ...process.env, SPARK_CATALOG_TOKEN: Redacted.value(Option.getOrThrow(catalogToken)), PYTHONDONTWRITEBYTECODE: "1" }
        const child = spawn(interpreter, [SparkLake.script, job, answer], { env, stdio: "ignore" })
        const [code] = yield* Effect.promise(() => once(child, "close") as Promise<[number]>)
        expect([code, existsSync(answer)]).toEqual([3, false])
      }), 60_000)

    it.effect("ends a job of Spark's own with all of its processes, and what that left hinders no other", () =>
      Effect.gen(function*() {
        const model = ModelFiles.named("vehicle_day")
        yield* send(0, nightly(9))
        yield* fillSilver
        const submit = yield* SparkLake.realSubmit(Either.getOrThrow(installed))
        const processes = () => execFileSync("ps", ["-eo", "args"], { encoding: "utf8" }).split("\n")
        const running = () => processes().filter((line) => /gold_batch\.py .*voltlake-spark-/.test(line))
        const job = yield* Effect.fork(build(model, { settings: { submit } }))
        yield* Effect.promise(() => waitFor("Spark and its script to run", () => running().some((line) => line.includes("python")) || undefined))
        yield* Fiber.interrupt(job)
        expect(running()).toEqual([])
        expect(yield* left).toEqual([])
        // As a process that is killed leaves it: nobody closes what it began.
        const killed = yield* Scope.make()
        yield* inProcess(Effect.gen(function*() {
          const [silver, table] = [yield* LakeTables.load(telemetryClean), yield* (yield* Tables).load(ModelTable.identifier(model))]
          const run = { checked: { model, columns: [] }, commitId: yield* StageLake.newCommitId, silver, table } as unknown as Run
          yield* Scope.extend(SparkStaging.make(run), killed)
        }))
        expect(yield* left).toHaveLength(2)
        expect((yield* build(model, { settings: { submit } })).kind).not.toBe("unchanged")
        expect(yield* held(model)).toEqual(yield* recomputed(model))
        expect(yield* left).toEqual([])
      }), 120_000)
  }))
