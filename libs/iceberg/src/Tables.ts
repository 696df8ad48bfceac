/** Tables by name: loads them and makes them. Metadata that was loaded or written before comes from memory. */
import { Clock, Context, Effect, Layer, Option, Schema, Stream } from "effect"
import type { ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { CatalogError, TableNotFound } from "./Catalog.ts"
import { Catalog, TableAlreadyExists } from "./Catalog.ts"
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

/** The catalog has no such table, but its files are there: the catalog was lost, or it is another lake's. */
export class TableUnregistered extends Schema.TaggedError<TableUnregistered>()("TableUnregistered", { table: Schema.String, found: Schema.String }) {
  override get message() {
    return `the catalog has no table ${this.table}, but metadata of one is there (${this.found}). If the catalog was lost, restore the database, or run ` +
      "`voltlake tables register`; otherwise choose another warehouse."
  }
}

export type LoadError = TableNotFound | CatalogError | TableReadError
export type CreateError = TableUnregistered | LoadError | TableWriteError | ObjectStoreError

export class Tables extends Context.Tag("@voltlake/iceberg/Tables")<Tables, {
  /** The table as the catalog has it now. */
  readonly load: (table: TableIdentifier.TableIdentifier) => Effect.Effect<Table, LoadError>
  /** The table, made where it is not there; one that is there stays as it is, whatever its definition. */
  readonly createIfAbsent: (
    table: TableIdentifier.TableIdentifier,
    definition: TableDefinition
  ) => Effect.Effect<Table, CreateError>
  /** Makes the table as `metadata` says, in a namespace that is there. A lost answer of the catalog is looked up. */
  readonly create: (
    table: TableIdentifier.TableIdentifier,
    metadata: TableMetadata
  ) => Effect.Effect<Table, TableAlreadyExists | CatalogError | TableWriteError>
  /**
   * Runs an attempt to commit to these tables while none of this process's others does: those would only find each other's swap in their way, and one
   * that has more to write would never come through. Other processes are told apart by the swap alone.
   */
  readonly alone: <A, E, R>(tables: ReadonlyArray<TableIdentifier.TableIdentifier>, attempt: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}>() {}

export const newTableUuid: Effect.Effect<string> = RandomId.uuid

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

/** The number by which metadata files of a table follow each other; undefined for what is none. */
export const metadataVersion = (location: string): number | undefined => {
  const version = /(?:^|\/)(\d{1,9})-[^/]*\.metadata\.json$/.exec(location)?.[1]
  return version === undefined ? undefined : Number(version)
}

const make = Effect.gen(function*() {
  const store = yield* ObjectStore
  const catalog = yield* Catalog
  const files = yield* TableFiles

  const load = Effect.fn("Tables.load")(function*(identifier: TableIdentifier.TableIdentifier) {
    const metadataLocation = yield* catalog.metadataLocation(identifier)
    const metadata = yield* files.metadata(metadataLocation)
    return { identifier, metadataLocation, metadata }
  })

  /** After a lost answer: whether our file is the table's. Where there is none the outcome stays unknown. */
  const lookUp = (identifier: TableIdentifier.TableIdentifier, metadataLocation: string, lost: CatalogError) =>
    catalog.metadataLocation(identifier).pipe(
      Effect.mapError(() => lost),
      Effect.filterOrFail((found) => found === metadataLocation, () => new TableAlreadyExists({ table: TableIdentifier.render(identifier) })),
      Effect.asVoid
    )

  const create = Effect.fn("Tables.create")(function*(identifier: TableIdentifier.TableIdentifier, metadata: TableMetadata) {
    const metadataLocation = yield* metadataFileLocation(metadata.location, undefined)
    yield* files.putMetadata(metadataLocation, metadata)
    yield* catalog.createTable(identifier, metadataLocation).pipe(
      Effect.catchTag("CatalogError", (error) =>
        error.outcome === "Unknown" ? lookUp(identifier, metadataLocation, error) : Effect.fail(error)),
      Effect.tapError((error) =>
        error._tag === "CatalogError" && error.outcome === "Unknown" ? Effect.void : files.discard([metadataLocation]))
    )
    return { identifier, metadataLocation, metadata }
  })

  /** A table that was committed to once must not be begun anew beside its own files, only because the catalog knows nothing of it. */
  const checkUnused = Effect.fnUntraced(function*(identifier: TableIdentifier.TableIdentifier) {
    const found = yield* store.list(`${TableIdentifier.prefix(identifier)}/metadata/`).pipe(
      Stream.filter(({ key }) => (metadataVersion(key) ?? 0) > 0),
      Stream.runHead
    )
    if (Option.isSome(found)) {
      return yield* new TableUnregistered({ table: TableIdentifier.render(identifier), found: store.location(found.value.key) })
    }
  })

  const define = Effect.fnUntraced(function*(identifier: TableIdentifier.TableIdentifier, definition: TableDefinition) {
    const location = store.location(TableIdentifier.prefix(identifier))
    const tableUuid = yield* newTableUuid
    const nowMs = yield* Clock.currentTimeMillis
    yield* catalog.createNamespace(identifier.namespace)
    return yield* create(identifier, Metadata.make(definition, { tableUuid, location, nowMs })).pipe(
      // Somebody else made it first: theirs counts.
      Effect.catchTag("TableAlreadyExists", () => load(identifier))
    )
  })

  const createIfAbsent = Effect.fn("Tables.createIfAbsent")(function*(
    identifier: TableIdentifier.TableIdentifier,
    definition: TableDefinition
  ) {
    return yield* Effect.catchTag(load(identifier), "TableNotFound", () =>
      checkUnused(identifier).pipe(
        Effect.zipRight(define(identifier, definition)),
        // Somebody may have made it since, and committed.
        Effect.catchTag("TableUnregistered", (unregistered) => Effect.catchTag(load(identifier), "TableNotFound", () => unregistered))
      ))
  })

  const turns = new Map<string, Effect.Semaphore>()
  const turnOf = (name: string): Effect.Semaphore => {
    const turn = turns.get(name) ?? Effect.unsafeMakeSemaphore(1)
    turns.set(name, turn)
    return turn
  }
  const alone = <A, E, R>(tables: ReadonlyArray<TableIdentifier.TableIdentifier>, attempt: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    // In the order of names, so that two commits of several tables never wait for each other.
    Array.from(new Set(tables.map(TableIdentifier.render))).sort().reduceRight((inner, name) => turnOf(name).withPermits(1)(inner), attempt)

  return Tables.of({ load, createIfAbsent, create, alone })
})

/** With the tables' files, which scans and commits need too. */
export const layer: Layer.Layer<Tables | TableFiles, never, Catalog | ObjectStore> = Layer.effect(Tables, make).pipe(
  Layer.provideMerge(TableFilesModule.layer)
)
