/** `voltlake maintain`: what keeps tables fast, at once and for all of them. `start` and the stages' processes compact and expire by themselves. */
import { Clock, type Duration, Effect } from "effect"
import { lakeTables, qualifiedName } from "@voltlake/domain/Tables"
import * as LakeTables from "@voltlake/connectors/LakeTables"
import * as Action from "@voltlake/iceberg/Action"
import { snapshotsToExpire } from "@voltlake/iceberg/Expiry"
import { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { TableIdentifier } from "@voltlake/iceberg/TableIdentifier"
import { render } from "@voltlake/iceberg/TableIdentifier"
import { currentSnapshot, type TableMetadata } from "@voltlake/iceberg/TableMetadata"
import { Tables } from "@voltlake/iceberg/Tables"
import * as Transaction from "@voltlake/iceberg/Transaction"
import * as Compaction from "@voltlake/maintenance/Compaction"
import * as Compactor from "@voltlake/maintenance/Compactor"
import * as DayRetention from "@voltlake/maintenance/DayRetention"
import * as Orphans from "@voltlake/maintenance/Orphans"
import { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import * as Lake from "./Lake.ts"
import * as LakeSetup from "./LakeSetup.ts"
import * as Output from "./Output.ts"

/** In the order in which one makes work for the next. */
export const tasks = ["retention", "compact", "manifests", "expire", "orphans"] as const
export type Task = (typeof tasks)[number]

export interface MaintainOptions {
  /** All of them where not given. */
  readonly task: Task | undefined
  readonly olderThan: Duration.Duration
  readonly dryRun: boolean
  readonly dataDir: string
  readonly json: boolean
}

/** Of all tables at once: both silver tables change together. */
const retention = Effect.fnUntraced(function*({ dryRun }: MaintainOptions, { settings }: Lake.Opened) {
  const removed = yield* DayRetention.run(settings.retention, dryRun)
  return removed.map(({ contract, rows }): Done => ({
    table: qualifiedName(contract), task: "retention", before: Number(rows), after: 0, what: "rows of days that are no longer kept"
  }))
})

interface Done {
  readonly table: string
  readonly task: Task
  /** Files or snapshots that went, or would go. */
  readonly before: number
  readonly after: number
  readonly what: string
}

/** How many manifests of data files there are, and how few would do: a manifest holds files of one spec. */
const manifestsOf = Effect.fnUntraced(function*(metadata: TableMetadata) {
  const snapshot = currentSnapshot(metadata)
  const list = snapshot === undefined ? [] : yield* (yield* TableFiles).manifestList(snapshot.manifestList)
  const ofData = list.filter((manifest) => manifest.content === "data")
  return { count: ofData.length, least: new Set(ofData.map((manifest) => manifest.partitionSpecId)).size }
})

const compact = Effect.fnUntraced(function*(table: TableIdentifier, { dryRun }: MaintainOptions, settings: Compaction.CompactionSettings) {
  if (dryRun) {
    const { metadata } = yield* (yield* Tables).load(table)
    const partitions = yield* Compaction.survey(metadata)
    const merges = (yield* Effect.forEach(partitions, (partition) => Compaction.planMerges(metadata, partition, true, settings))).flat()
    return { before: merges.reduce((sum, { files }) => sum + files.length, 0), after: merges.length, what: "data files" }
  }
  const connection = yield* (yield* QueryEngine).connect
  const merged = yield* Compaction.compactTable(connection, table, settings)
  return {
    before: merged.reduce((sum, { filesBefore }) => sum + filesBefore, 0),
    after: merged.reduce((sum, { filesAfter }) => sum + filesAfter, 0),
    what: "data files"
  }
})

const manifests = Effect.fnUntraced(function*(table: TableIdentifier, { dryRun }: MaintainOptions) {
  const tables = yield* Tables
  const { count: before, least } = yield* manifestsOf((yield* tables.load(table)).metadata)
  if (dryRun || before === least) return { before, after: least, what: "manifests" }
  yield* Transaction.commit({ commitId: yield* Transaction.newCommitId, changes: [{ table, actions: [Action.rewriteManifests] }] })
  return { before, after: (yield* manifestsOf((yield* tables.load(table)).metadata)).count, what: "manifests" }
})

const expire = Effect.fnUntraced(function*(table: TableIdentifier, { dryRun }: MaintainOptions) {
  const { metadata } = yield* (yield* Tables).load(table)
  const before = metadata.snapshots.length
  const gone = dryRun ? snapshotsToExpire(metadata, yield* Clock.currentTimeMillis).length : yield* Compactor.expire(table, metadata)
  return { before, after: before - gone, what: "snapshots" }
})

const orphans = Effect.fnUntraced(function*(table: TableIdentifier, { dryRun, olderThan }: MaintainOptions) {
  const found = dryRun ? yield* Orphans.find(yield* (yield* Tables).load(table), olderThan) : yield* Orphans.remove(table, olderThan)
  return { before: found.locations.length, after: 0, what: `orphan files, ${found.bytes} bytes; deleted once the grace period is over` }
})

const maintain = Effect.fnUntraced(function*(options: MaintainOptions, opened: Lake.Opened) {
  const { settings } = opened
  yield* LakeSetup.ensure(settings.ingest)
  const run = (task: Exclude<Task, "retention">, table: TableIdentifier) => {
    switch (task) {
      case "compact":
        return compact(table, options, settings.compaction)
      case "manifests":
        return manifests(table, options)
      case "expire":
        return expire(table, options)
      case "orphans":
        return orphans(table, options)
    }
  }
  const done: Array<Done> = []
  for (const task of options.task === undefined ? tasks : [options.task]) {
    if (task === "retention") {
      done.push(...(yield* retention(options, opened)))
      continue
    }
    for (const table of lakeTables.map(LakeTables.identifier)) {
      done.push({ table: render(table), task, ...(yield* run(task, table)) })
    }
  }
  if (options.json) return yield* Output.json({ dryRun: options.dryRun, done })
  const head = options.dryRun ? ["table", "task", "now", "would be", "of"] : ["table", "task", "before", "after", "of"]
  yield* Output.table(head, done.map(({ after, before, table, task, what }) => [table, task, before, after, what]))
})

export const run = (options: MaintainOptions) => Lake.use(options.dataDir, (opened) => Effect.scoped(maintain(options, opened)))
