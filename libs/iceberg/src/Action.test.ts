/** Actions over memory: the contract, and every single call of each failing in every way. */
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import * as Action from "./Action.ts"
import * as ActionContract from "./ActionContract.ts"
import { Catalog } from "./Catalog.ts"
import * as MemoryCatalog from "./MemoryCatalog.ts"
import * as FaultyParts from "./test/FaultyParts.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as State from "./test/TableState.ts"
import * as Tables from "./Tables.ts"
import * as Transaction from "./Transaction.ts"
import * as Transform from "./Transform.ts"
import * as Type from "./Type.ts"

const parts = Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer)

ActionContract.contract("memory", parts)

const file = Fixture.fakeFile
const table = Fixture.raw

const fill = Effect.gen(function*() {
  yield* Fixture.createBoth
  for (const name of ["a", "b", "c"]) {
    yield* Transaction.commit({ commitId: name, changes: [Fixture.adding(table, [file(name)]), Fixture.adding(Fixture.clean, [])] })
  }
})

/** What an action changes, in short. */
const shown = Effect.gen(function*() {
  const { metadata } = yield* State.load(table)
  const { currentSchemaId, currentSnapshotId, defaultSortOrderId, defaultSpecId, properties, refs, snapshots } = metadata
  const manifests = (yield* State.manifestsOf(table)).length
  return {
    live: yield* State.live(table),
    ids: [currentSchemaId, defaultSpecId, defaultSortOrderId, currentSnapshotId, snapshots.length, manifests],
    properties,
    refs: Object.keys(refs).sort()
  }
}).pipe(Effect.provide(Tables.layer))

type AnyAction = Action.Action<{ readonly _tag: string }>

const replaced = [{ file: file("a"), sequenceNumber: 1n }]
const actions: ReadonlyArray<readonly [string, AnyAction]> = [
  ["overwrite", Action.overwrite({ removed: [file("a")], added: [file("a2")] })],
  ["deleteFiles", Action.deleteFiles([file("b")])],
  ["rewrite", Action.rewrite({ replaced, added: [file("a2")], readAt: 3n })],
  ["rewriteManifests", Action.rewriteManifests],
  ["setProperties", Action.setProperties({ x: "1" })],
  ["removeProperties", Action.removeProperties(["write.parquet.compression-codec"])],
  ["evolveSchema", Action.evolveSchema([{ change: "add", column: "gear", type: Type.string }])],
  ["evolveSpec", Action.evolveSpec([{ change: "add", column: "topic", transform: Transform.bucket(4) }])],
  ["setSortOrder", Action.setSortOrder([{ column: "topic" }])],
  ["setReference", Action.setReference({ name: "audit", type: "tag" })]
]

/** These need to know the table's snapshots. */
const later: ReadonlyArray<readonly [string, (snapshotIds: ReadonlyArray<bigint>) => AnyAction]> = [
  ["expire", (ids) => Action.expire(ids.slice(0, 2))],
  ["rollbackTo", (ids) => Action.rollbackTo(ids[1]!)]
]

const trial = (make: (snapshotIds: ReadonlyArray<bigint>) => AnyAction, kind: FaultyParts.FaultKind, n: number) =>
  Effect.gen(function*() {
    yield* fill.pipe(Effect.provide(Tables.layer))
    const { metadata } = yield* State.load(table).pipe(Effect.provide(Tables.layer))
    const before = { shown: yield* shown, keys: yield* State.keys }
    const fault: FaultyParts.Fault = { kind, remaining: n, fired: undefined }
    const faulty = Tables.layer.pipe(Layer.provideMerge(FaultyParts.layer(fault)))
    const actions = [make(metadata.snapshots.map((snapshot) => snapshot.snapshotId))]
    const exit = yield* Effect.exit(
      Transaction.commit({ commitId: "the-commit", changes: [{ table, actions }] }).pipe(Effect.provide(faulty))
    )
    const keys = yield* State.keys
    const known = yield* State.accountedFor([Fixture.raw, Fixture.clean]).pipe(Effect.provide(Tables.layer))
    return { exit, before, after: { shown: yield* shown, keys }, orphans: keys.filter((key) => !known.includes(key)), fired: fault.fired }
  }).pipe(Effect.provide(parts))

