/**
 * A lake within a test: every part is a real one. What outlives a process (log, catalog, objects, a folder) is kept in memory and a temporary
 * folder; what a process has of its own (engine, caches, scratch files) is made anew by each {@link inProcess}, as a restart would.
 */
import { NodeContext } from "@effect/platform-node"
import { Context, Duration, Effect, Layer, type Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import * as Bronze from "@voltlake/bronze/Bronze"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as SnapshotSource from "@voltlake/connectors/SnapshotSource"
import { Wakeups } from "@voltlake/connectors/Wakeups"
import { type TableContract, telemetryClean, telemetryRaw, telemetryRejected } from "@voltlake/domain/Tables"
import { EventLog, type Header, type NewRecord } from "@voltlake/event-log/EventLog"
import * as MemoryEventLog from "@voltlake/event-log/MemoryEventLog"
import * as Gold from "@voltlake/gold/Gold"
import * as GoldModels from "@voltlake/gold/GoldModels"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as Tables from "@voltlake/iceberg/Tables"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "@voltlake/query-engine/DuckDbQueryEngine"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as Silver from "@voltlake/silver/Silver"
import type { Stage } from "@voltlake/stage-runner/Stage"
import { repository } from "./VoltlakeProcess.ts"

export const topic = "telemetry_raw"

/** Removed with the lake. */
export class Folder extends Context.Tag("@voltlake/testing/StageLake/Folder")<Folder, string>() {}

/** What outlives a process, new and empty. */
export const durable = Layer.mergeAll(
  MemoryEventLog.layer,
  MemoryCatalog.layer,
  MemoryObjectStore.layer,
  Layer.scoped(Folder, temporaryFolder)
)

/** Of the models that come with Voltlake. */
export const modelFolder = join(repository, "models", "gold")

/** Nobody is told of commits: tests step by themselves. */
const noWakeups = Layer.succeed(Wakeups, { of: () => Stream.never })

/** What a process has of its own. */
const ownParts = Layer.mergeAll(
  Tables.layer,
  noWakeups,
  NodeContext.layer,
  Layer.succeed(GoldModels.ModelFolder, modelFolder),
  Layer.unwrapEffect(Effect.map(Folder, (folder) =>
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit: "256MB", threads: 2 })))
)

type Parts = Layer.Layer.Success<typeof ownParts>

/** Runs the effect as a process would that starts now and ends with it. */
export const inProcess = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.scoped(effect), Layer.fresh(ownParts)) as Effect.Effect<
    A,
    E | Layer.Layer.Error<typeof ownParts>,
    Exclude<Exclude<R, Scope.Scope>, Parts> | Layer.Layer.Context<typeof ownParts>
  >

export const bronze = (settings: Partial<Bronze.BronzeSettings> = {}) =>
  Bronze.make(topic, {
    commitInterval: Duration.zero,
    batchRowsMax: 50_000,
    batchBytesMax: 32 * 1024 * 1024,
    daysPerCommitMax: 16,
    acceptLoss: false,
    ...settings
  })

export const silver = (settings: Partial<Silver.SilverSettings> = {}) =>
  Effect.flatMap(Folder, (folder) =>
    Silver.make([join(folder, "keys.duckdb")], { batchRowsMax: 100_000, daysPerCommitMax: 16, ...settings }))

/** Silver of a process that has its key index elsewhere, and may work only a share of the partitions. */
export const silverAt = (keyIndexPath: string, share: Silver.Share = Silver.whole) =>
  Silver.make([keyIndexPath], { batchRowsMax: 100_000, daysPerCommitMax: 16 }, share)

export const gold = (settings: Partial<Gold.GoldSettings> = {}) => Gold.make({ batchRowsMax: 200_000, ...settings })

/** Steps until there is nothing new. */
export const drain = <E, R, E2, R2>(make: Effect.Effect<Stage<E, R>, E2, R2>) =>
  Effect.flatMap(make, (stage) => Effect.repeat(stage.step, { while: (outcome) => outcome === "advanced" }))

/** One step of a new process. */
export const stepOnce = <E, R, E2, R2>(make: Effect.Effect<Stage<E, R>, E2, R2>) =>
  inProcess(Effect.flatMap(make, (stage) => stage.step))

/** Everything in the log goes through bronze and silver. */
export const fillSilver = inProcess(Effect.zipRight(drain(bronze()), drain(silver())))

const bytes = (text: string) => new TextEncoder().encode(text)

export const record = (value: Uint8Array | string | null, more: Partial<NewRecord> = {}): NewRecord => ({
  timestampMs: Date.parse("2025-03-01T08:00:00Z"),
  key: null,
  value: typeof value === "string" ? bytes(value) : value,
  headers: noHeaders,
  ...more
})

const noHeaders: ReadonlyArray<Header> = []

/** Appends to a partition of the topic, which is made with two. */
export const send = (partition: number, values: ReadonlyArray<NewRecord | string | null>) =>
  Effect.gen(function*() {
    const log = yield* EventLog
    yield* log.ensureTopic(topic, 2)
    const records = values.map((value) => (typeof value === "string" || value === null ? record(value) : value))
    yield* log.append(topic, new Map([[partition, records]]))
  })

/** Appends to a partition, and lets the log drop it before anybody reads. */
export const loseNext = (partition: number, values: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    yield* send(partition, values)
    const log = yield* EventLog
    const bounds = (yield* log.partitions(topic))[partition]!
    yield* log.trim(bounds, bounds.end)
  })

export interface EventFields {
  readonly id: string
  readonly vehicle?: string
  readonly time?: string
  readonly battery?: number | null
  /** As it stands in the JSON where it is text. */
  readonly speed?: number | string | null
  readonly odometer?: number | null
}

export const event = ({ battery = 50, id, odometer = 1000, speed = 30, time = "2025-03-01T08:00:00Z", vehicle = "v1" }: EventFields) =>
  `{"event_id":${JSON.stringify(id)},"vehicle_id":${JSON.stringify(vehicle)},"event_time":"${time}","source":"test",` +
  `"payload":{"battery_percent":${battery},"speed_mph":${speed},"odometer_miles":${odometer}}}`

/** Relations (for FROM) of all rows of the three tables. */
export interface Relations {
  readonly bronze: string
  readonly clean: string
  readonly rejected: string
}

const relation = (contract: TableContract) =>
  Effect.flatMap(LakeTables.ensure(contract), ({ metadata }) => SnapshotSource.all(contract, metadata))

/** Asks the tables as a new process sees them. */
export const query = (sql: (tables: Relations) => string) =>
  inProcess(Effect.gen(function*() {
    const connection = yield* (yield* QueryEngine).connect
    return yield* connection.rows(sql({
      bronze: yield* relation(telemetryRaw),
      clean: yield* relation(telemetryClean),
      rejected: yield* relation(telemetryRejected)
    }))
  }))

export const progress = (contract: TableContract) =>
  inProcess(Effect.zipRight(LakeTables.ensure(contract), Effect.map(LakeTables.load(contract), (table) => table.progress)))

export const metadata = (contract: TableContract) => inProcess(Effect.map(LakeTables.ensure(contract), (table) => table.metadata))

export const newCommitId = Effect.sync(() => randomUUID())
