/** What each action does to tables, whatever the parts below. Run over memory and over PostgreSQL with local files. */
import { expect, layer } from "@effect/vitest"
import { Effect, Either, Layer } from "effect"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Action from "./Action.ts"
import { Catalog } from "./Catalog.ts"
import type { DataFile } from "./DataFile.ts"
import type { SchemaUpdateError } from "./SchemaUpdate.ts"
import { positionTag } from "./Snapshot.ts"
import type { SpecUpdateError } from "./SpecUpdate.ts"
import * as TableIdentifier from "./TableIdentifier.ts"
import * as Metadata from "./TableMetadata.ts"
import * as Fixture from "./test/TableFixture.ts"
import * as State from "./test/TableState.ts"
import * as Tables from "./Tables.ts"
import * as Transaction from "./Transaction.ts"
import * as Transform from "./Transform.ts"
import * as Type from "./Type.ts"

const file = Fixture.fakeFile
const files = (names: string) => names.split(" ").map((name) => file(name))

let commits = 0
const commit = <E>(table: TableIdentifier.TableIdentifier, ...actions: ReadonlyArray<Action.Action<E>>) =>
  Transaction.commit({ commitId: `${TableIdentifier.render(table)}-${++commits}`, changes: [{ table, actions }] })

/** A table with the files a and b, c, and d: at the sequence numbers 1, 2 and 3. */
const filled = (namespace: string, properties: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function*() {
    const tables = yield* Tables.Tables
    const table = TableIdentifier.make(namespace, "t")
    yield* tables.createIfAbsent(table, { ...Fixture.definition, properties })
    const position = (at: number) => ({ "voltlake.position": `{"p":${at}}` })
    for (const [index, names] of ["a b", "c", "d"].entries()) {
      const changes = [Fixture.adding(table, files(names), position(index + 1))]
      yield* Transaction.commit({ commitId: `${namespace}-${index}`, changes })
    }
    return table
  })

const current = (table: TableIdentifier.TableIdentifier) =>
  Effect.map(State.load(table), ({ metadata }) => Metadata.currentSnapshot(metadata)!)

const sequenced = (file: DataFile, sequenceNumber: bigint) => ({ file, sequenceNumber })

const tags = (refusal: Either.Either<unknown, { readonly _tag: string }>) => (Either.isLeft(refusal) ? refusal.left._tag : "done")

