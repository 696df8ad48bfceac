/** What a run of gold by batch asks an engine for: a model's rows of some days, in data files that no reader sees yet. */
import type { Effect } from "effect"
import type * as LakeTables from "@voltlake/connectors/LakeTables"
import type { DataFile } from "@voltlake/iceberg/DataFile"
import type { Table } from "@voltlake/iceberg/Tables"
import type { Connection } from "@voltlake/query-engine/QueryEngine"
import type { CheckedModel, Source } from "./ModelTable.ts"

/** A run that brings one model's table to silver. */
export interface Run {
  readonly connection: Connection
  readonly checked: CheckedModel
  /** Names the run's files. */
  readonly commitId: string
  readonly silver: LakeTables.Loaded
  /** As it was when the run began. */
  readonly table: Table
  readonly source: Source
  /** The run's data files so far; whoever writes one adds it. They are the table's with the commit, and deleted where there is none. */
  readonly written: Array<DataFile>
}

export interface Day {
  /** Since 1970. */
  readonly day: number
  /** The first and the last unit of it that is wanted. */
  readonly firstUs: bigint
  readonly lastUs: bigint
  /** Of silver, where all are wanted; otherwise unknown. */
  readonly rows: bigint
}

export interface Wanted {
  /** All rows of the days, or those of the touched units (`ModelUnits`). An engine may compute all rows where units are wanted. */
  readonly isFull: boolean
  /** In order. */
  readonly days: ReadonlyArray<Day>
  /** To be run after each day. */
  readonly onDay: Effect.Effect<void>
}

export interface Computed {
  /** Of the model, checked. */
  readonly rows: bigint
  /** The table's files whose place the written ones take: these, or all that it has of the wanted days. */
  readonly removed: ReadonlyArray<DataFile> | "days"
}

export const dateOf = (day: number): string => new Date(day * 86_400_000).toISOString().slice(0, 10)

/** Names days in messages. */
export const datesOf = (days: ReadonlyArray<number>): string =>
  days.length === 1 ? dateOf(days[0]!) : `${dateOf(days[0]!)} to ${dateOf(days.at(-1)!)}`

/** Days that follow each other, as spans: each its first day, and the day after its last. */
export const stretches = (days: ReadonlyArray<number>): ReadonlyArray<readonly [first: number, end: number]> => {
  const found: Array<[number, number]> = []
  for (const day of days) {
    const last = found.at(-1)
    if (last !== undefined && last[1] === day) last[1] = day + 1
    else found.push([day, day + 1])
  }
  return found
}