for (const [name, make] of [...actions.map(([name, action]) => [name, () => action] as const), ...later]) {
  it.live(`${name} leaves the table old or new and no orphans, whichever call fails`, () =>
    Effect.gen(function*() {
      for (const kind of ["refused", "passing", "lost-answer"] as const) {
        const fired: Array<string> = []
        for (let n = 1; ; n++) {
          const { after, before, exit, fired: call, orphans } = yield* trial(make, kind, n)
          const what = `${kind} of call ${n}, ${call}`
          expect(orphans, what).toEqual([])
          if (Exit.isSuccess(exit)) expect(after.shown, what).not.toEqual(before.shown)
          else expect(after, what).toEqual(before)
          if (call === undefined) break
          fired.push(call)
          expect(Exit.isSuccess(exit), what).toBe(kind !== "refused")
        }
        expect(fired).toContain("swap")
        expect(fired).toContain("putIfAbsent")
      }
    }))
}

/** The catalog's answer to the first swap is lost; meanwhile others commit. */
const lostAnswer = (catalog: typeof Catalog.Service, applied: boolean, between: Effect.Effect<unknown>) => {
  let first = true
  return Layer.succeed(Catalog, {
    ...catalog,
    swap: (swap) => {
      if (!first) return catalog.swap(swap)
      first = false
      const lost = Effect.zipRight(between, Effect.fail(FaultyParts.catalogFault("swap", "Unknown", true)))
      return applied ? Effect.zipRight(catalog.swap(swap), lost) : lost
    }
  })
}

const propertyCommit = Transaction.commit({ commitId: "p", changes: [{ table, actions: [Action.setProperties({ x: "1" })] }] })

const withLostAnswer = (applied: boolean, others: number) =>
  Effect.gen(function*() {
    yield* fill.pipe(Effect.provide(Tables.layer))
    const catalog = yield* Catalog
    const context = yield* Effect.context<Catalog | Layer.Layer.Success<typeof parts>>()
    const between = Effect.forEach(Array.from({ length: others }, (_, index) => index), (index) =>
      Transaction.commit({ commitId: `other-${index}`, changes: [Fixture.adding(table, [])] })
    ).pipe(Effect.provide(Tables.layer), Effect.provide(context), Effect.orDie)
    const blind = Tables.layer.pipe(Layer.provideMerge(lostAnswer(catalog, applied, between)))
    const result = yield* Effect.either(propertyCommit.pipe(Effect.provide(blind)))
    const { metadata } = yield* State.load(table).pipe(Effect.provide(Tables.layer))
    const known = yield* State.accountedFor([Fixture.raw, Fixture.clean]).pipe(Effect.provide(Tables.layer))
    return { result, metadata, orphans: (yield* State.keys).filter((key) => !known.includes(key)) }
  }).pipe(Effect.provide(parts))

for (const applied of [true, false]) {
  it.live(`knows a commit without a snapshot again by its metadata file (${applied ? "it happened" : "it did not"})`, () =>
    Effect.gen(function*() {
      const { metadata, orphans, result } = yield* withLostAnswer(applied, 3)
      expect(result._tag).toBe("Right")
      expect(metadata.properties["x"]).toBe("1")
      // Once: three of the fixture, three of others, one of ours, and the table's first.
      expect(metadata.metadataLog).toHaveLength(7)
      expect(orphans).toEqual([])
    }))
}

it.live("says that the outcome is unknown where the metadata log has been cut before it", () =>
  Effect.gen(function*() {
    const { metadata, result } = yield* withLostAnswer(true, 120)
    expect(result).toMatchObject({ _tag: "Left", left: { _tag: "CatalogError", outcome: "Unknown" } })
    expect(metadata.properties["x"]).toBe("1")
  }))
