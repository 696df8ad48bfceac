import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Either, Fiber, type Layer } from "effect"
import { join } from "node:path"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { commitId } from "@voltlake/iceberg/Snapshot"
import * as Action from "@voltlake/iceberg/Action"
import * as Transaction from "@voltlake/iceberg/Transaction"
import { string } from "@voltlake/iceberg/Type"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as OtherEngine from "@voltlake/testing/OtherEngine"
import * as StageLake from "@voltlake/testing/StageLake"
import { checkAgainstBronze } from "./Silver.ts"

const { bronze, drain, event, fillSilver, inProcess, query, record, send, silver, stepOnce } = StageLake

type DurableParts = Layer.Layer.Success<typeof StageLake.durable>

const lake = <A, E>(title: string, body: Effect.Effect<A, E, DurableParts>) => it.live(title, () => Effect.provide(body, StageLake.durable))

/** `vehicle/event` at `partition/offset` of every clean row. */
const kept = Effect.map(
  query(({ clean }) => `SELECT vehicle_id || '/' || event_id AS key, "partition" AS p, "offset" AS o FROM ${clean} ORDER BY ALL`),
  (rows) => rows.map((row) => `${row["key"]} at ${row["p"]}/${row["o"]}`)
)

const totals = Effect.map(StageLake.progress(telemetryClean), (progress) => {
  expect(Progress.check(progress)).toEqual(Either.right(progress))
  const of = (counter: Progress.Total) => Progress.total(progress, counter)
  return { rows: of("rows"), rejected: of("rejected"), duplicates: of("duplicates"), skipped: of("skipped") }
})

const summaries = (contract: typeof telemetryClean) =>
  Effect.map(StageLake.metadata(contract), ({ snapshots }) =>
    snapshots.map((snapshot) => [commitId(snapshot), snapshot.summary[LakeTables.progressKey]]))

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex").toUpperCase()

describe("Silver keeps each event once", () => {
  lake("within a batch that of the smaller partition and offset", Effect.gen(function*() {
    yield* send(1, [event({ id: "a" }), event({ id: "b" })])
    yield* send(0, [event({ id: "c" }), event({ id: "b" }), event({ id: "b" }), event({ id: "c" })])
    yield* fillSilver
    expect(yield* kept).toEqual(["v1/a at 1/0", "v1/b at 0/1", "v1/c at 0/0"])
    expect(yield* totals).toEqual({ rows: 3n, rejected: 0n, duplicates: 3n, skipped: 0n })
  }))

  lake("across batches that which was committed first", Effect.gen(function*() {
    yield* send(1, [event({ id: "a" })])
    yield* fillSilver
    yield* send(0, [event({ id: "a" }), event({ id: "b" })])
    yield* fillSilver
    yield* send(1, [event({ id: "b" })])
    yield* fillSilver
    expect(yield* kept).toEqual(["v1/a at 1/0", "v1/b at 0/1"])
    expect(yield* totals).toMatchObject({ rows: 2n, duplicates: 2n })
  }))

  lake("across the batches of one process", Effect.gen(function*() {
    yield* send(0, ["a", "b", "a", "c", "b", "a"].map((id) => event({ id })))
    yield* inProcess(Effect.zipRight(drain(bronze()), drain(silver({ batchRowsMax: 1 }))))
    expect(yield* kept).toEqual(["v1/a at 0/0", "v1/b at 0/1", "v1/c at 0/3"])
    expect(yield* totals).toMatchObject({ rows: 3n, duplicates: 3n })
  }))

  lake("whatever event_time and values a copy bears, and in whichever partition it lies", Effect.gen(function*() {
    yield* send(0, [event({ id: "a", time: "2025-03-01T08:00:00Z", speed: 1 })])
    yield* fillSilver
    yield* send(1, [event({ id: "a", time: "1999-12-31T23:59:59Z", speed: 2 }), event({ id: "a", time: "2025-03-01T08:00:00Z", battery: null })])
    yield* fillSilver
    expect(yield* query(({ clean }) => `SELECT event_ts, speed_mph FROM ${clean}`)).toEqual([
      { event_ts: BigInt(Date.parse("2025-03-01T08:00:00Z")) * 1000n, speed_mph: 1 }
    ])
  }))

  lake("by vehicle and id together: neither alone makes a copy", Effect.gen(function*() {
    yield* send(0, [
      event({ vehicle: "a", id: "bc" }),
      event({ vehicle: "ab", id: "c" }),
      event({ vehicle: "a", id: "b" }),
      event({ vehicle: "b", id: "a" }),
      event({ vehicle: "A", id: "bc" })
    ])
    yield* fillSilver
    expect(yield* totals).toMatchObject({ rows: 5n, duplicates: 0n })
  }))

  lake("though a copy was rejected before: a reject holds no key", Effect.gen(function*() {
    yield* send(0, [event({ id: "a", battery: 200 }), event({ id: "a" }), event({ id: "a", battery: -1 })])
    yield* fillSilver
    expect(yield* kept).toEqual(["v1/a at 0/1"])
    expect(yield* totals).toMatchObject({ rows: 1n, rejected: 2n, duplicates: 0n })
  }))
})

