/** A table of ours with a past: written, parted, evolved, overwritten, merged and expired by the library that the stages write with. */
import { Effect } from "effect"
import * as Action from "@voltlake/iceberg/Action"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import * as DataFileWriter from "@voltlake/iceberg/DataFileWriter"
import * as PartitionSpec from "@voltlake/iceberg/PartitionSpec"
import * as ReadSql from "@voltlake/iceberg/ReadSql"
import * as Scan from "@voltlake/iceberg/Scan"
import * as SortOrder from "@voltlake/iceberg/SortOrder"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { defaultSpec, type TableDefinition } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Transform from "@voltlake/iceberg/Transform"
import * as Type from "@voltlake/iceberg/Type"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as InteropLake from "./InteropLake.ts"

const schema = Type.schema([
  Type.required(1, "id", Type.long),
  Type.optional(2, "vehicle", Type.string),
  Type.required(3, "at", Type.timestamptz),
  Type.optional(4, "speed", Type.int),
  Type.optional(5, "flag", Type.boolean),
  Type.optional(6, "single", Type.float),
  Type.optional(7, "double", Type.double),
  Type.optional(8, "little_money", Type.decimal(9, 2)),
  Type.optional(9, "much_money", Type.decimal(38, 6)),
  Type.optional(10, "day", Type.date),
  Type.optional(11, "local_time", Type.timestamp),
  Type.optional(12, "bytes", Type.binary),
  Type.optional(13, "place", Type.struct([Type.optional(20, "lat", Type.double), Type.optional(21, "name", Type.string)])),
  Type.optional(14, "marks", Type.list(22, Type.int)),
  Type.optional(15, "signals", Type.map([23, Type.string], [24, Type.double]))
])

/** Columns that Spark has no type for, or another one than ours. */
const more = [Type.optional(16, "clock", Type.time), Type.optional(17, "key", Type.uuid)]

const definition = (withMore: boolean): TableDefinition => ({
  schema: withMore ? Type.schema([...schema.fields, ...more]) : schema,
  specs: [PartitionSpec.make(0, [{ sourceId: 3, fieldId: 1000, name: "at_day", transform: Transform.day }])],
  sortOrder: SortOrder.ascending(1, [1]),
  properties: { "write.parquet.compression-codec": "zstd" }
})

const vehicles = 3
const firstDay = 19_700
const perDay = 20

/** Rows of one day (days since 1970), as the schema was at first; every seventh is empty but for what it must have. */
const rowsSql = (day: number, withMore: boolean) => `
  SELECT id, CASE WHEN filled THEN 'car' || id % ${vehicles} END AS vehicle,
    make_timestamptz(${day} * 86400000000 + range * 3600000000 + id) AS "at",
    CASE WHEN filled THEN (id * 7 - 30)::INTEGER END AS speed, CASE WHEN filled THEN id % 2 = 0 END AS flag,
    CASE WHEN filled THEN (id / 4)::FLOAT END AS single,
    CASE WHEN NOT filled THEN NULL WHEN id % 20 = 3 THEN 'nan'::DOUBLE WHEN id % 20 = 4 THEN '-inf'::DOUBLE ELSE -id / 8 END AS double,
    CASE WHEN filled THEN (id / 4)::DECIMAL(9, 2) END AS little_money,
    CASE WHEN NOT filled THEN NULL WHEN id % 20 = 5 THEN 99999999999999999999999999999999.999999::DECIMAL(38, 6) ELSE (-id / 4)::DECIMAL(38, 6) END AS much_money,
    CASE WHEN filled THEN DATE '1969-12-30' + id::INTEGER END AS day,
    CASE WHEN filled THEN TIMESTAMP '1969-12-31 23:59:59.999999' + to_hours(id) END AS local_time,
    CASE WHEN filled THEN '\\x00\\xFF'::BLOB || id::VARCHAR::BLOB END AS bytes,
    CASE WHEN filled THEN {'lat': id + 0.5::DOUBLE, 'name': CASE WHEN id % 3 > 0 THEN 'Zürich \u{1f697}' END} END AS place,
    CASE WHEN filled THEN [mark::INTEGER FOR mark IN range(id % 4)] END AS marks,
    CASE WHEN filled THEN map_from_entries([{'k': 's' || mark, 'v': mark / 2} FOR mark IN range(id % 3)]) END AS signals
    ${withMore ? `, CASE WHEN filled THEN TIME '23:59:59.999999' - to_seconds(id) END AS clock, CASE WHEN filled THEN md5(id::VARCHAR)::UUID END AS key` : ""}
  FROM (SELECT range, ${(day - firstDay) * perDay} + range AS id, id % 7 <> 6 AS filled FROM range(${perDay}))`

/** The same, as the columns are after the table has evolved. */
const evolvedSql = (day: number, withMore: boolean) => `
  SELECT * EXCLUDE (flag, speed), speed::BIGINT * 1000000000000 AS speed_kmh, id / 2 AS battery FROM (${rowsSql(day, withMore)})`

