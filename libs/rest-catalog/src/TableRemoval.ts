/** Tables that other engines drop or rename. Files are never deleted here: what is to go joins the list from which the cleaner takes them later. */
import { Effect } from "effect"
import * as Retention from "@voltlake/iceberg/Retention"
import { Catalog } from "@voltlake/iceberg/Catalog"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Names from "./Names.ts"
import * as OwnTables from "./OwnTables.ts"
import * as Places from "./Places.ts"

/** Everything that the table names. */
const filesOf = Effect.fnUntraced(function*(table: TableIdentifier) {
  const { metadata, metadataLocation } = yield* (yield* Tables).load(table)
  const empty = { ...metadata, snapshots: [], refs: {}, currentSnapshotId: undefined, statistics: [], partitionStatistics: [] }
  const named = yield* Retention.namedByDroppedOnly(metadata, empty, undefined)
  return [...named, ...metadata.metadataLog.map((entry) => entry.metadataFile), metadataLocation]
})

/** With `purge` its files go too, after the cleaner's grace period. */
export const drop = Effect.fn("TableRemoval.drop")(function*(table: TableIdentifier, purge: boolean) {
  yield* OwnTables.checkUntouched(table, OwnTables.notDropped)
  const unreferenced = purge ? yield* filesOf(table) : []
  yield* (yield* Places.sparing).dropTable(table, unreferenced)
})

export const rename = Effect.fn("TableRemoval.rename")(function*(from: TableIdentifier, to: TableIdentifier) {
  const catalog = yield* Catalog
  yield* OwnTables.checkUntouched(from, OwnTables.notDropped)
  yield* OwnTables.checkUntouched(to, OwnTables.notReplaced)
  yield* Names.checkNew("table", to.name)
  yield* catalog.metadataLocation(from)
  yield* catalog.namespaceProperties(to.namespace)
  yield* catalog.renameTable(from, to)
})