describe("Silver", () => {
  lake("keeps rejects with rule, cause and their bytes", Effect.gen(function*() {
    const notUtf8 = Uint8Array.from([0xff, 0x00, 0x7b])
    const key = new TextEncoder().encode("k")
    yield* send(0, [
      record(notUtf8, { key }),
      record(null),
      record(""),
      record("{\"a\":"),
      record("[]"),
      record(event({ id: "" })),
      record(event({ id: "a", battery: 101 })),
      record(event({ id: "b", time: "2025-02-30T00:00:00Z" })),
      record(event({ id: "c", time: "2100-01-01T00:00:00Z" })),
      record(event({ id: "d" }))
    ])
    yield* fillSilver
    const rows = yield* query(({ rejected }) => `SELECT "offset" AS o, rule, cause, hex("key") AS k, hex("value") AS v, attempt
      FROM ${rejected} ORDER BY "offset"`)
    expect(rows.map((row) => row["rule"])).toEqual([
      "malformed_json",
      "malformed_json",
      "malformed_json",
      "malformed_json",
      "not_an_event",
      "missing_event_id",
      "battery_out_of_range",
      "invalid_event_time",
      "future_event_time"
    ])
    expect(rows[0]).toMatchObject({ o: 0n, cause: "the value is not UTF-8", k: "6B", v: hex(notUtf8), attempt: 1 })
    expect(rows[1]).toMatchObject({ cause: "the record has no value", k: null, v: null })
    expect(rows[2]).toMatchObject({ cause: "the value is empty", v: "" })
    expect(rows[6]!["cause"]).toBe("battery_percent is 101.0, outside 0 to 100")
    expect(hex(new TextEncoder().encode(event({ id: "a", battery: 101 })))).toBe(rows[6]!["v"])
    expect(yield* totals).toEqual({ rows: 1n, rejected: 9n, duplicates: 0n, skipped: 0n })
  }))

  lake("moves both tables in one commit, also where only one gets rows", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* fillSilver
    yield* send(0, ["no event"])
    yield* fillSilver
    yield* send(0, [event({ id: "a" })])
    yield* fillSilver
    const clean = yield* summaries(telemetryClean)
    expect(clean).toHaveLength(3)
    expect(new Set(clean.map(([id]) => id)).size).toBe(3)
    expect(yield* summaries(telemetryRejected)).toEqual(clean)
  }))

  lake("reads bronze by bites and from where the tables stand", Effect.gen(function*() {
    yield* send(0, Array.from({ length: 25 }, (_, at) => event({ id: `a${at}` })))
    yield* send(1, Array.from({ length: 3 }, (_, at) => event({ id: `b${at}` })))
    yield* inProcess(drain(bronze()))
    expect(yield* stepOnce(silver({ batchRowsMax: 10 }))).toBe("advanced")
    expect((yield* totals).rows).toBe(10n)
    yield* inProcess(drain(silver({ batchRowsMax: 10 })))
    expect(yield* totals).toEqual({ rows: 28n, rejected: 0n, duplicates: 0n, skipped: 0n })
    expect(yield* stepOnce(silver())).toBe("idle")
  }))

  lake("goes on where others named columns anew, moved them and added some", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* fillSilver
    const evolve = (contract: typeof telemetryRaw, from: string) =>
      inProcess(Effect.flatMap(Transaction.newCommitId, (commitId) =>
        Transaction.commit({
          commitId,
          changes: [{
            table: LakeTables.identifier(contract),
            actions: [Action.evolveSchema([
              { change: "rename", column: from, name: "named anew" },
              { change: "add", column: "note", type: string, place: "first" }
            ])]
          }]
        })))
    yield* evolve(telemetryRaw, "offset")
    yield* evolve(telemetryClean, "event_ts")
    yield* send(0, [event({ id: "b" }), event({ id: "a" })])
    yield* fillSilver
    expect(yield* kept).toEqual(["v1/a at 0/0", "v1/b at 0/1"])
    expect(yield* totals).toEqual({ rows: 2n, rejected: 0n, duplicates: 1n, skipped: 0n })
    expect(Position.get(Progress.position(yield* StageLake.progress(telemetryRaw)), { topic: StageLake.topic, partition: 0 })).toBe(3n)
  }))

  lake("counts the offsets that bronze lost as skipped", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* fillSilver
    yield* StageLake.loseNext(0, [event({ id: "lost" })])
    yield* send(0, [event({ id: "b" })])
    yield* inProcess(Effect.zipRight(drain(bronze({ acceptLoss: true })), drain(silver())))
    expect(yield* totals).toEqual({ rows: 2n, rejected: 0n, duplicates: 0n, skipped: 1n })
  }))

  lake("lets one of two that checked the same batch commit, and the other check it again", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* inProcess(drain(bronze()))
    const store = yield* ObjectStore
    const folder = yield* StageLake.Folder
    const hasChecked = yield* Deferred.make<void>()
    const mayGoOn = yield* Deferred.make<void>()
    const slowStore = ObjectStore.of({
      ...store,
      putFile: (key, path) =>
        Effect.zipRight(Effect.zipRight(Deferred.succeed(hasChecked, undefined), Deferred.await(mayGoOn)), store.putFile(key, path))
    })
    const slow = yield* Effect.fork(
      Effect.flip(inProcess(Effect.flatMap(StageLake.silverAt(join(folder, "slow.duckdb")), (stage) => stage.step)).pipe(
        Effect.provideService(ObjectStore, slowStore)
      ))
    )
    yield* Deferred.await(hasChecked)
    expect(yield* stepOnce(silver())).toBe("advanced")
    yield* Deferred.succeed(mayGoOn, undefined)
    expect(yield* Fiber.join(slow)).toMatchObject({ _tag: "OffsetOverlap" })
    expect(yield* kept).toEqual(["v1/a at 0/0"])
    expect(yield* summaries(telemetryClean)).toHaveLength(1)
  }))

  lake("does not take a commit of another process, between its looks at the two tables, for a table changed alone", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" })])
    yield* inProcess(drain(bronze()))
    const catalog = yield* Catalog
    const folder = yield* StageLake.Folder
    yield* inProcess(StageLake.silver())
    const parts = yield* Effect.context<DurableParts>()
    const other = yield* Effect.cached(Effect.provide(stepOnce(StageLake.silverAt(join(folder, "other.duckdb"))), parts))
    let looks = 0
    const late = Catalog.of({
      ...catalog,
      // Looks while the stage is made: its three tables; the step's second look at a silver table comes after the other's commit.
      metadataLocation: (table) =>
        Effect.suspend(() => (table.name === telemetryRejected.name && ++looks === 2 ? Effect.ignore(other) : Effect.void)).pipe(
          Effect.zipRight(catalog.metadataLocation(table))
        )
    })
    const outcome = yield* Effect.either(stepOnce(silver()).pipe(Effect.provideService(Catalog, late)))
    expect(looks).toBeGreaterThanOrEqual(2)
    expect(Either.isLeft(outcome) ? outcome.left._tag : outcome.right).not.toBe("StageStopped")
    yield* inProcess(drain(silver()))
    expect(yield* kept).toEqual(["v1/a at 0/0"])
  }))

  lake("stops where one of its tables was changed alone, and changes nothing", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), "rejected"])
    yield* fillSilver
    yield* inProcess(Effect.gen(function*() {
      const { identifier, progress } = yield* LakeTables.load(telemetryRejected)
      const [key, partition] = Array.from(progress)[0]!
      const back = new Map([[key, new Progress.PartitionProgress({ ...partition, position: 1n, rejected: 0n })]])
      yield* Transaction.commit({
        commitId: yield* StageLake.newCommitId,
        changes: [{ table: identifier, actions: [Action.append([])], summary: () => Either.right(LakeTables.progressSummary(back)) }]
      })
    }))
    yield* send(0, [event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    const stopped = yield* Effect.flip(stepOnce(silver()))
    expect(stopped).toMatchObject({ _tag: "StageStopped", stage: "silver" })
    expect(stopped.message).toContain("silver.telemetry_clean and silver.telemetry_rejected are at different positions")
    expect(yield* kept).toEqual(["v1/a at 0/0"])
  }))

  lake("goes on where another engine removed rows of bronze", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    yield* inProcess(OtherEngine.overwrite(telemetryRaw, { rows: (all) => `SELECT * FROM ${all} WHERE "offset" <> 1` }))
    yield* send(0, [event({ id: "c" })])
    yield* inProcess(drain(bronze()))
    yield* inProcess(drain(silver()))
    expect(yield* kept).toEqual(["v1/a at 0/0", "v1/c at 0/2"])
  }))

  lake("stops before it commits where rows of bronze are missing", Effect.gen(function*() {
    yield* send(0, [event({ id: "a" }), event({ id: "b" })])
    yield* inProcess(drain(bronze()))
    // A rewrite keeps all rows, or says otherwise than it does.
    yield* inProcess(OtherEngine.overwrite(telemetryRaw, { operation: "replace", rows: (all) => `SELECT * FROM ${all} WHERE "offset" <> 1` }))
    const stopped = yield* Effect.flip(stepOnce(silver()))
    expect(stopped).toMatchObject({ _tag: "StageStopped", stage: "silver" })
    expect(stopped.message).toContain("offsets without a bronze row = skipped + lost of bronze does not hold, expected 0, got 1")
    expect(yield* kept).toEqual([])
  }))
})

