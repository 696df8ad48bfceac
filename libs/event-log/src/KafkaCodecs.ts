/**
 * The codecs of record batches. Records of any producer are read: Java's, librdkafka's, Tesla's server. zstd is only read, since
 * Node gained it later than the oldest version that we run on.
 */
import { decompress as decompressZstd } from "fzstd"
import { compressFrame, decompressFrame } from "lz4-napi"
import { promisify } from "node:util"
import { gunzip, gzip } from "node:zlib"
import { compress as compressSnappy, uncompress as uncompressSnappy } from "snappy"
import type { KafkaSettings } from "./KafkaSettings.ts"

/** Java's producers cut snappy into blocks, each after its length, behind this header of 16 bytes (org.xerial.snappy.SnappyCodec). */
const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const xerialHeaderBytes = 16

const readSnappy = async (buffer: Buffer): Promise<Buffer> => {
  if (!buffer.subarray(0, xerialMagic.length).equals(xerialMagic)) return await uncompressSnappy(buffer) as Buffer
  const blocks: Array<Buffer> = []
  for (let at = xerialHeaderBytes; at < buffer.length;) {
    const length = buffer.readUInt32BE(at)
    blocks.push(await uncompressSnappy(buffer.subarray(at + 4, at + 4 + length)) as Buffer)
    at += 4 + length
  }
  return Buffer.concat(blocks)
}

type Decompress = (bytes: Buffer) => Promise<Buffer>

const readers: ReadonlyArray<Decompress | "none"> = [
  "none",
  promisify(gunzip),
  readSnappy,
  (bytes) => decompressFrame(bytes),
  (bytes) => Promise.resolve(Buffer.from(decompressZstd(bytes)))
]

/** How batches of a codec are read, by its number in their attributes; undefined for one that we do not know. */
export const lookup = (codec: number): Decompress | "none" | undefined => readers[codec]

export interface Codec {
  /** Its number in a batch's attributes. */
  readonly number: number
  readonly compress: (bytes: Buffer) => Promise<Buffer>
}

/** How batches are sent. Java's consumers and librdkafka read snappy without its blocks as well. */
export const codecs: Readonly<Record<KafkaSettings["compression"], Codec>> = {
  none: { number: 0, compress: (bytes) => Promise.resolve(bytes) },
  gzip: { number: 1, compress: promisify(gzip) },
  snappy: { number: 2, compress: (bytes) => compressSnappy(bytes) },
  lz4: { number: 3, compress: (bytes) => compressFrame(bytes) }
}
