/** What every catalog does. Run over each adapter; a test's tables have names of their own, since adapters may share a database. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Either, Exit, Fiber, type Layer, Scope } from "effect"
import type { Swap, TableSwap } from "./Catalog.ts"
import { Catalog } from "./Catalog.ts"
import * as TableIdentifier from "./TableIdentifier.ts"

const tables = (test: string) => [TableIdentifier.make(test, "b"), TableIdentifier.make(test, "a")] as const

const swapOf = (commitId: string, moves: ReadonlyArray<TableSwap>, unreferenced: ReadonlyArray<string> = []): Swap => ({
  commitId,
  tables: moves,
  unreferenced
})

const move = (table: TableIdentifier.TableIdentifier, expected: string, next: string): TableSwap => ({
  table,
  expected,
  next,
  head: { snapshotId: 8_205_303_700_603_925_274n, position: `{"telemetry_raw-0":"${next}"}`, found: `{"telemetry_raw-0":"${expected}"}` }
})

const create = (test: string) =>
  Effect.gen(function*() {
    const catalog = yield* Catalog
    yield* catalog.createNamespace(test)
    yield* Effect.forEach(tables(test), (table) => catalog.createTable(table, "0"), { discard: true })
    return catalog
  })

const locations = (test: string) =>
  Effect.flatMap(Catalog, (catalog) => Effect.forEach(tables(test), catalog.metadataLocation))

export const contract = <E>(name: string, catalog: Layer.Layer<Catalog, E>) =>
  layer(catalog, { excludeTestServices: true })(`${name} as a catalog`, (it) => {
    it.effect("makes a table once and says where it is", () =>
      Effect.gen(function*() {
        const catalog = yield* create("made")
        const [table] = tables("made")
        const again = yield* Effect.flip(catalog.createTable(table, "1"))
        expect(again._tag).toBe("TableAlreadyExists")
        expect(yield* catalog.metadataLocation(table)).toBe("0")
        expect((yield* catalog.list).map(TableIdentifier.render).filter((text) => text.startsWith("made."))).toEqual([
          "made.a",
          "made.b"
        ])
        expect(yield* catalog.namespaces).toContain("made")
        yield* catalog.createNamespace("made")
        const missing = yield* Effect.flip(catalog.metadataLocation(TableIdentifier.make("made", "nothing")))
        expect(missing._tag).toBe("TableNotFound")
      }))

    it.effect("moves all tables of a swap and keeps their heads", () =>
      Effect.gen(function*() {
        const catalog = yield* create("moved")
        const [b, a] = tables("moved")
        yield* catalog.swap(swapOf("commit-1", [move(b, "0", "1"), move(a, "0", "1")]))
        expect(yield* locations("moved")).toEqual(["1", "1"])
        const head = (yield* catalog.heads).find(({ table }) => TableIdentifier.render(table) === "moved.a")
        expect(head).toMatchObject({ snapshotId: 8_205_303_700_603_925_274n, commitId: "commit-1" })
        expect(JSON.parse(head!.position!)).toEqual({ "telemetry_raw-0": "1" })
      }))

    it.effect("moves nothing where one table has moved on", () =>
      Effect.gen(function*() {
        const catalog = yield* create("torn")
        const [b, a] = tables("torn")
        yield* catalog.swap(swapOf("commit-1", [move(b, "0", "1")]))
        const late = swapOf("commit-2", [move(b, "0", "2"), move(a, "0", "2")], ["torn/file"])
        const error = yield* Effect.flip(catalog.swap(late))
        expect(error).toMatchObject({ _tag: "CommitConflict", table: "torn.b", expected: "0", found: "1" })
        expect(yield* locations("torn")).toEqual(["1", "0"])
        expect(yield* catalog.expiredFiles(0)).not.toContain("torn/file")
        const gone = TableIdentifier.make("torn", "gone")
        const absent = yield* Effect.flip(catalog.swap(swapOf("commit-3", [move(gone, "0", "1")])))
        expect(absent).toMatchObject({ _tag: "CommitConflict", table: "torn.gone", found: undefined })
      }))

    it.effect("lets exactly one of many swaps win", () =>
      Effect.gen(function*() {
        const catalog = yield* create("raced")
        const [b, a] = tables("raced")
        const outcomes = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, index) => String(index + 1)),
          (next) => Effect.either(catalog.swap(swapOf(`commit-${next}`, [move(b, "0", next), move(a, "0", next)]))),
          { concurrency: "unbounded" }
        )
        expect(outcomes.filter(Either.isRight)).toHaveLength(1)
        expect(outcomes.filter(Either.isLeft).every(({ left }) => left._tag === "CommitConflict")).toBe(true)
        const [atB, atA] = yield* locations("raced")
        expect(atB).toBe(atA)
      }))

    it.effect("refuses a retired commit", () =>
      Effect.gen(function*() {
        const catalog = yield* create("retired")
        const [b] = tables("retired")
        yield* catalog.retire(["old-1", "old-2"])
        yield* catalog.retire(["old-1"])
        const error = yield* Effect.flip(catalog.swap(swapOf("old-1", [move(b, "0", "1")])))
        expect(error).toMatchObject({ _tag: "CommitRetired", commitId: "old-1" })
        expect(yield* locations("retired")).toEqual(["0", "0"])
      }))

    it.effect("remembers files that nothing names, until they are forgotten", () =>
      Effect.gen(function*() {
        const catalog = yield* create("files")
        const [b] = tables("files")
        const many = Array.from({ length: 2500 }, (_, index) => `files/${index}`)
        yield* catalog.swap(swapOf("commit-1", [move(b, "0", "1")], many))
        yield* catalog.swap(swapOf("commit-2", [move(b, "1", "2")], many.slice(0, 1)))
        expect(new Set(yield* catalog.expiredFiles(0))).toEqual(new Set(many))
        expect(yield* catalog.expiredFiles(3_600_000)).toEqual([])
        yield* catalog.forgetFiles(many.slice(1))
        expect(yield* catalog.expiredFiles(0)).toEqual(["files/0"])
        yield* catalog.unreference(["files/0", "files/orphan"])
        expect(yield* catalog.expiredFiles(0)).toEqual(["files/0", "files/orphan"])
        yield* catalog.forgetFiles(["files/0", "files/orphan"])
      }))

    it.effect("makes a namespace once, with properties that can be changed, and drops it empty only", () =>
      Effect.gen(function*() {
        const catalog = yield* Catalog
        const made = yield* Effect.forEach([1, 2, 3, 4], () => Effect.either(catalog.newNamespace("spaces", { owner: "a", note: "b" })), {
          concurrency: "unbounded"
        })
        expect(made.filter(Either.isRight)).toHaveLength(1)
        expect(made.filter(Either.isLeft).every(({ left }) => left._tag === "NamespaceAlreadyExists")).toBe(true)
        const before = yield* catalog.changeNamespace("spaces", { updates: { owner: "c", more: "d" }, removals: ["note", "absent"] })
        expect(before).toEqual({ owner: "a", note: "b" })
        expect(yield* catalog.namespaceProperties("spaces")).toEqual({ owner: "c", more: "d" })
        yield* catalog.changeNamespace("spaces", { updates: {}, removals: ["owner", "more"] })
        expect(yield* catalog.namespaceProperties("spaces")).toEqual({})
        const table = TableIdentifier.make("spaces", "a")
        yield* catalog.createTable(table, "0")
        expect((yield* Effect.flip(catalog.dropNamespace("spaces")))._tag).toBe("NamespaceNotEmpty")
        yield* catalog.dropTable(table, [])
        yield* catalog.dropNamespace("spaces")
        for (const call of [
          catalog.namespaceProperties("spaces"),
          catalog.dropNamespace("spaces"),
          catalog.changeNamespace("spaces", { updates: { a: "b" }, removals: [] })
        ]) expect(yield* Effect.flip(call)).toMatchObject({ _tag: "NamespaceNotFound", namespace: "spaces" })
        expect(yield* catalog.namespaces).not.toContain("spaces")
      }))

    it.effect("keeps what a reader with a lease may need, and nothing longer", () =>
      Effect.gen(function*() {
        const catalog = yield* create("leased")
        yield* catalog.unreference(["leased/before"])
        yield* Effect.sleep("5 millis")
        yield* Effect.scoped(Effect.gen(function*() {
          yield* catalog.lease("a long query")
          yield* Effect.sleep("5 millis")
          yield* catalog.unreference(["leased/after"])
          expect(yield* catalog.expiredFiles(0)).toEqual(["leased/before"])
        }))
        expect(yield* catalog.expiredFiles(0)).toEqual(["leased/before", "leased/after"])
        yield* catalog.forgetFiles(["leased/before", "leased/after"])
      }))

    it.effect("notes that a table was rewound, once for each time, at the next commit that finds it so", () =>
      Effect.gen(function*() {
        const catalog = yield* create("rewound")
        const [b, a] = tables("rewound")
        const found = (swap: TableSwap, position: string | undefined): TableSwap => ({ ...swap, head: { ...swap.head!, found: position } })
        yield* catalog.swap(swapOf("commit-1", [move(b, "0", "7"), move(a, "0", "7")]))
        yield* catalog.swap(swapOf("commit-2", [found(move(b, "7", "8"), `{"telemetry_raw-0":"7"}`), move(a, "7", "8")]))
        expect(yield* catalog.epoch(b)).toBe(0)
        yield* catalog.swap(swapOf("commit-3", [found(move(b, "8", "6"), `{"telemetry_raw-0":"5","telemetry_raw-1":"9"}`)]))
        expect(yield* catalog.epoch(b)).toBe(1)
        expect(yield* catalog.epoch(a)).toBe(0)
        yield* catalog.swap(swapOf("commit-4", [found(move(b, "6", "7"), `{"telemetry_raw-0":"6"}`)]))
        expect(yield* catalog.epoch(b)).toBe(1)
        yield* catalog.swap(swapOf("commit-5", [found(move(b, "7", "9"), undefined)]))
        expect(yield* catalog.epoch(b)).toBe(2)
        yield* catalog.renameTable(b, TableIdentifier.make("rewound", "c"))
        expect(yield* catalog.epoch(TableIdentifier.make("rewound", "c"))).toBe(2)
        expect(yield* catalog.epoch(b)).toBe(0)
      }))

    it.effect("renames a table to a name that is free, with its head", () =>
      Effect.gen(function*() {
        const catalog = yield* create("renamed")
        const [b, a] = tables("renamed")
        const c = TableIdentifier.make("renamed", "c")
        yield* catalog.swap(swapOf("commit-1", [move(b, "0", "1")]))
        expect(yield* Effect.flip(catalog.renameTable(b, a))).toMatchObject({ _tag: "TableAlreadyExists", table: "renamed.a" })
        expect(yield* Effect.flip(catalog.renameTable(TableIdentifier.make("renamed", "x"), c))).toMatchObject({ _tag: "TableNotFound" })
        yield* catalog.renameTable(b, c)
        expect(yield* catalog.metadataLocation(c)).toBe("1")
        expect((yield* Effect.flip(catalog.metadataLocation(b)))._tag).toBe("TableNotFound")
        const own = (yield* catalog.heads).filter(({ table }) => table.namespace === "renamed")
        expect(own.map(({ table }) => TableIdentifier.render(table))).toEqual(["renamed.c"])
        yield* catalog.swap(swapOf("commit-2", [move(c, "1", "2")]))
        expect(yield* catalog.metadataLocation(c)).toBe("2")
      }))

    it.effect("drops a table once, and remembers those of its files that are to go", () =>
      Effect.gen(function*() {
        const catalog = yield* create("dropped")
        const [b, a] = tables("dropped")
        yield* catalog.dropTable(b, ["dropped/file"])
        expect(yield* Effect.flip(catalog.dropTable(b, ["dropped/other"]))).toMatchObject({ _tag: "TableNotFound", table: "dropped.b" })
        expect(yield* catalog.expiredFiles(0)).toEqual(["dropped/file"])
        yield* catalog.forgetFiles(["dropped/file"])
        expect(yield* catalog.metadataLocation(a)).toBe("0")
        yield* catalog.createTable(b, "again")
        expect(yield* catalog.metadataLocation(b)).toBe("again")
      }))

    it.effect("gives turns one after the other to those in line, which others then get into", () =>
      Effect.gen(function*() {
        const catalog = yield* create("turns")
        const [b, a] = tables("turns")
        const happened: Array<string> = []
        const note = (what: string) => Effect.sync(() => void happened.push(what))
        const holder = yield* Scope.make()
        yield* Scope.extend(catalog.turn([a, b], true), holder)
        const waiting = yield* Effect.forEach([[a], [b], [b, a]], (asked, index) =>
          Effect.fork(Effect.scoped(Effect.zipRight(catalog.turn(asked, index === 1), note("had its turn")))))
        yield* Effect.scoped(catalog.turn([TableIdentifier.make("turns", "other")], false))
        yield* Effect.sleep("300 millis")
        yield* note("the holder is done")
        yield* Scope.close(holder, Exit.void)
        yield* Fiber.joinAll(waiting)
        expect(happened).toEqual(["the holder is done", "had its turn", "had its turn", "had its turn"])
      }))

    it.effect("keeps nobody waiting where nobody is in line", () =>
      Effect.gen(function*() {
        const catalog = yield* create("free")
        const all = Effect.scoped(Effect.forEach([1, 2, 3], () => catalog.turn(tables("free"), false)))
        const [took] = yield* Effect.timed(all)
        expect(Duration.toMillis(took)).toBeLessThan(1000)
      }))

    it.effect("lets those go on whose turn does not come", () =>
      Effect.gen(function*() {
        const catalog = yield* create("frozen")
        yield* catalog.turn(tables("frozen"), true)
        const [took] = yield* Effect.timed(Effect.scoped(catalog.turn(tables("frozen"), true)))
        expect(Duration.toMillis(took)).toBeGreaterThan(1000)
        expect(Duration.toMillis(took)).toBeLessThan(8000)
      }).pipe(Effect.scoped), 20_000)
  })