describe("checkAgainstBronze", () => {
  const progress = (counts: Partial<Progress.PartitionProgress>) =>
    new Map([["t-0", new Progress.PartitionProgress({
      start: 0n,
      position: 10n,
      rows: 0n,
      skipped: 0n,
      lost: 0n,
      rejected: 0n,
      duplicates: 0n,
      ...counts
    })]])
  const none = new Map<string, bigint>()
  const two = new Map([["t-0", 2n]])
  it.each([
    ["nothing read yet holds", Progress.empty, progress({ skipped: 3n }), none, true],
    ["caught up, and as many skipped as bronze has skipped and lost", progress({ skipped: 3n }), progress({ skipped: 1n, lost: 2n }), none, true],
    ["caught up, and one fewer: a row too many", progress({ skipped: 2n }), progress({ skipped: 3n }), none, false],
    ["caught up, and one more: a row is missing", progress({ skipped: 4n }), progress({ skipped: 3n }), none, false],
    ["behind, and fewer so far holds", progress({ position: 5n, skipped: 1n }), progress({ skipped: 3n }), none, true],
    ["behind, and more already: a row is missing", progress({ position: 5n, skipped: 4n }), progress({ skipped: 3n }), none, false],
    ["a partition of silver alone is not bronze's matter", progress({ skipped: 1n }), Progress.empty, none, true],
    ["as many more as were removed from bronze holds", progress({ skipped: 5n }), progress({ skipped: 3n }), two, true],
    ["one more than were removed from bronze", progress({ skipped: 6n }), progress({ skipped: 3n }), two, false],
    ["a row too many, though rows were removed", progress({ skipped: 2n }), progress({ skipped: 3n }), two, false],
    ["more, where nobody knows how many were removed, holds", progress({ skipped: 9n }), progress({ skipped: 3n }), undefined, true]
  ])("%s", (_, silverProgress, bronzeProgress, removed, holds) => {
    expect(Either.isRight(checkAgainstBronze(silverProgress, { progress: bronzeProgress, removed }))).toBe(holds)
  })
})
