/** Tables by name: loads them and makes them. Metadata that was loaded or written before comes from memory. */
import { Clock, Context, Effect, Layer } from "effect"
import type { ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { CatalogError, TableNotFound } from "./Catalog.ts"
import { Catalog } from "./Catalog.ts"
import * as RandomId from "./internal/RandomId.ts"
import type { TableReadError, TableWriteError } from "./TableFiles.ts"
import * as TableFilesModule from "./TableFiles.ts"
import { TableFiles } from "./TableFiles.ts"
import * as TableIdentifier from "./TableIdentifier.ts"
import type { TableDefinition, TableMetadata } from "./TableMetadata.ts"
import * as Metadata from "./TableMetadata.ts"

export interface Table {
  readonly identifier: TableIdentifier.TableIdentifier
  readonly metadataLocation: string
  readonly metadata: TableMetadata
}

export type LoadError = TableNotFound | CatalogError | TableReadError
export type CreateError = LoadError | TableWriteError | ObjectStoreError

export class Tables extends Context.Tag("@voltlake/iceberg/Tables")<Tables, {
  /** The table as the catalog has it now. */
  readonly load: (table: TableIdentifier.TableIdentifier) => Effect.Effect<Table, LoadError>
  /** The table, made where it is not there; one that is there stays as it is, whatever its definition. */
  readonly createIfAbsent: (
    table: TableIdentifier.TableIdentifier,
    definition: TableDefinition
  ) => Effect.Effect<Table, CreateError>
}>() {}

/** `<table>/metadata/00001-<uuid>.metadata.json`; the number is one more than in `previous`, where other engines look for it. */
export const metadataFileLocation = (
  tableLocation: string,
  previous: string | undefined
): Effect.Effect<string> =>
  Effect.map(RandomId.uuid, (id) => {
    const version = previous === undefined ? undefined : /(?:^|\/)(\d{1,9})-[^/]*$/.exec(previous)?.[1]
    const next = version === undefined ? 0 : Number(version) + 1
    return `${tableLocation}/metadata/${String(next).padStart(5, "0")}-${id}.metadata.json`
  })

const make = Effect.gen(function*() {
  const store = yield* ObjectStore
  const catalog = yield* Catalog
  const files = yield* TableFiles

  const load = Effect.fn("Tables.load")(function*(identifier: TableIdentifier.TableIdentifier) {
    const metadataLocation = yield* catalog.metadataLocation(identifier)
    const metadata = yield* files.metadata(metadataLocation)
    return { identifier, metadataLocation, metadata }
  })

  const create = Effect.fnUntraced(function*(
    identifier: TableIdentifier.TableIdentifier,
    definition: TableDefinition
  ) {
    const location = store.location(TableIdentifier.prefix(identifier))
    const tableUuid = yield* RandomId.uuid
    const nowMs = yield* Clock.currentTimeMillis
    const metadata = Metadata.make(definition, { tableUuid, location, nowMs })
    const metadataLocation = yield* metadataFileLocation(location, undefined)
    yield* files.putMetadata(metadataLocation, metadata)
    yield* catalog.createNamespace(identifier.namespace)
    yield* catalog.createTable(identifier, metadataLocation).pipe(
      // Somebody else made it first: theirs counts, our file goes.
      Effect.catchTag("TableAlreadyExists", () => files.discard([metadataLocation]))
    )
    return yield* load(identifier)
  })

  const createIfAbsent = Effect.fn("Tables.createIfAbsent")(function*(
    identifier: TableIdentifier.TableIdentifier,
    definition: TableDefinition
  ) {
    return yield* Effect.catchTag(load(identifier), "TableNotFound", () => create(identifier, definition))
  })

  return Tables.of({ load, createIfAbsent })
})

/** With the tables' files, which scans and commits need too. */
export const layer: Layer.Layer<Tables | TableFiles, never, Catalog | ObjectStore> = Layer.effect(Tables, make).pipe(
  Layer.provideMerge(TableFilesModule.layer)
)