/** Commits the actions, given the table as it is, and a writer of one file of these rows. */
const step = Effect.fnUntraced(function*<E, E2, R>(
  name: string,
  actions: (
    table: Effect.Effect.Success<ReturnType<typeof InteropLake.load>>,
    write: (query: string, partition: PartitionSpec.Partition) => Effect.Effect<DataFile, unknown, never>
  ) => Effect.Effect<ReadonlyArray<Action.Action<E>>, E2, R>
) {
  const commitId = yield* Transaction.newCommitId
  const table = yield* InteropLake.load(name)
  const connection = yield* (yield* QueryEngine).connect
  const context = yield* Effect.context<Effect.Effect.Context<ReturnType<typeof DataFileWriter.write>>>()
  let index = 0
  const write = (query: string, partition: PartitionSpec.Partition) =>
    DataFileWriter.write({
      connection,
      query,
      metadata: table.metadata,
      specId: defaultSpec(table.metadata).specId,
      partition,
      sortOrderId: 1,
      commitId,
      index: index++
    }).pipe(Effect.flatMap(Effect.fromNullable), Effect.provide(context))
  return yield* Transaction.commit({ commitId, changes: [{ table: table.identifier, actions: yield* actions(table, write) }] })
}, Effect.scoped)

const appendDay = (name: string, day: number, withMore: boolean) =>
  step(name, (_, write) => Effect.map(write(rowsSql(day, withMore), [day]), (file) => [Action.append([file])]))

/** One file for each vehicle, and one for what has none. */
const appendEvolved = (name: string, day: number, withMore: boolean) =>
  step(name, (_, write) =>
    Effect.map(
      Effect.forEach([null, ...Array.from({ length: vehicles }, (_, at) => `car${at}`)], (vehicle) =>
        write(`SELECT * FROM (${evolvedSql(day, withMore)}) WHERE vehicle IS NOT DISTINCT FROM ${vehicle === null ? "NULL" : `'${vehicle}'`}`, [day, vehicle])),
      (files) => [Action.append(files)]
    ))

/** Files of a day whose rows, but for those that the condition takes out, stand in one file afterwards. */
const merge = (name: string, day: number, vehicle: string | null, stays: string) =>
  step(name, ({ metadata }, write) =>
    Effect.gen(function*() {
      const plan = yield* Scan.plan(metadata)
      const files = plan.files.filter(({ file }) => file.partition[0] === day && (file.partition.length === 1 || file.partition[1] === vehicle))
      const relation = yield* ReadSql.relation(plan.schema, metadata, files)
      const rows = `SELECT * FROM ${relation} WHERE vehicle IS NOT DISTINCT FROM ${vehicle === null ? "NULL" : `'${vehicle}'`} AND ${stays}`
      const added = [yield* write(`${rows} ORDER BY id`, [day, vehicle])]
      const readAt = plan.snapshot!.sequenceNumber
      return stays === "true" ? [Action.rewrite({ replaced: files, added, readAt })] : [Action.overwrite({ removed: files.map(({ file }) => file), added, readAt })]
    }))

interface Past {
  /** Snapshots that are there in the end, oldest first. */
  readonly snapshots: ReadonlyArray<bigint>
}

/** Makes the table; `withMore`: with the types that not every engine has. */
export const make = Effect.fn("OwnTable.make")(function*(name: string, withMore: boolean) {
  const tables = yield* Tables
  yield* tables.createIfAbsent(TableIdentifier.parse(name), definition(withMore))
  const actions = <E>(...all: ReadonlyArray<Action.Action<E>>) => step(name, () => Effect.succeed(all))
  yield* appendDay(name, firstDay, withMore)
  yield* appendDay(name, firstDay + 1, withMore)
  yield* actions(Action.setReference({ name: "before", type: "tag" }))
  yield* appendDay(name, firstDay + 2, withMore)
  yield* actions<unknown>(
    Action.evolveSchema([
      { change: "add", column: "battery", type: Type.double },
      { change: "rename", column: "speed", name: "speed_kmh" },
      { change: "widen", column: "speed_kmh", type: Type.long },
      { change: "drop", column: "flag" },
      { change: "move", column: "at", place: "first" }
    ]),
    Action.evolveSpec([{ change: "add", column: "vehicle", transform: Transform.identity }])
  )
  yield* appendEvolved(name, firstDay + 3, withMore)
  yield* appendEvolved(name, firstDay + 3, withMore)
  yield* merge(name, firstDay + 3, "car1", "true")
  yield* merge(name, firstDay + 3, "car2", "id % 4 <> 0")
  const { metadata } = yield* InteropLake.load(name)
  const tagged = metadata.refs["before"]!.snapshotId
  const dropped = metadata.snapshots.slice(0, 3).map(({ snapshotId }) => snapshotId).filter((id) => id !== tagged)
  yield* actions<unknown>(Action.expire(dropped), Action.rewriteManifests, Action.setProperties({ "write.target-file-size-bytes": "1048576" }))
  const past = (yield* InteropLake.load(name)).metadata.snapshots.map(({ snapshotId }) => snapshotId)
  return { snapshots: past } satisfies Past
})