export const contract = <E>(name: string, parts: Layer.Layer<Catalog | ObjectStore, E>) =>
  layer(Tables.layer.pipe(Layer.provideMerge(parts)), { excludeTestServices: true })(`actions over ${name}`, (it) => {
    it.effect("takes files out and puts others in, and rewrites only the manifest that held them", () =>
      Effect.gen(function*() {
        const table = yield* filled("overwrite")
        const before = (yield* State.manifestsOf(table)).map(({ manifest }) => manifest.manifestPath)
        const { tables } = yield* commit(table, Action.overwrite({ removed: [file("a")], added: [file("a2", 3n)] }))
        expect(yield* State.live(table)).toEqual(["a2@4", "b@1", "c@2", "d@3"])
        const after = yield* State.manifestsOf(table)
        expect(after.filter(({ manifest }) => before.includes(manifest.manifestPath))).toHaveLength(2)
        const statuses = after.flatMap(({ entries }) => entries).filter((entry) => entry.snapshotId === tables[0]!.snapshot!.snapshotId)
        expect(statuses.map((entry) => `${entry.status} ${entry.sequenceNumber}`).sort()).toEqual(["added 4", "deleted 1"])
        expect(tables[0]!.snapshot!.summary).toMatchObject({
          operation: "overwrite",
          "added-data-files": "1",
          "deleted-data-files": "1",
          "deleted-records": "1",
          "total-data-files": "4",
          "total-records": "6",
          "voltlake.position": "{\"p\":3}"
        })
        // The next snapshot does not list what is gone, nor a manifest that holds nothing else.
        yield* commit(table, Action.deleteFiles(files("c d")))
        yield* commit(table, Action.append([]))
        expect(yield* State.live(table)).toEqual(["a2@4", "b@1"])
        expect((yield* State.manifestsOf(table)).map(({ entries }) => entries.length).sort()).toEqual([1, 2])
      }))

    it.effect("refuses to take out what is not there, and names it", () =>
      Effect.gen(function*() {
        const table = yield* filled("gone")
        yield* commit(table, Action.deleteFiles(files("a")))
        const error = yield* Effect.flip(commit(table, Action.deleteFiles(files("a b"))))
        expect(error).toMatchObject({ _tag: "RewriteStale", cause: "no longer live", files: [file("a").filePath] })
        expect(yield* State.live(table)).toEqual(["b@1", "c@2", "d@3"])
      }))

    it.effect("rewrites rows, which stay as old as they were", () =>
      Effect.gen(function*() {
        const table = yield* filled("rewrite")
        const replaced = [sequenced(file("a"), 1n), sequenced(file("c"), 2n)]
        const { tables } = yield* commit(table, Action.rewrite({ replaced, added: [file("ac", 2n)], readAt: 3n }))
        expect(yield* State.live(table)).toEqual(["ac@2", "b@1", "d@3"])
        expect(tables[0]!.snapshot!.summary).toMatchObject({ operation: "replace", "total-records": "4", "voltlake.position": "{\"p\":3}" })
        const youngest = (yield* State.manifestsOf(table)).map(({ manifest }) => manifest.minSequenceNumber)
        expect(youngest.sort()).toEqual([1n, 2n, 3n])
      }))

    it.effect("lets one of two rewrites of a file win, and appends beside them", () =>
      Effect.gen(function*() {
        const table = yield* filled("race")
        const rewriting = (name: string) =>
          commit(table, Action.rewrite({ replaced: [sequenced(file("a"), 1n)], added: [file(name)], readAt: 3n }))
        const appends = Effect.forEach(["x", "y", "z"], (name) => commit(table, Action.append([file(name)])))
        const [one, two] = yield* Effect.all([Effect.either(rewriting("a1")), Effect.either(rewriting("a2")), appends], {
          concurrency: "unbounded"
        })
        expect([tags(one), tags(two)].sort()).toEqual(["RewriteStale", "done"])
        const names = (yield* State.live(table)).map((text) => text.replace(/@.*/, ""))
        expect(names).toEqual([Either.isRight(one) ? "a1" : "a2", "b", "c", "d", "x", "y", "z"])
      }))

    it.effect("refuses a rewrite of files from which rows were deleted since", () =>
      Effect.gen(function*() {
        const table = yield* filled("deletes")
        const deletes = { ...file("del"), content: "equality-deletes" as const, equalityIds: [3] }
        yield* State.addDeletes(table, [deletes], "deletes-del")
        const rewriting = (readAt: bigint) =>
          commit(table, Action.rewrite({ replaced: [sequenced(file("a"), 1n)], added: [file("a2")], readAt }))
        expect(yield* Effect.flip(rewriting(3n))).toMatchObject({
          _tag: "RewriteStale",
          cause: "has newer deletes",
          files: [file("a").filePath]
        })
        yield* rewriting(4n)
        expect(yield* State.live(table)).toEqual(["a2@1", "b@1", "c@2", "d@3"])
      }))

    it.effect("writes few manifests in the order of partitions, of the same files", () =>
      Effect.gen(function*() {
        const table = yield* filled("manifests")
        const earlier = { ...file("early"), partition: [Fixture.day - 1] }
        yield* commit(table, Action.append([earlier]))
        yield* commit(table, Action.deleteFiles(files("b")))
        const before = yield* State.live(table)
        yield* commit(table, Action.rewriteManifests)
        expect(yield* State.live(table)).toEqual(before)
        const after = yield* State.manifestsOf(table)
        expect(after).toHaveLength(1)
        expect(after[0]!.manifest).toMatchObject({ existingFilesCount: 4, addedFilesCount: 0, deletedFilesCount: 0, minSequenceNumber: 1n })
        expect(after[0]!.entries[0]!.dataFile.filePath).toBe(earlier.filePath)
      }))

    it.effect("changes properties, columns, partitions and order", () =>
      Effect.gen(function*() {
        const table = yield* filled("evolve", { old: "1" })
        const before = yield* State.load(table)
        const { tables, wasCommitted } = yield* commit<SchemaUpdateError | SpecUpdateError>(
          table,
          Action.setProperties({ new: "2" }),
          Action.removeProperties(["old"]),
          Action.evolveSchema([{ change: "add", column: "gear", type: Type.string }]),
          Action.evolveSpec([{ change: "add", column: "gear", transform: Transform.bucket(4) }]),
          Action.setSortOrder([{ column: "gear", direction: "desc" }])
        )
        const { metadata } = yield* State.load(table)
        expect(metadata).toEqual(tables[0]!.metadata)
        expect([wasCommitted, tables[0]!.snapshot]).toEqual([false, undefined])
        expect(metadata.properties).toEqual({ new: "2" })
        expect(Metadata.currentSchema(metadata).fields.at(-1)).toMatchObject({ id: 15, name: "gear" })
        expect(Metadata.defaultSpec(metadata).fields.map((field) => field.name)).toEqual(["timestamp_day", "gear_bucket_4"])
        expect(Metadata.defaultSortOrder(metadata).fields[0]).toMatchObject({ sourceId: 15, direction: "desc" })
        expect(metadata.snapshots).toEqual(before.metadata.snapshots)
        expect(metadata.metadataLog.at(-1)!.metadataFile).toBe(before.metadataLocation)
        // The position of the last commit with rows stays the head.
        const head = (yield* (yield* Catalog).heads).find((one) => one.table.namespace === "evolve")
        expect(head).toMatchObject({ snapshotId: metadata.currentSnapshotId, commitId: "evolve-2" })
      }))

    it.effect("adds rows under the columns that the same commit brings", () =>
      Effect.gen(function*() {
        const table = yield* filled("together")
        const gear = Action.evolveSchema([{ change: "add", column: "gear", type: Type.string }])
        const { tables } = yield* commit<SchemaUpdateError>(table, gear, Action.append([file("e")]))
        expect(tables[0]!.snapshot!.schemaId).toBe(1)
        const refused = Action.evolveSchema([{ change: "drop", column: "nope" }])
        expect(yield* Effect.flip(commit(table, refused))).toMatchObject({ _tag: "ColumnNotFound", column: "nope" })
      }))

    it.effect("does different things to several tables at once, or nothing", () =>
      Effect.gen(function*() {
        const [one, two] = [yield* filled("both-1"), yield* filled("both-2")]
        const both = (removed: string) =>
          Transaction.commit<Action.RewriteStale>({
            commitId: `both-${removed}`,
            changes: [
              { table: one, actions: [Action.deleteFiles(files(removed))] },
              { table: two, actions: [Action.setProperties({ removed })] }
            ]
          })
        const { tables } = yield* both("a")
        expect(tables.map(({ snapshot }) => snapshot?.summary["operation"])).toEqual(["delete", undefined])
        expect((yield* both("a")).wasCommitted).toBe(true)
        expect(tags(yield* Effect.either(both("nope")))).toBe("RewriteStale")
        expect((yield* State.load(two)).metadata.properties).toEqual({ removed: "a" })
      }))

    it.effect("makes, moves and removes references, but not those that commits move", () =>
      Effect.gen(function*() {
        const table = yield* filled("refs")
        const { metadata } = yield* State.load(table)
        const [first, , third] = metadata.snapshots.map((snapshot) => snapshot.snapshotId)
        yield* commit(table, Action.setReference({ name: "audit", type: "tag", retention: { "max-ref-age-ms": 5 } }))
        yield* commit(table, Action.setReference({ name: "audit", type: "tag", snapshotId: first! }))
        yield* commit(table, Action.setReference({ name: "work", type: "branch" }))
        const { refs } = (yield* State.load(table)).metadata
        expect(refs["audit"]).toEqual({ snapshotId: first, type: "tag", extra: { "max-ref-age-ms": 5 } })
        expect(refs["work"]).toEqual({ snapshotId: third, type: "branch", extra: {} })
        for (const name of ["main", positionTag]) {
          expect(tags(yield* Effect.either(commit(table, Action.removeReference(name))))).toBe("UpdateRefused")
          expect(tags(yield* Effect.either(commit(table, Action.setReference({ name, type: "tag" }))))).toBe("UpdateRefused")
        }
        yield* commit(table, Action.removeReference("audit"))
        expect(Object.keys((yield* State.load(table)).metadata.refs).sort()).toEqual(["main", positionTag, "work"])
        expect(tags(yield* Effect.either(commit(table, Action.removeReference("audit"))))).toBe("UpdateRefused")
      }))

    it.effect("rolls back to an ancestor with its position, and goes on from there", () =>
      Effect.gen(function*() {
        const table = yield* filled("rollback")
        const [first, second, third] = (yield* State.load(table)).metadata.snapshots
        yield* commit(table, Action.rollbackTo(second!.snapshotId))
        const { metadata } = yield* State.load(table)
        expect(metadata.currentSnapshotId).toBe(second!.snapshotId)
        expect(metadata.refs[positionTag]!.snapshotId).toBe(second!.snapshotId)
        expect(metadata.snapshots).toHaveLength(3)
        yield* commit(table, Action.append([file("e")]))
        expect(yield* State.live(table)).toEqual(["a@1", "b@1", "c@2", "e@4"])
        expect((yield* current(table)).summary["voltlake.position"]).toBe("{\"p\":2}")
        expect(tags(yield* Effect.either(commit(table, Action.rollbackTo(third!.snapshotId))))).toBe("UpdateRefused")
        expect(tags(yield* Effect.either(commit(table, Action.rollbackTo(7n))))).toBe("UpdateRefused")
        expect(first!.parentSnapshotId).toBeUndefined()
      }))

    it.effect("gives up a file when the last snapshot that names it is dropped, and no sooner", () =>
      Effect.gen(function*() {
        const table = yield* filled("expiry")
        const catalog = yield* Catalog
        const nameOf = (location: string) => /\/expiry-(.)\.parquet$/.exec(location)?.[1]
        const lost = Effect.map(catalog.expiredFiles(0), (all) => all.map(nameOf).filter((name) => name !== undefined).sort())
        const { location } = (yield* State.load(table)).metadata
        const own = (name: string): DataFile => ({ ...file(name), filePath: `${location}/data/expiry-${name}.parquet` })
        // What lies elsewhere is another's, and is never given up.
        yield* commit(table, Action.append([file("expiry-x")]))
        yield* commit(table, Action.deleteFiles([file("expiry-x")]))
        yield* commit(table, Action.append([own("p"), own("q"), own("r")]))
        const { snapshots } = (yield* State.load(table)).metadata
        const tagged = snapshots.at(-1)!.snapshotId
        yield* commit(table, Action.setReference({ name: "audit", type: "tag", snapshotId: tagged }))
        yield* commit(table, Action.deleteFiles([own("p")]))
        yield* commit(table, Action.rewrite({ replaced: [sequenced(own("q"), 6n)], added: [own("s")], readAt: 7n }))
        yield* commit(table, Action.append([own("t")]))
        yield* commit(table, Action.deleteFiles([own("t")]))
        yield* commit(table, Action.append([]))
        const all = (yield* State.load(table)).metadata
        const old = all.snapshots.map((one) => one.snapshotId).filter((id) => id !== all.currentSnapshotId && id !== tagged)
        yield* commit(table, Action.expire(old))
        // The tag still names p and q.
        expect(yield* lost).toEqual(["t"])
        expect(tags(yield* Effect.either(commit(table, Action.expire([tagged]))))).toBe("UpdateRefused")
        yield* commit(table, Action.removeReference("audit"))
        yield* commit(table, Action.expire([tagged]))
        expect(yield* lost).toEqual(["p", "q", "t"])
        const { metadata } = yield* State.load(table)
        expect(metadata.snapshots.map((one) => one.snapshotId)).toEqual([metadata.currentSnapshotId])
        expect(tags(yield* Effect.either(commit(table, Action.expire([metadata.currentSnapshotId!]))))).toBe("UpdateRefused")
        // Files of an abandoned line go with it.
        yield* commit(table, Action.append([own("u")]))
        yield* commit(table, Action.rollbackTo(metadata.currentSnapshotId!))
        yield* commit(table, Action.expire(((yield* State.load(table)).metadata.snapshots).map((one) => one.snapshotId).slice(1)))
        expect(yield* lost).toEqual(["p", "q", "t", "u"])
        expect(yield* State.live(table)).toEqual(["a@1", "b@1", "c@2", "d@3", "expiry-r@6", "expiry-s@6"])
      }))

    it.effect("lets eight writers change properties at once", () =>
      Effect.gen(function*() {
        const table = yield* filled("properties")
        const names = Array.from({ length: 8 }, (_, index) => `p${index}`)
        yield* Effect.forEach(names, (name) => commit(table, Action.setProperties({ [name]: "1" })), { concurrency: "unbounded" })
        expect(Object.keys((yield* State.load(table)).metadata.properties).sort()).toEqual(names)
      }))
  })
