/**
 * The reconciler: compares what the tables' counters say with the rows that are there, partition by partition, from the log to gold.
 *
 * Safe beside running stages: what is compared belongs to one snapshot of each table (and one transaction in PostgreSQL), and a later table is
 * read before the one it came from, so work under way is never taken for a breach.
 */
import { SqlClient } from "@effect/sql"
import { Clock, Effect, Either } from "effect"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as LogLineage from "@voltlake/connectors/LogLineage"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { dedupKeySql } from "@voltlake/domain/DecodeSql"
import * as Position from "@voltlake/domain/Position"
import * as Progress from "@voltlake/domain/Progress"
import { qualifiedName, type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { Catalog } from "@voltlake/iceberg/Catalog"
import * as ForeignRemoval from "@voltlake/iceberg/ForeignRemoval"
import { EventLog, type PartitionBounds } from "@voltlake/event-log/EventLog"
import * as GoldProgress from "@voltlake/gold/GoldProgress"
import { transaction } from "@voltlake/postgres/Transaction"
import { type Connection, QueryEngine } from "@voltlake/query-engine/QueryEngine"
import { checkAgainstBronze } from "@voltlake/silver/Silver"
import * as GoldDigest from "./GoldDigest.ts"

/** One equation of one subject, as it was found. */
export interface Check {
  /** `bronze, telemetry_raw-0` */
  readonly subject: string
  readonly equation: string
  readonly expected: bigint
  readonly actual: bigint
}

/** Rows that are missing from a table, and who may have taken them out: to be acknowledged where that was meant. */
export interface Unacknowledged {
  readonly table: string
  readonly missing: bigint
  /** Snapshots of other engines that removed or replaced rows. */
  readonly snapshots: ReadonlyArray<ForeignRemoval.ForeignRemoval>
}

export interface Report {
  readonly checks: ReadonlyArray<Check>
  readonly unacknowledged: ReadonlyArray<Unacknowledged>
}

export const holds = (check: Check): boolean => check.expected === check.actual
export const breaches = (report: Report): ReadonlyArray<Check> => report.checks.filter((check) => !holds(check))

interface Rows {
  readonly count: bigint
  readonly distinct: bigint
  readonly first: bigint
  readonly last: bigint
}

const noRows: Rows = { count: 0n, distinct: 0n, first: 0n, last: -1n }

type Loaded = LakeTables.Loaded

/** Rows of a table by partition, as they are there. */
const countRows = Effect.fnUntraced(function*(connection: Connection, contract: TableContract, table: Loaded) {
  const relation = yield* SnapshotSource.all(contract, table.metadata)
  const rows = yield* connection.rows(`
    SELECT topic, "partition", count(*) AS rows, count(DISTINCT "offset") AS offsets, min("offset") AS first, max("offset") AS last
    FROM ${relation} GROUP BY topic, "partition"`)
  return new Map(rows.map((row) => [
    Position.key({ topic: String(row["topic"]), partition: Number(row["partition"]) }),
    {
      count: BigInt(row["rows"] as bigint),
      distinct: BigInt(row["offsets"] as bigint),
      first: BigInt(row["first"] as bigint),
      last: BigInt(row["last"] as bigint)
    } satisfies Rows
  ]))
})

const count = (condition: boolean) => (condition ? 1n : 0n)

/** Rows of each partition that the table's counters lead to. */
const expectedRows = (contract: TableContract, { progress, removals }: Loaded) =>
  new Map(Array.from(progress, ([key, partition]) => [key, partition[LakeTables.rowCounter(contract)] - (removals.rows.get(key) ?? 0n)] as const))

/** Checks of one table's rows against the counters. */
const rowChecks = (contract: TableContract, loaded: Loaded, rows: ReadonlyMap<string, Rows>): ReadonlyArray<Check> => {
  const table = qualifiedName(contract)
  const { progress } = loaded
  const expected = expectedRows(contract, loaded)
  const known = Array.from(progress, ([key, partition]) => {
    const found = rows.get(key) ?? noRows
    const outside = count(found.count > 0n && (found.first < partition.start || found.last >= partition.position))
    const subject = `${table}, ${key}`
    return [
      {
        subject,
        equation: `rows in the table = counter ${LakeTables.rowCounter(contract)} - removed`,
        expected: expected.get(key)!,
        actual: found.count
      },
      { subject, equation: "distinct offsets = rows in the table", expected: found.count, actual: found.distinct },
      { subject, equation: "rows outside [start, position) = 0", expected: 0n, actual: outside }
    ]
  }).flat()
  const strangers = Array.from(rows).filter(([key]) => !progress.has(key)).map(([key, found]) => ({
    subject: `${table}, ${key}`,
    equation: "rows of a partition that the counters do not know = 0",
    expected: 0n,
    actual: found.count
  }))
  const others = ForeignRemoval.unacknowledged(loaded.metadata).length
  return [
    ...known,
    ...strangers,
    { subject: table, equation: "removals by other engines that nobody acknowledged = 0", expected: 0n, actual: BigInt(others) }
  ]
}

const unacknowledged = (contract: TableContract, loaded: Loaded, rows: ReadonlyMap<string, Rows>): ReadonlyArray<Unacknowledged> => {
  const snapshots = ForeignRemoval.unacknowledged(loaded.metadata)
  const missing = Array.from(expectedRows(contract, loaded)).reduce((sum, [key, count]) => sum + count - (rows.get(key)?.count ?? 0n), 0n)
  return snapshots.length === 0 && missing <= 0n ? [] : [{ table: qualifiedName(contract), missing, snapshots }]
}

const ownEquation = (table: string, progress: Progress.Progress): ReadonlyArray<Check> =>
  Array.from(progress, ([key, p]) => ({
    subject: `${table}, ${key}`,
    equation: "rows + rejected + duplicates + skipped + lost = position - start",
    expected: p.position - p.start,
    actual: p.rows + p.rejected + p.duplicates + p.skipped + p.lost
  }))

const fromEither = (subject: string, equation: string, result: Either.Either<unknown, Progress.EquationBreach>): Check =>
  Either.match(result, {
    onRight: () => ({ subject, equation, expected: 0n, actual: 0n }),
    onLeft: (breach) => ({ subject: breach.subject, equation: breach.equation, expected: breach.expected, actual: breach.actual })
  })

/** How far a position lies beyond what it follows ever was, in offsets; 0 where it does not. A stage that was rewound catches up by itself. */
const ahead = (subject: string, position: Position.Position, upstream: Position.Position): Check => ({
  subject,
  equation: "offsets read beyond the stage before = 0",
  expected: 0n,
  actual: Position.lag(upstream, position)
})

const readGold = Effect.fnUntraced(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* transaction(Effect.gen(function*() {
    yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY`
    const { minutesFrom, progress, silverRemoval } = yield* GoldProgress.read(sql)
    // Rows of days before may yet be there: they go a day at a time.
    const isKept = minutesFrom === undefined ? "true" : `minute_ts >= timestamp 'epoch' + ${minutesFrom} * interval '1 day'`
    const [sums] = yield* sql.unsafe<{ readonly vehicle: bigint; readonly fleet: bigint }>(`
      SELECT (SELECT coalesce(sum(event_count), 0)::bigint FROM gold_vehicle_minute_metrics WHERE ${isKept}) AS vehicle,
        (SELECT coalesce(sum(total_events), 0)::bigint FROM gold_fleet_minute_metrics WHERE ${isKept}) AS fleet`)
    const [vehicle, fleet] = [BigInt(sums?.vehicle ?? 0n), BigInt(sums?.fleet ?? 0n)]
    return { minutesFrom, progress, silverRemoval, vehicle, fleet, digests: yield* GoldDigest.held(sql, isKept) }
  }))
})

const dayUs = 86_400_000_000n

/** Rows of silver below gold's position, and what gold must have made of them: of minutes those that PostgreSQL keeps. */
const silverBelow = Effect.fnUntraced(function*(
  connection: Connection,
  silver: Loaded,
  { minutesFrom, progress }: Pick<GoldProgress.GoldProgress, "minutesFrom" | "progress">
) {
  const relation = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  const rows = `(SELECT * FROM ${relation} WHERE ${SnapshotSource.inRanges(Progress.covered(progress))})`
  const isKept = minutesFrom === undefined ? "true" : `epoch_us(event_ts) >= ${BigInt(minutesFrom) * dayUs}`
  const [row] = yield* connection.rows(`SELECT count(*) AS rows, count(*) FILTER (${isKept}) AS kept FROM ${rows}`)
  return {
    rows: BigInt((row?.["rows"] ?? 0n) as bigint),
    kept: BigInt((row?.["kept"] ?? 0n) as bigint),
    digests: yield* GoldDigest.recomputed(connection, rows, isKept)
  }
})

const repeatedKeys = Effect.fnUntraced(function*(connection: Connection, silver: Loaded) {
  const relation = yield* SnapshotSource.all(telemetryClean, silver.metadata)
  const [row] = yield* connection.rows(
    `SELECT count(*) - count(DISTINCT dedup_key) AS repeated FROM (SELECT ${dedupKeySql} AS dedup_key FROM ${relation})`
  )
  return BigInt((row?.["repeated"] ?? 0n) as bigint)
})

/** Where the log ends, in the names that rows have. An earlier log under the topic's name is gone: it ended where it was read. */
const logEnd = (topic: string, lineage: LogLineage.LogLineage, read: Position.Position, bounds: ReadonlyArray<PartitionBounds>): Position.Position => {
  const past = Array.from(read).filter(([key]) => LogLineage.isPast(lineage, topic, Position.parseKey(key).topic))
  return Position.max(new Map(past), Position.make(LogLineage.named(lineage, bounds).map((one) => [one, one.end] as const)))
}

/** Runs every check. Reads all rows of all tables once; memory is the engine's. */
export const run = Effect.fn("Verify.run")(function*(topic: string) {
  const engine = yield* QueryEngine
  const log = yield* EventLog
  const connection = yield* engine.connect
  yield* (yield* Catalog).lease("voltlake verify")
  const gold = yield* readGold()
  const clean = yield* LakeTables.load(telemetryClean)
  const rejected = yield* LakeTables.load(telemetryRejected)
  const bronze = yield* LakeTables.load(telemetryRaw)
  const at = Progress.position
  const end = logEnd(topic, yield* LogLineage.of(bronze.metadata), at(bronze.progress), yield* log.partitions(topic))

  // The two silver tables are loaded one after the other: only a later one that disagrees at the same position is a breach.
  const heads = yield* LakeTables.headPositions
  const silverOnce = Position.max(at(clean.progress), heads(telemetryClean))
  // Gold of a silver that was rewound is filled again as soon as silver has committed anew, and follows what is removed from silver in its next step.
  const isRewound = !Position.reached(at(clean.progress), at(gold.progress)) && Position.reached(silverOnce, at(gold.progress))
  const isGoldToFollow = isRewound || gold.silverRemoval !== clean.removals.id
  const rowsOf = {
    bronze: yield* countRows(connection, telemetryRaw, bronze),
    clean: yield* countRows(connection, telemetryClean, clean),
    rejected: yield* countRows(connection, telemetryRejected, rejected)
  }
  const aligned = Position.equals(at(clean.progress), at(rejected.progress))
  const checks: ReadonlyArray<Check> = [
    ahead("bronze", at(bronze.progress), end),
    ...ownEquation(qualifiedName(telemetryRaw), bronze.progress),
    ...rowChecks(telemetryRaw, bronze, rowsOf.bronze),
    ahead("silver", at(clean.progress), Position.max(at(bronze.progress), heads(telemetryRaw))),
    ...ownEquation("silver", clean.progress),
    fromEither("silver", "offsets without a bronze row = skipped + lost of bronze", checkAgainstBronze(clean.progress, bronze)),
    ...rowChecks(telemetryClean, clean, rowsOf.clean),
    ...rowChecks(telemetryRejected, rejected, rowsOf.rejected),
    ...(aligned
      ? [{
        subject: "silver",
        equation: "both tables have the same counters",
        expected: 0n,
        actual: count(Progress.encode(clean.progress) !== Progress.encode(rejected.progress))
      }]
      : []),
    {
      subject: qualifiedName(telemetryClean),
      equation: "rows beyond the first of each (vehicle_id, event_id) = 0",
      expected: 0n,
      actual: yield* repeatedKeys(connection, clean)
    },
    ahead("gold", at(gold.progress), silverOnce),
    ...ownEquation("gold", gold.progress),
    followCheck(clean, gold.silverRemoval, yield* Clock.currentTimeMillis),
    ...(isGoldToFollow ? [] : goldChecks(gold, yield* silverBelow(connection, clean, gold)))
  ]
  const report: Report = {
    checks,
    unacknowledged: [
      ...unacknowledged(telemetryRaw, bronze, rowsOf.bronze),
      ...unacknowledged(telemetryClean, clean, rowsOf.clean),
      ...unacknowledged(telemetryRejected, rejected, rowsOf.rejected)
    ]
  }
  return report
}, Effect.scoped)

/** How long gold may take to follow silver: longer, and it does not. */
const followMs = 10 * 60_000

/** Gold that has not followed what was removed from silver is not compared; a while later that is a breach itself. */
const followCheck = ({ removals }: Loaded, followed: string, nowMs: number): Check => {
  const isLate = followed !== removals.id && nowMs - removals.atMs > followMs
  return { subject: "gold", equation: "removals from silver that gold has not followed for ten minutes = 0", expected: 0n, actual: count(isLate) }
}

const goldChecks = (
  gold: Effect.Effect.Success<ReturnType<typeof readGold>>,
  silver: Effect.Effect.Success<ReturnType<typeof silverBelow>>
): ReadonlyArray<Check> => [
  {
    subject: "gold_vehicle_minute_metrics",
    equation: "sum(event_count) = rows of silver below gold's position",
    expected: silver.kept,
    actual: gold.vehicle
  },
  {
    subject: "gold_fleet_minute_metrics",
    equation: "sum(total_events) = rows of silver below gold's position",
    expected: silver.kept,
    actual: gold.fleet
  },
  {
    subject: "gold",
    equation: "rows of silver below gold's position = counter rows",
    expected: Progress.total(gold.progress, "rows"),
    actual: silver.rows
  },
  {
    subject: "gold_vehicle_minute_metrics",
    equation: "days whose values differ from a recomputation over silver = 0",
    expected: 0n,
    actual: GoldDigest.differing(gold.digests.vehicleMinutes, silver.digests.vehicleMinutes)
  },
  {
    subject: "gold_fleet_minute_metrics",
    equation: "days whose values differ from a recomputation over silver = 0",
    expected: 0n,
    actual: GoldDigest.differing(gold.digests.fleetMinutes, silver.digests.fleetMinutes)
  },
  {
    subject: "vehicle_latest",
    equation: "signals whose values differ from a recomputation over silver = 0",
    expected: 0n,
    actual: GoldDigest.differing(gold.digests.latest, silver.digests.latest)
  }
]
