/**
 * The first rows of a Parquet file and what its footer says of it, without the engine. Of the file only the footer is read, and of the first row groups
 * what is needed for the rows. Rows are as the file has them: under its own names, without what delete files delete.
 */
import { type AsyncBuffer, type Compressors, type FileMetaData, parquetReadObjects, type SchemaElement } from "hyparquet"
import { Effect, Runtime } from "effect"
import { decompress as decompressZstd } from "fzstd"
import { uncompressSync as decompressLz4 } from "lz4-napi"
import { brotliDecompressSync, gunzipSync } from "node:zlib"
import { ObjectStore, type ObjectNotFound, type ObjectStoreError } from "@voltlake/object-store/ObjectStore"
import type { FileLeaf, FileSchema, FileType } from "./FileSchema.ts"
import * as FileColumns from "./FileSchema.ts"
import * as ParquetFooter from "./ParquetFooter.ts"

/** A value as JSON has it, with whole numbers of 64 bits. Exact: what JSON's numbers cannot hold (decimals, times, infinities) is text. */
export type Readable = null | boolean | number | bigint | string | ReadonlyArray<Readable> | { readonly [name: string]: Readable }

/** A column that holds values, with its chunks of all row groups taken together. */
export interface ColumnFacts {
  readonly column: string
  readonly id: number | null
  readonly type: string
  readonly codec: string
  readonly encodings: string
  readonly bytes: number
  readonly uncompressedBytes: number
  /** Null where a row group does not say. */
  readonly nulls: number | null
}

export interface Facts {
  readonly bytes: number
  readonly footerBytes: number
  readonly rows: number
  readonly rowGroups: number
  readonly createdBy: string | null
  readonly columns: ReadonlyArray<ColumnFacts>
}

export interface Preview {
  readonly facts: Facts
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Readonly<Record<string, Readable>>>
}

const withLength = (bytes: Uint8Array, length: number) => {
  const prefix = Buffer.alloc(4)
  prefix.writeUInt32LE(length)
  return Buffer.concat([prefix, bytes])
}

/** Node has zstd only since later than the oldest version that we run on. Snappy is the reader's own. */
const compressors: Compressors = {
  GZIP: (bytes) => gunzipSync(bytes),
  BROTLI: (bytes) => brotliDecompressSync(bytes),
  ZSTD: (bytes, length) => decompressZstd(bytes, new Uint8Array(length)),
  LZ4_RAW: (bytes, length) => decompressLz4(withLength(bytes, length))
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

/** Bytes as text where they are, otherwise in hexadecimal. */
const bytesText = (bytes: Uint8Array): string => {
  try {
    return strictUtf8.decode(bytes)
  } catch {
    return `0x${hex(bytes)}`
  }
}

const whole = (value: unknown): bigint => {
  if (!(value instanceof Uint8Array)) return BigInt(value as number | bigint)
  return value.length === 0 ? 0n : BigInt.asIntN(value.length * 8, BigInt(`0x${hex(value)}`))
}

const decimalText = (unscaled: bigint, scale: number): string => {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, "0")
  const at = digits.length - scale
  return `${unscaled < 0n ? "-" : ""}${digits.slice(0, at)}${scale === 0 ? "" : `.${digits.slice(at)}`}`
}

const perSecond = { MILLIS: 1000n, MICROS: 1_000_000n, NANOS: 1_000_000_000n } as const

type Unit = keyof typeof perSecond

const secondsPerDay = 86_400n
/** What a JavaScript date reaches. */
const daysMax = 100_000_000n

const dayText = (days: bigint): string => {
  if (days > daysMax || days < -daysMax) return `day ${days}`
  return new Date(Number(days) * 86_400_000).toISOString().slice(0, -"T00:00:00.000Z".length)
}

/** `14:54:46.490898`: all digits of the unit. */
const timeText = (value: bigint, unit: Unit): string => {
  const [per, two] = [perSecond[unit], (part: bigint) => String(part).padStart(2, "0")]
  const seconds = value / per
  return `${two(seconds / 3600n)}:${two(seconds / 60n % 60n)}:${two(seconds % 60n)}.${String(value % per).padStart(String(per).length - 1, "0")}`
}

const timestampText = (value: bigint, unit: Unit, zone: string): string => {
  const perDay = perSecond[unit] * secondsPerDay
  const within = (value % perDay + perDay) % perDay
  return `${dayText((value - within) / perDay)}T${timeText(within, unit)}${zone}`
}

