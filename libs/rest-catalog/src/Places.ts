/** Where tables may lie, and which files they may give up: nothing of other engines reaches into the folders of the lake's own tables. */
import { Effect } from "effect"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { LocationForeign } from "@voltlake/iceberg/TableFiles"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import { isOwn, notReplaced, OwnTableRefused, ownTables } from "./OwnTables.ts"

const isWithin = (key: string, folder: string) => key === folder || key.startsWith(`${folder}/`)

/** The key of a place for tables or their files: in the store, and apart from every table of ours. */
export const check = Effect.fnUntraced(function*(location: string) {
  const store = yield* ObjectStore
  const key = store.keyOf(location.replace(/\/+$/, ""))
  if (key === undefined) return yield* new LocationForeign({ location })
  const owner = ownTables.find((own) => {
    const folder = TableIdentifier.prefix(own)
    return isWithin(key, folder) || key === "" || isWithin(folder, key)
  })
  if (owner !== undefined) return yield* new OwnTableRefused({ table: TableIdentifier.render(owner), reason: notReplaced })
  return key
})

/** Where a table lies whose client does not say. */
export const defaultLocation = (table: TableIdentifier.TableIdentifier): Effect.Effect<string, never, ObjectStore> =>
  Effect.map(ObjectStore, (store) => store.location(TableIdentifier.prefix(table)))

/**
 * The catalog, by which a table of somebody else gives up no file of ours: it may name such files all the same, having added them as its own, and
 * would let the cleaner delete them with its snapshots.
 */
export const sparing: Effect.Effect<typeof Catalog.Service, never, Catalog | ObjectStore> = Effect.gen(function*() {
  const catalog = yield* Catalog
  const store = yield* ObjectStore
  const folders = ownTables.map(TableIdentifier.prefix)
  const isOurs = (location: string) => {
    const key = store.keyOf(location)
    return key !== undefined && folders.some((folder) => isWithin(key, folder))
  }
  const spared = (locations: ReadonlyArray<string>) => locations.filter((location) => !isOurs(location))
  return Catalog.of({
    ...catalog,
    swap: (swap) => catalog.swap(swap.tables.some(({ table }) => isOwn(table)) ? swap : { ...swap, unreferenced: spared(swap.unreferenced) }),
    dropTable: (table, unreferenced) => catalog.dropTable(table, spared(unreferenced))
  })
})
