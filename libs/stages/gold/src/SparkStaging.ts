/**
 * The tables through which Spark works for a run: a frozen copy of silver's pointer, which it reads, and an empty table of the model's columns, which it
 * writes. Both lie in a namespace of their own, where the REST catalog lets whoever may write do so, while the model's own table stays closed to others.
 *
 * The written table lies within the folder of the model's, so that its data files can become that one's as they are. What a killed run left is dropped by
 * the next run of the model, with which a job of it that still runs ends; data files that are nobody's fall to the removal of orphans.
 */
import { Clock, Effect, Option } from "effect"
import { goldNamespace } from "@voltlake/domain/GoldModel"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import * as Metadata from "@voltlake/iceberg/TableMetadata"
import { newTableUuid, Tables } from "@voltlake/iceberg/Tables"
import type { Run } from "./BatchWork.ts"

const stagingNamespace = `${goldNamespace}_staging`

export interface Staging {
  readonly silver: TableIdentifier.TableIdentifier
  readonly rows: TableIdentifier.TableIdentifier
  readonly uuid: string
}

const isOf = (model: string) => {
  const form = new RegExp(`^${model}_[0-9a-f]{32}(_silver)?$`)
  return ({ name, namespace }: TableIdentifier.TableIdentifier) => namespace === stagingNamespace && form.test(name)
}

/** Metadata, lists and manifests of the table. Its data files may be another table's by now. */
const ownFiles = Effect.fnUntraced(function*({ metadata, metadataLocation }: { readonly metadata: Metadata.TableMetadata; readonly metadataLocation: string }) {
  const files = yield* TableFiles
  const lists = metadata.snapshots.map(({ manifestList }) => manifestList)
  const manifests = (yield* Effect.forEach(lists, files.manifestList)).flat().map(({ manifestPath }) => manifestPath)
  return [metadataLocation, ...metadata.metadataLog.map(({ metadataFile }) => metadataFile), ...lists, ...new Set(manifests)]
    .filter((location) => location.startsWith(`${metadata.location}/`))
})

/** Drops such a table, if it is there. The frozen pointer's files are silver's. */
const drop = Effect.fnUntraced(function*(table: TableIdentifier.TableIdentifier) {
  const loaded = table.name.endsWith("_silver") ? Option.none() : yield* Effect.option(Effect.flatMap(Tables, (tables) => tables.load(table)))
  const none: ReadonlyArray<string> = []
  const own = Option.isNone(loaded) ? none : yield* ownFiles(loaded.value).pipe(Effect.orElseSucceed(() => none))
  yield* Effect.flatMap(Catalog, (catalog) => catalog.dropTable(table, own)).pipe(Effect.catchTag("TableNotFound", () => Effect.void))
})

/** The run's tables, until the scope closes. Those that earlier runs of the model left are dropped first. */
export const make = Effect.fn("SparkStaging.make")(function*({ checked: { model }, commitId, silver, table: { metadata } }: Run) {
  const catalog = yield* Catalog
  const tables = yield* Tables
  yield* catalog.createNamespace(stagingNamespace)
  for (const left of (yield* catalog.list).filter(isOf(model.name))) yield* drop(left)
  const name = `${model.name}_${commitId.replaceAll("-", "")}`
  const [frozen, rows] = [TableIdentifier.make(stagingNamespace, `${name}_silver`), TableIdentifier.make(stagingNamespace, name)]
  yield* Effect.addFinalizer(() => Effect.forEach([rows, frozen], (table) => Effect.ignoreLogged(drop(table)), { discard: true }))
  yield* catalog.createTable(frozen, silver.metadataLocation)
  const schema = Metadata.currentSchema(metadata)
  const uuid = yield* newTableUuid
  const definition: Metadata.TableDefinition = {
    // A key without a value is to be found by the check, which says so, and not by the writer.
    schema: { ...schema, fields: schema.fields.map((field) => ({ ...field, required: false })) },
    specs: metadata.partitionSpecs.filter(({ specId }) => specId === metadata.defaultSpecId),
    sortOrder: metadata.sortOrders.find(({ orderId }) => orderId === metadata.defaultSortOrderId)!,
    properties: {
      "write.format.default": "parquet",
      "write.parquet.compression-codec": "zstd",
      // A day's rows to one task, which writes one file of them as long as it is not too large; by ranges they would be computed twice.
      "write.distribution-mode": "hash"
    }
  }
  const location = `${metadata.location}/staged/${commitId}`
  yield* tables.create(rows, Metadata.make(definition, { tableUuid: uuid, location, nowMs: yield* Clock.currentTimeMillis }))
  return { silver: frozen, rows, uuid } satisfies Staging
})