const uuidText = (bytes: Uint8Array) => hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")

/** What the file calls the type, as far as it decides how a value is read. */
type Kind = { readonly kind: "decimal"; readonly scale: number } | { readonly kind: "time" | "timestamp"; readonly unit: Unit; readonly zone: string } | {
  readonly kind: "date" | "uuid" | "plain"
}

const kindOf = ({ detail: { converted_type, logical_type, scale }, physical }: FileLeaf): Kind => {
  if (physical === "INT96") return { kind: "timestamp", unit: "NANOS", zone: "" }
  if (logical_type?.type === "DECIMAL") return { kind: "decimal", scale: logical_type.scale }
  if (converted_type === "DECIMAL") return { kind: "decimal", scale: scale ?? 0 }
  if (logical_type?.type === "TIME") return { kind: "time", unit: logical_type.unit, zone: "" }
  if (logical_type?.type === "TIMESTAMP") return { kind: "timestamp", unit: logical_type.unit, zone: logical_type.isAdjustedToUTC ? "Z" : "" }
  const [, what, unit] = /^(TIME|TIMESTAMP)_(MILLIS|MICROS)$/.exec(converted_type ?? "") ?? []
  if (what !== undefined) return { kind: what === "TIME" ? "time" : "timestamp", unit: unit as Unit, zone: what === "TIME" ? "" : "Z" }
  if (converted_type === "DATE" || logical_type?.type === "DATE") return { kind: "date" }
  return { kind: logical_type?.type === "UUID" ? "uuid" : "plain" }
}

const leafText = (value: unknown, leaf: FileLeaf): Readable => {
  const kind = kindOf(leaf)
  switch (kind.kind) {
    case "decimal":
      return decimalText(whole(value), kind.scale)
    case "time":
      return timeText(whole(value), kind.unit)
    case "timestamp":
      return timestampText(whole(value), kind.unit, kind.zone)
    case "date":
      return dayText(whole(value))
    case "uuid":
      return value instanceof Uint8Array ? uuidText(value) : String(value)
    case "plain":
      return plain(value)
  }
}

/** A value of which the file says nothing more. */
const plain = (value: unknown): Readable => {
  if (value === null || value === undefined) return null
  if (value instanceof Uint8Array) return bytesText(value)
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value)
  if (Array.isArray(value)) return value.map(plain)
  return typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)])) : value as Readable
}

/** The reader makes names of a map's keys: of bytes, their numbers with commas between. */
const keyText = (key: string, { type }: FileColumns.FileColumn): string => {
  if (type.kind !== "leaf" || type.meaning === "text") return key
  const bytes = type.physical === "BYTE_ARRAY" || type.physical === "FIXED_LEN_BYTE_ARRAY"
  const value = bytes ? Uint8Array.from(key === "" ? [] : key.split(","), Number) : /^-?\d+$/.test(key) ? BigInt(key) : key
  return String(leafText(value, type))
}

const readable = (value: unknown, type: FileType): Readable => {
  if (value === null || value === undefined) return null
  switch (type.kind) {
    case "leaf":
      return leafText(value, type)
    case "struct": {
      const from = value as Readonly<Record<string, unknown>>
      return Object.fromEntries(type.fields.map((field) => [field.name, readable(from[field.name], field.type)]))
    }
    case "list":
      return Array.from(value as Iterable<unknown>, (one) => readable(one, type.element.type))
    case "map":
      return Object.fromEntries(Object.entries(value as object).map(([key, one]) => [keyText(key, type.key), readable(one, type.value.type)]))
    case "strange":
      return plain(value)
  }
}

/** Meanings for which the reader has a JavaScript value that is not exact, or none: it is to hand out what is stored. */
const stored = /^(DECIMAL|DATE|TIME|TIMESTAMP|TIME_MILLIS|TIME_MICROS|TIMESTAMP_MILLIS|TIMESTAMP_MICROS|UUID|JSON|BSON|INTERVAL|GEOMETRY|GEOGRAPHY)$/

const asStored = (element: SchemaElement): SchemaElement => {
  const { converted_type, logical_type, ...rest } = element
  if (element.type === undefined || !stored.test(logical_type?.type ?? converted_type ?? "")) return element
  return (logical_type?.type ?? converted_type) === "JSON" ? { ...rest, converted_type: "UTF8" } : rest
}

