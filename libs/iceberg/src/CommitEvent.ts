/** What a commit did to its tables, as an event for operators. Pure: it follows from the metadata before and after. */
import { Either } from "effect"
import * as Position from "@voltlake/domain/Position"
import type { TableSwap } from "./Catalog.ts"
import type { Snapshot } from "./Snapshot.ts"
import { render } from "./TableIdentifier.ts"
import type { TableMetadata } from "./TableMetadata.ts"

/** Noted with the swap, or not at all. */
export interface CommitEvent {
  /** `WARNING` where another engine removed rows. */
  readonly severity: "INFO" | "WARNING"
  /** The tables, parted by commas. */
  readonly subject: string
  readonly message: string
  readonly facts: Readonly<Record<string, unknown>>
}

/** One table's part of it. */
export interface Committed {
  readonly swap: TableSwap
  readonly before: TableMetadata
  readonly after: TableMetadata
}

export interface CommitOf {
  readonly commitId: string
  /** By another engine. */
  readonly isForeign: boolean
  readonly tables: ReadonlyArray<Committed>
}

/** Offsets from where the table stood to where it stands, of each partition that has moved. */
const ranges = ({ head }: TableSwap): Readonly<Record<string, string>> | undefined => {
  const read = (text: string | undefined) => (text === undefined ? Position.empty : Either.getOrElse(Position.decode(text), () => Position.empty))
  const [from, to] = [read(head?.found), read(head?.position)]
  const moved = Array.from(to).filter(([key, end]) => end !== (from.get(key) ?? 0n))
  return moved.length === 0 ? undefined : Object.fromEntries(moved.map(([key, end]) => [key, `${from.get(key) ?? 0n}..${end}`]))
}

const newest = ({ after, before }: Committed): Snapshot | undefined => {
  const known = new Set(before.snapshots.map(({ snapshotId }) => snapshotId))
  return after.snapshots.findLast(({ snapshotId }) => !known.has(snapshotId))
}

const count = (text: string | undefined) => (text === undefined ? 0 : Number(text))

/** Of a commit without a snapshot. */
const operationOn = ({ after, before }: Committed): string => {
  if (after.currentSnapshotId !== before.currentSnapshotId) return "set-snapshot"
  return after.snapshots.length < before.snapshots.length ? "expire" : "metadata"
}

const factsOf = (one: Committed) => {
  const { after, before, swap } = one
  const snapshot = newest(one)
  const summary = snapshot?.summary ?? {}
  const kept = new Set(after.snapshots.map(({ snapshotId }) => snapshotId))
  const moved = ranges(swap)
  return {
    table: render(swap.table),
    operation: snapshot === undefined ? operationOn(one) : summary["operation"] ?? "append",
    snapshot: String(snapshot?.snapshotId ?? after.currentSnapshotId ?? ""),
    addedFiles: count(summary["added-data-files"]),
    addedRows: count(summary["added-records"]),
    removedFiles: count(summary["deleted-data-files"]),
    removedRows: count(summary["deleted-records"]),
    droppedSnapshots: before.snapshots.filter(({ snapshotId }) => !kept.has(snapshotId)).length,
    ...(moved === undefined ? {} : { offsets: moved })
  }
}

type TableFacts = ReturnType<typeof factsOf>

const sentence = ({ addedFiles, addedRows, droppedSnapshots, operation, removedFiles, removedRows, table }: TableFacts): string => {
  const parts = [
    ...(addedFiles > 0 ? [`${addedRows} rows in ${addedFiles} files added`] : []),
    ...(removedFiles > 0 ? [`${removedRows} rows in ${removedFiles} files taken out`] : []),
    ...(droppedSnapshots > 0 ? [`${droppedSnapshots} snapshots dropped`] : [])
  ]
  return `${table}: ${operation}${parts.length === 0 ? "" : `, ${parts.join(", ")}`}`
}

/** Rows that are written again elsewhere are not removed; an engine that does not say how many it took out may have. */
const removesRows = (one: Committed): boolean => {
  const summary = newest(one)?.summary
  return (summary?.["operation"] === "delete" || summary?.["operation"] === "overwrite") && summary["deleted-records"] !== "0"
}

export const make = ({ commitId, isForeign, tables }: CommitOf): CommitEvent => {
  const all = tables.map(factsOf)
  const engine = tables.flatMap((one) => newest(one)?.summary["engine-name"] ?? [])[0] ?? "another engine"
  return {
    severity: isForeign && tables.some(removesRows) ? "WARNING" : "INFO",
    subject: all.map(({ table }) => table).join(", "),
    message: `${isForeign ? `by ${engine}: ` : ""}${all.map(sentence).join("; ")}`,
    facts: { commit: commitId, by: isForeign ? engine : "voltlake", tables: all }
  }
}
