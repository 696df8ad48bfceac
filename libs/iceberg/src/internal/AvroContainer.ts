/**
 * Avro object container files (Avro specification 1.11, "Object Container Files"), whole in memory and without streams: manifests are small.
 *
 * The schema's text goes into the header as it is, so Iceberg's `field-id` attributes survive. Longs are bigint.
 */
import avro from "avsc"
import { deflateRawSync, inflateRawSync } from "node:zlib"

/** A schema as JSON. */
export type AvroSchema = string | ReadonlyArray<AvroSchema> | { readonly [key: string]: unknown }

export interface Container {
  /** The writer's schema, as JSON. */
  readonly schema: unknown
  readonly metadata: ReadonlyMap<string, string>
  /** Decodes the records by a schema that differs from the writer's in names only. */
  readonly records: (schema: unknown) => ReadonlyArray<Rec>
  /** Goes through the records: `read` is told where in an unpacked block one begins, and answers where it ends. */
  readonly each: (read: (block: Buffer, position: number) => number) => void
}

type Rec = Readonly<Record<string, unknown>>

/** Decodes a record that begins there, and says where it ends. */
export type RecordReader = (block: Buffer, position: number) => { readonly value: Rec; readonly offset: number }

/** What is wrong with a container's bytes. */
export class AvroInvalid extends Error {}

const magic = Buffer.from("Obj\x01", "latin1")
const syncLength = 16
/** A manifest of ten thousand files stays below this; a reader must not be led to unpack without limit. */
const blockBytesMax = 512 * 1024 * 1024

/** Most longs of a manifest are short: these are put together as numbers, which is several times faster. */
const shortLongBytes = 6

export const unpackLong = (packed: Buffer): bigint => {
  if (packed.length <= shortLongBytes) {
    let value = 0
    for (let index = packed.length - 1; index >= 0; index--) value = value * 0x80 + (packed[index]! & 0x7f)
    return BigInt(value % 2 === 0 ? value / 2 : -(value + 1) / 2)
  }
  let value = 0n
  for (let index = packed.length - 1; index >= 0; index--) value = (value << 7n) | BigInt(packed[index]! & 0x7f)
  return (value >> 1n) ^ -(value & 1n)
}

const packLong = (value: bigint): Buffer => {
  const bytes: Array<number> = []
  let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Buffer.from(bytes)
}

const longAsBigint = avro.types.LongType.__with({
  fromBuffer: unpackLong,
  toBuffer: packLong,
  fromJSON: BigInt,
  toJSON: Number,
  isValid: (value: unknown) => typeof value === "bigint",
  compare: (a: bigint, b: bigint) => (a === b ? 0 : a < b ? -1 : 1)
}, true)

const isLong = (schema: unknown): boolean =>
  schema === "long" || (typeof schema === "object" && schema !== null && "type" in schema && schema.type === "long")

export const typeOf = (schema: unknown): avro.Type =>
  avro.Type.forSchema(schema as avro.Schema, {
    wrapUnions: false,
    omitRecordMethods: true,
    // Not the registry, which would miss longs with a logical type.
    typeHook: (inner: unknown) => (isLong(inner) ? longAsBigint : undefined)
  } as Parameters<typeof avro.Type.forSchema>[1])

const headerMeta = avro.Type.forSchema({ type: "map", values: "bytes" })

const encodeLong = (value: number): Buffer => {
  const bytes: Array<number> = []
  // Zigzag of a non-negative number is its double; sizes stay far below 2^53.
  let rest = value * 2
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

const decodeLong = (buffer: Buffer, start: number): { readonly value: number; readonly offset: number } => {
  let value = 0
  let scale = 1
  for (let offset = start; offset < buffer.length; offset++) {
    const byte = buffer[offset]!
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return { value: value % 2 === 0 ? value / 2 : -(value + 1) / 2, offset: offset + 1 }
    scale *= 0x80
    if (scale > Number.MAX_SAFE_INTEGER) break
  }
  throw new AvroInvalid(`no number at byte ${start}`)
}

/** `sync` are 16 bytes that mark the ends of blocks. */
export const encode = (
  schema: unknown,
  type: avro.Type,
  metadata: ReadonlyMap<string, string>,
  sync: Uint8Array,
  records: ReadonlyArray<unknown>
): Uint8Array => {
  const meta: Record<string, Buffer> = {}
  meta["avro.schema"] = Buffer.from(JSON.stringify(schema))
  meta["avro.codec"] = Buffer.from("deflate")
  for (const [key, value] of metadata) meta[key] = Buffer.from(value)
  const parts: Array<Uint8Array> = [magic, headerMeta.toBuffer(meta), sync]
  if (records.length > 0) {
    const block = deflateRawSync(Buffer.concat(records.map((record) => type.toBuffer(record))), { level: 3 })
    parts.push(encodeLong(records.length), encodeLong(block.length), block, sync)
  }
  return Buffer.concat(parts)
}

/** Throws {@link AvroInvalid} or avsc's errors where the bytes are no container. */
export const decode = (bytes: Uint8Array): Container => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!buffer.subarray(0, magic.length).equals(magic)) throw new AvroInvalid("not an Avro container file")
  const header = headerMeta.decode(buffer, magic.length)
  if (header.offset < 0) throw new AvroInvalid("the header is cut off")
  const metadata = new Map(
    Object.entries(header.value as Record<string, Buffer>).map(([key, value]) => [key, value.toString("utf8")] as const)
  )
  const schemaText = metadata.get("avro.schema")
  if (schemaText === undefined) throw new AvroInvalid("the header holds no schema")
  return {
    schema: JSON.parse(schemaText),
    metadata,
    records: (schema) => {
      const read = readerOf(typeOf(schema))
      const out: Array<Rec> = []
      each(buffer, header.offset, metadata, (block, position) => {
        const { offset, value } = read(block, position)
        out.push(value)
        return offset
      })
      return out
    },
    each: (read) => each(buffer, header.offset, metadata, read)
  }
}

const readerOf = (type: avro.Type, resolver?: avro.Resolver): RecordReader => (block, position) => {
  const decoded = type.decode(block, position, resolver) as ReturnType<RecordReader>
  if (decoded.offset < 0) throw new AvroInvalid("a record is cut off")
  return decoded
}

/** Decodes some fields of a record of a type: `part` is its schema with those only. The others are skipped over, which is much cheaper. */
export const partReader = (whole: avro.Type, part: unknown): RecordReader => {
  const type = typeOf(part)
  return readerOf(type, type.createResolver(whole))
}

const each = (buffer: Buffer, start: number, metadata: Container["metadata"], read: (block: Buffer, position: number) => number) => {
  const sync = buffer.subarray(start, start + syncLength)
  let at = start + syncLength
  while (at < buffer.length) {
    const count = decodeLong(buffer, at)
    const size = decodeLong(buffer, count.offset)
    const end = size.offset + size.value
    if (size.value < 0 || end + syncLength > buffer.length) throw new AvroInvalid("a block is cut off")
    if (!buffer.subarray(end, end + syncLength).equals(sync)) throw new AvroInvalid("a block's end mark is damaged")
    const block = unpack(buffer.subarray(size.offset, end), metadata.get("avro.codec") ?? "null")
    let position = 0
    for (let index = 0; index < count.value; index++) position = read(block, position)
    at = end + syncLength
  }
}

const unpack = (block: Buffer, codec: string): Buffer => {
  switch (codec) {
    case "null":
      return block
    case "deflate":
      return inflateRawSync(block, { maxOutputLength: blockBytesMax })
    default:
      throw new AvroInvalid(`unknown codec ${codec}`)
  }
}