/** What says no more than that a whole number is one. */
const idle = /^INT_(32|64)$/

const elementText = ({ converted_type, logical_type, precision, scale, type, type_length }: SchemaElement): string => {
  const isSigned = logical_type?.type === "INTEGER" && logical_type.isSigned
  const said = idle.test(converted_type ?? "") || (isSigned && logical_type.bitWidth >= 32) ? undefined : logical_type?.type ?? converted_type
  const detail = said === "DECIMAL" ? `(${precision}, ${scale ?? 0})` : logical_type !== undefined && "unit" in logical_type ? ` ${logical_type.unit}` : ""
  const physical = `${type}${type_length === undefined ? "" : `[${type_length}]`}`
  return said === undefined ? physical : `${physical} ${said}${detail}`
}

/** The file's leaves, in the order of its columns' chunks. */
const leafElements = (footer: FileMetaData) => footer.schema.filter(({ type }) => type !== undefined)

const factsOf = (footer: FileMetaData, bytes: number): Facts => {
  const chunks = footer.row_groups.map(({ columns }) => columns.map(({ meta_data }) => meta_data!))
  const columns = leafElements(footer).map((element, at): ColumnFacts => {
    const all = chunks.flatMap((row) => row[at] ?? [])
    const sum = (of: (chunk: typeof all[number]) => bigint) => Number(all.reduce((total, chunk) => total + of(chunk), 0n))
    const saysNulls = all.every(({ statistics }) => statistics?.null_count !== undefined)
    const distinct = (of: (chunk: typeof all[number]) => ReadonlyArray<string>) => Array.from(new Set(all.flatMap(of))).join(" ")
    return {
      column: all[0]?.path_in_schema.join(".") ?? element.name,
      id: element.field_id ?? null,
      type: elementText(element),
      codec: distinct(({ codec }) => [codec]),
      encodings: distinct(({ encodings }) => encodings),
      bytes: sum((chunk) => chunk.total_compressed_size),
      uncompressedBytes: sum((chunk) => chunk.total_uncompressed_size),
      nulls: saysNulls ? sum(({ statistics }) => statistics!.null_count!) : null
    }
  })
  return {
    bytes,
    footerBytes: footer.metadata_length,
    rows: Number(footer.num_rows),
    rowGroups: footer.row_groups.length,
    createdBy: footer.created_by ?? null,
    columns
  }
}

/** Of a file whose bytes `buffer` reads; `location` is for the error. */
export const read = Effect.fn("ParquetPreview.read")(function*(buffer: AsyncBuffer, location: string, rowsMax: number) {
  const footer = yield* ParquetFooter.read(buffer, location)
  const schema: FileSchema = FileColumns.ofFooter(footer)
  const rowEnd = Math.min(rowsMax, Number(footer.num_rows))
  const options = {
    file: buffer,
    metadata: { ...footer, schema: footer.schema.map(asStored) },
    rowStart: 0,
    rowEnd,
    compressors,
    utf8: false,
    geoparquet: false,
    parsers: { timestampFromNanoseconds: (nanos: bigint) => nanos }
  }
  const rows = rowEnd === 0 ? [] : yield* Effect.tryPromise({ try: () => parquetReadObjects(options), catch: ParquetFooter.unreadable(location) })
  return {
    facts: factsOf(footer, buffer.byteLength),
    columns: schema.map(({ name }) => name),
    rows: rows.map((row) => Object.fromEntries(schema.map(({ name, type }) => [name, readable(row[name], type)])))
  } satisfies Preview
})

/** Of an object of the store, of which only what is needed is fetched. */
export const ofObject = Effect.fn("ParquetPreview.ofObject")(function*(key: string, rowsMax: number) {
  const store = yield* ObjectStore
  const run = Runtime.runPromise(yield* Effect.runtime<never>())
  let failure: ObjectNotFound | ObjectStoreError | undefined
  const { sizeBytes } = yield* store.head(key)
  const slice = (start: number, end = sizeBytes): Promise<ArrayBuffer> =>
    run(Effect.tapError(store.range(key, start, end), (error) => Effect.sync(() => (failure = error)))).then((bytes) => {
      if (bytes.length < end - start) throw new Error(`it ends before byte ${end}`)
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
    })
  // Why the store could not read is more than that the file could not be read.
  return yield* Effect.mapError(read({ byteLength: sizeBytes, slice }, store.location(key), rowsMax), (unreadable) => failure ?? unreadable)
})
