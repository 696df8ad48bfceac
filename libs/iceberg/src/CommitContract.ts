/** What a commit does whatever the parts below it. Run over memory and over PostgreSQL with local files. */
import { expect, layer } from "@effect/vitest"
import { Data, Effect, Either, Layer } from "effect"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Action from "./Action.ts"
import { Catalog } from "./Catalog.ts"
import * as Scan from "./Scan.ts"
import { commitId as commitIdOf } from "./Snapshot.ts"
import * as TableIdentifier from "./TableIdentifier.ts"
import * as Metadata from "./TableMetadata.ts"
import { positionTag } from "./Snapshot.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as Tables from "./Tables.ts"
import type { TableChange } from "./Transaction.ts"
import * as Transaction from "./Transaction.ts"

class Taken extends Data.TaggedError("Taken")<{ readonly at: string }> {}

const next = "voltlake.next"

/** Takes a commit only at one value of a counter, as a stage's position does. */
const onlyAt = (table: TableIdentifier.TableIdentifier, at: number, file: string): TableChange<Taken> => ({
  table,
  actions: [Action.append([Fixture.fakeFile(file)])],
  summary: (metadata) => {
    const found = Metadata.currentSnapshot(metadata)?.summary[next] ?? "0"
    return found === String(at) ? Either.right({ [next]: String(at + 1) }) : Either.left(new Taken({ at: found }))
  }
})

const create = (namespace: string) =>
  Effect.flatMap(Tables.Tables, (tables) =>
    Effect.forEach([TableIdentifier.make(namespace, "one"), TableIdentifier.make(namespace, "two")], (table) =>
      Effect.as(tables.createIfAbsent(table, Fixture.definition), table)))

const filesOf = (table: TableIdentifier.TableIdentifier) =>
  Effect.gen(function*() {
    const { metadata } = yield* (yield* Tables.Tables).load(table)
    return (yield* Scan.planFiles(metadata)).map(({ file }) => file.filePath).sort()
  })

/** As another process would: one's own commits to a table follow each other, and meet nobody. */
const inProcess = Effect.provide(Layer.fresh(Tables.layer))

const paths = (names: ReadonlyArray<string>) => names.map((name) => Fixture.fakeFile(name).filePath).sort()

/** Parents lead from the newest to the oldest snapshot by sequence numbers without a gap. */
const expectLinear = (metadata: Metadata.TableMetadata) => {
  const line = Array.from(Metadata.lineage(metadata))
  expect(line).toHaveLength(metadata.snapshots.length)
  expect(line.map((snapshot) => snapshot.sequenceNumber)).toEqual(
    line.map((_, index) => metadata.lastSequenceNumber - BigInt(index))
  )
  const times = line.map((snapshot) => snapshot.timestampMs)
  expect(times).toEqual([...new Set(times)].sort((a, b) => b - a))
}

