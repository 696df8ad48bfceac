/** `voltlake tables preview`: a data file's first rows and its footer, as the file has them: under its own names, with rows that were deleted since. */
import { Console, Effect, Option, Schema } from "effect"
import * as ParquetPreview from "@voltlake/iceberg/ParquetPreview"
import * as Scan from "@voltlake/iceberg/Scan"
import { ObjectStore } from "@voltlake/object-store/ObjectStore"
import * as Output from "./Output.ts"
import { chosen, load, type OfTable, partitionText, use } from "./Tables.ts"

export class FileUnknown extends Schema.TaggedError<FileUnknown>()("FileUnknown", { table: Schema.String, file: Schema.String }) {
  override get message() {
    return `${this.file} is no data file of ${this.table}, nor a location in the warehouse (\`voltlake tables files ${this.table}\` lists them)`
  }
}

export class NoFiles extends Schema.TaggedError<NoFiles>()("NoFiles", { table: Schema.String }) {
  override get message() {
    return `${this.table} has no data files`
  }
}

export interface PreviewOptions extends OfTable {
  readonly file: Option.Option<string>
  readonly rows: number
  readonly snapshot: Option.Option<bigint>
}

/** Longer text is cut in tables for people. */
const cellCharsMax = 40

const cell = (value: ParquetPreview.Readable | undefined): Output.Cell => {
  if (value === null || value === undefined) return null
  const text = typeof value === "string" ? value : typeof value === "object" ? Output.jsonText(value) : undefined
  if (text === undefined) return value as Output.Cell
  const chars = Array.from(text)
  return chars.length > cellCharsMax ? `${chars.slice(0, cellCharsMax - 1).join("")}…` : text
}

const newest = (files: ReadonlyArray<Scan.PlannedFile>): Scan.PlannedFile | undefined =>
  files.reduce<Scan.PlannedFile | undefined>((last, one) => (last !== undefined && last.sequenceNumber > one.sequenceNumber ? last : one), undefined)

/** What the option names: a file of the snapshot by its location or its name, or any object of the warehouse. */
const located = Effect.fnUntraced(function*(table: string, files: ReadonlyArray<Scan.PlannedFile>, file: Option.Option<string>) {
  const store = yield* ObjectStore
  if (Option.isNone(file)) {
    const planned = newest(files)
    return planned === undefined ? yield* new NoFiles({ table }) : { planned, location: planned.file.filePath }
  }
  const planned = files.find((one) => one.file.filePath === file.value || one.file.filePath.endsWith(`/${file.value}`))
  if (planned === undefined && store.keyOf(file.value) === undefined) return yield* new FileUnknown({ table, file: file.value })
  return { planned, location: planned?.file.filePath ?? file.value }
})

export const preview = ({ dataDir, file, json, rows: rowsMax, snapshot, table }: PreviewOptions) =>
  use(dataDir, () =>
    Effect.gen(function*() {
      const { metadata } = yield* load(table)
      const { files } = yield* Scan.plan(metadata, chosen(snapshot))
      const { location, planned } = yield* located(table, files, file)
      const key = (yield* ObjectStore).keyOf(location)
      if (key === undefined) return yield* new FileUnknown({ table, file: location })
      const { columns, facts: { columns: chunks, ...facts }, rows } = yield* ParquetPreview.ofObject(key, rowsMax)
      const about = {
        file: location,
        partition: planned === undefined ? null : partitionText(metadata, planned),
        /** Files that say which of its rows are deleted; those are shown all the same. */
        deletes: planned === undefined ? null : planned.deletes.length,
        ...facts
      }
      if (json) return yield* Output.json({ table, ...about, columns: chunks, preview: rows })
      yield* Output.table(["", ""], Object.entries(about))
      yield* Output.table(
        ["column", "id", "type", "codec", "encodings", "bytes", "uncompressed", "nulls"],
        chunks.map((one) => [one.column, one.id, one.type, one.codec, one.encodings, one.bytes, one.uncompressedBytes, one.nulls])
      )
      if (rows.length > 0) yield* Output.table(columns, rows.map((row) => columns.map((name) => cell(row[name]))))
      if (rows.length < facts.rows) yield* Console.log(`${rows.length} of ${facts.rows} rows`)
    }))
