/**
 * Rebuilds a lost catalog: names the newest metadata file of each of the lake's tables that the catalog does not know.
 *
 * What is lost with a catalog is only which file was the current one. The newest is; but of two with the same number one may be that of a commit that
 * never became visible. Either is a whole state of the table with the position that belongs to it, so reading goes on rightly from each; of the two
 * silver tables such are taken that agree.
 */
import { Chunk, Effect, Schema, Stream } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { metadataVersion, Tables } from "@voltlake/iceberg/Tables"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"

/** The silver tables have no two metadata files of one position among their newest. */
export class SilverDisagrees extends Schema.TaggedError<SilverDisagrees>()("SilverDisagrees", { clean: Schema.String, rejected: Schema.String }) {
  override get message() {
    return `the newest metadata files of the two silver tables are at different positions (${this.clean}, ${this.rejected}). Nothing was registered: ` +
      "restore the database from a backup instead."
  }
}

export interface Registered {
  readonly table: string
  readonly metadataLocation: string
}

/** As many as may be of one commit and of those before it that an attempt left. */
const candidatesMax = 20

/** The table's newest metadata files, newest first. */
const newest = Effect.fnUntraced(function*(contract: TableContract) {
  const store = yield* ObjectStore
  const files = yield* TableFiles
  const keys = yield* store.list(`${TableIdentifier.prefix(LakeTables.identifier(contract))}/metadata/`).pipe(
    Stream.filter(({ key }) => metadataVersion(key) !== undefined),
    Stream.runCollect
  )
  const byVersion = Chunk.toReadonlyArray(keys).toSorted((a, b) => metadataVersion(b.key)! - metadataVersion(a.key)! || b.modifiedAtMs - a.modifiedAtMs)
  return yield* Effect.forEach(byVersion.slice(0, candidatesMax), ({ key }) =>
    Effect.gen(function*() {
      const metadataLocation = store.location(key)
      const metadata = yield* files.metadata(metadataLocation)
      const progress = Progress.encode(yield* LakeTables.progressOf(contract, metadata))
      return { contract, metadataLocation, progress }
    }))
})

type Candidate = Effect.Effect.Success<ReturnType<typeof newest>>[number]

/** The newest of both that agree. */
const agreeing = (clean: ReadonlyArray<Candidate>, rejected: ReadonlyArray<Candidate>): ReadonlyArray<Candidate> | undefined => {
  for (const one of clean) {
    const other = rejected.find(({ progress }) => progress === one.progress)
    if (other !== undefined) return [one, other]
  }
  return undefined
}

const isUnknown = (contract: TableContract) =>
  Effect.flatMap(Tables, (tables) => tables.load(LakeTables.identifier(contract))).pipe(
    Effect.as(false),
    Effect.catchTag("TableNotFound", () => Effect.succeed(true))
  )

/** Registers what the catalog does not know, and answers what that was. */
export const register = Effect.fn("Register.register")(function*() {
  const catalog = yield* Catalog
  const chosen: Array<Candidate> = []
  if (yield* isUnknown(telemetryRaw)) chosen.push(...(yield* newest(telemetryRaw)).slice(0, 1))
  const [clean, rejected] = [yield* newest(telemetryClean), yield* newest(telemetryRejected)]
  const unknown = yield* Effect.filter([telemetryClean, telemetryRejected], isUnknown)
  if (unknown.length > 0 && clean[0] !== undefined && rejected[0] !== undefined) {
    const both = agreeing(clean, rejected)
    if (both === undefined) return yield* new SilverDisagrees({ clean: clean[0].metadataLocation, rejected: rejected[0].metadataLocation })
    chosen.push(...both.filter(({ contract }) => unknown.includes(contract)))
  }
  return yield* Effect.forEach(chosen, ({ contract, metadataLocation }) =>
    Effect.gen(function*() {
      yield* catalog.createNamespace(contract.namespace)
      yield* catalog.createTable(LakeTables.identifier(contract), metadataLocation)
      const registered: Registered = { table: qualifiedName(contract), metadataLocation }
      return registered
    }))
})