export const contract = <E>(name: string, parts: Layer.Layer<Catalog | ObjectStore, E>) =>
  layer(Tables.layer.pipe(Layer.provideMerge(parts)), { excludeTestServices: true })(`a commit over ${name}`, (it) => {
    it.effect("adds files to several tables at once, and moves the tag", () =>
      Effect.gen(function*() {
        const [one, two] = yield* create("several")
        const result = yield* Transaction.commit({
          commitId: "several-1",
          changes: [Fixture.adding(two!, [Fixture.fakeFile("x", 3n)]), Fixture.adding(one!, [])]
        })
        expect(result.wasCommitted).toBe(false)
        expect(result.tables.map(({ table }) => table)).toEqual([two, one])
        expect(yield* filesOf(two!)).toEqual(paths(["x"]))
        expect(yield* filesOf(one!)).toEqual([])
        const { metadata } = yield* (yield* Tables.Tables).load(two!)
        expect(metadata).toEqual(result.tables[0]!.metadata)
        expect(metadata.refs[positionTag]!.snapshotId).toBe(metadata.currentSnapshotId)
        expect(Metadata.currentSnapshot(metadata)!.summary).toMatchObject({
          operation: "append",
          "added-records": "3",
          "total-records": "3",
          "total-data-files": "1"
        })
      }))

    it.effect("is done once however often it is asked for", () =>
      Effect.gen(function*() {
        const [one] = yield* create("twice")
        const request = { commitId: "twice-1", changes: [onlyAt(one!, 0, "y")] }
        const first = yield* Transaction.commit(request)
        yield* Transaction.commit({ commitId: "twice-2", changes: [onlyAt(one!, 1, "z")] })
        const again = yield* Transaction.commit(request)
        expect(again.wasCommitted).toBe(true)
        expect(again.tables[0]!.snapshot).toEqual(first.tables[0]!.snapshot)
        expect(yield* filesOf(one!)).toEqual(paths(["y", "z"]))
      }))

    it.effect("fails with the requirement's own error and changes no table", () =>
      Effect.gen(function*() {
        const [one, two] = yield* create("refused")
        yield* Transaction.commit({ commitId: "refused-1", changes: [onlyAt(two!, 0, "first")] })
        const error = yield* Effect.flip(
          Transaction.commit({ commitId: "refused-2", changes: [onlyAt(one!, 0, "a"), onlyAt(two!, 0, "b")] })
        )
        expect(error).toEqual(new Taken({ at: "1" }))
        expect(yield* filesOf(one!)).toEqual([])
        expect(yield* filesOf(two!)).toEqual(paths(["first"]))
      }))

    it.effect("carries the summary's own keys on", () =>
      Effect.gen(function*() {
        const [one] = yield* create("carried")
        const first = Fixture.adding(one!, [], { "voltlake.a": "1", foreign: "2" })
        yield* Transaction.commit({ commitId: "c-1", changes: [first] })
        const { tables } = yield* Transaction.commit({ commitId: "c-2", changes: [Fixture.adding(one!, [])] })
        expect(tables[0]!.snapshot!.summary).toMatchObject({ "voltlake.a": "1", "voltlake.commit-id": "c-2" })
        expect(tables[0]!.snapshot!.summary["foreign"]).toBeUndefined()
      }))

    it.effect("lets eight writers add all of their rows once, in one line of history", () =>
      Effect.gen(function*() {
        const [one, two] = yield* create("eight")
        const names = Array.from({ length: 8 }, (_, writer) => [`w${writer}-0`, `w${writer}-1`, `w${writer}-2`])
        yield* Effect.forEach(names, (mine) =>
          Effect.forEach(mine, (file) =>
            Transaction.commit({
              commitId: `eight-${file}`,
              changes: [Fixture.adding(one!, [Fixture.fakeFile(file)]), Fixture.adding(two!, [])]
            })).pipe(inProcess), { concurrency: "unbounded" })
        expect(yield* filesOf(one!)).toEqual(paths(names.flat()))
        const tables = yield* Tables.Tables
        const [first, second] = yield* Effect.all([tables.load(one!), tables.load(two!)])
        expectLinear(first.metadata)
        expectLinear(second.metadata)
        expect(first.metadata.snapshots).toHaveLength(24)
        expect(first.metadata.snapshots.map(commitIdOf)).toEqual(second.metadata.snapshots.map(commitIdOf))
        expect(Metadata.currentSnapshot(first.metadata)!.summary["total-records"]).toBe("24")
      }))

    it.effect("lets exactly one of two that start at the same place win", () =>
      Effect.gen(function*() {
        const [one] = yield* create("fenced")
        const outcomes = yield* Effect.forEach(["l", "r"], (file) =>
          Effect.either(Transaction.commit({ commitId: `fenced-${file}`, changes: [onlyAt(one!, 0, file)] }).pipe(inProcess)), {
          concurrency: "unbounded"
        })
        expect(outcomes.filter(Either.isRight)).toHaveLength(1)
        expect(outcomes.filter(Either.isLeft).map(({ left }) => left)).toEqual([new Taken({ at: "1" })])
        expect(yield* filesOf(one!)).toHaveLength(1)
      }))

    it.effect("comes through although another process commits without a pause, and faster", () =>
      Effect.gen(function*() {
        const [one] = yield* create("unfair")
        let [others, attempts] = [0, 0]
        const faster = Effect.suspend(() => Transaction.commit({ commitId: `fast-${others++}`, changes: [Fixture.adding(one!, [])] })).pipe(
          // In memory nothing else makes it give way to timers.
          Effect.delay("1 millis"),
          Effect.forever,
          inProcess
        )
        const catalog = yield* Catalog
        const slowSwap = Catalog.of({
          ...catalog,
          swap: (swap) =>
            Effect.suspend(() => {
              const before = others
              attempts++
              // Only until it has its turn: then nobody else swaps.
              return Effect.repeat(Effect.sleep("5 millis"), { until: () => others > before + 1, times: 40 })
            }).pipe(Effect.zipRight(catalog.swap(swap)))
        })
        const slower = Transaction.commit({ commitId: "slow", changes: [Fixture.adding(one!, [Fixture.fakeFile("slow")])] }).pipe(
          inProcess,
          Effect.provideService(Catalog, slowSwap)
        )
        yield* Effect.raceFirst(slower, faster)
        expect(attempts).toBeLessThanOrEqual(5)
        expect(others).toBeGreaterThan(3)
        expect(yield* filesOf(one!)).toEqual(paths(["slow"]))
      }), 30_000)
  })
