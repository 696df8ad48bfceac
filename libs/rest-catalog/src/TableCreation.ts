/** Tables that other engines make: at once, in two steps (staged and then committed), or from a metadata file that is there. */
import { Clock, Effect } from "effect"
import { Catalog, TableAlreadyExists } from "@voltlake/iceberg/Catalog"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { make as identifierOf, render } from "@voltlake/iceberg/TableIdentifier"
import { RequirementFailed } from "@voltlake/iceberg/TableRequirement"
import { newTableUuid, Tables } from "@voltlake/iceberg/Tables"
import * as TableUpdate from "@voltlake/iceberg/TableUpdate"
import { badRequest } from "./Fault.ts"
import * as Names from "./Names.ts"
import * as NewTable from "./NewTable.ts"
import * as OwnTables from "./OwnTables.ts"
import * as Places from "./Places.ts"
import { type Committed, isApplied, type TableCommit } from "./TableCommit.ts"

const isThere = (table: TableIdentifier) =>
  Effect.flatMap(Catalog, (catalog) => catalog.metadataLocation(table)).pipe(
    Effect.as(true),
    Effect.catchTag("TableNotFound", () => Effect.succeed(false))
  )

/** The name is right and free, and its namespace there. */
const checkName = Effect.fnUntraced(function*(namespace: string, name: string) {
  const table = identifierOf(namespace, yield* Names.checkNew("table", name))
  yield* (yield* Catalog).namespaceProperties(namespace)
  if (yield* isThere(table)) return yield* new TableAlreadyExists({ table: render(table) })
  yield* OwnTables.checkUntouched(table, OwnTables.notReplaced)
  return table
})

const metadataOf = Effect.fnUntraced(function*(table: TableIdentifier, location: string | undefined, updates: ReadonlyArray<TableUpdate.TableUpdate>) {
  const at = { tableUuid: yield* newTableUuid, location: location ?? (yield* Places.defaultLocation(table)), nowMs: yield* Clock.currentTimeMillis }
  const metadata = yield* TableUpdate.create(updates, at)
  yield* Places.check(metadata.location)
  return metadata
})

/** Without a metadata location where the table is only staged. */
export const create = Effect.fn("TableCreation.create")(function*(namespace: string, asked: NewTable.NewTable) {
  const table = yield* checkName(namespace, asked.name)
  const metadata = yield* metadataOf(table, asked.location?.replace(/\/+$/, ""), NewTable.updatesOf(asked))
  if (asked.isStaged) return { metadata, metadataLocation: undefined }
  return yield* (yield* Tables).create(table, metadata)
})

/** The commit that makes a staged table. Sent again, it is answered again. */
export const commit = Effect.fn("TableCreation.commit")(function*({ table, updates }: TableCommit) {
  const tables = yield* Tables
  const make = Effect.flatMap(checkName(table.namespace, table.name), (checked) =>
    Effect.flatMap(metadataOf(checked, undefined, updates), (metadata) => tables.create(checked, metadata)))
  return yield* Effect.catchTag(make, "TableAlreadyExists", () =>
    Effect.gen(function*() {
      const there: Committed = yield* tables.load(table)
      const uuid = updates.find((update) => update.action === "assign-uuid")?.uuid
      if (uuid === there.metadata.tableUuid && (OwnTables.addedSnapshots(updates).length === 0 || isApplied(there.metadata, updates))) return there
      return yield* new RequirementFailed({ table: render(table), requirement: "assert-create", expected: "no table", found: "a table" })
    }))
})

/** Makes a table of a metadata file, which stays where it is. */
export const register = Effect.fn("TableCreation.register")(function*(namespace: string, name: string, metadataLocation: string) {
  const table = yield* checkName(namespace, name)
  yield* Places.check(metadataLocation)
  const metadata = yield* (yield* TableFiles).metadata(metadataLocation).pipe(
    Effect.catchTags({
      ObjectNotFound: ({ message }) => Effect.fail(badRequest(message)),
      TableFileInvalid: ({ message }) => Effect.fail(badRequest(message))
    })
  )
  yield* Places.check(metadata.location)
  yield* (yield* Catalog).createTable(table, metadataLocation)
  return { metadata, metadataLocation }
})
