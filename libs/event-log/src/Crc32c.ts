/**
 * CRC-32C (Castagnoli; RFC 3720, appendix B.4), which Kafka's record batches carry: Node's own crc32 is of another polynomial. By eight tables, eight
 * bytes a step.
 */

/** Bits reversed. */
const polynomial = 0x82f63b78

/** The k-th 256 of them: what a byte becomes that k bytes of zeros follow. */
const tables = new Int32Array(8 * 256)
for (let byte = 0; byte < 256; byte++) {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ polynomial : crc >>> 1
  tables[byte] = crc
}
for (let at = 256; at < tables.length; at++) {
  const before = tables[at - 256]!
  tables[at] = (before >>> 8) ^ tables[before & 0xff]!
}

/** Of the bytes `[start, end)`, as a number without sign. */
export const crc32c = (bytes: Uint8Array, start = 0, end = bytes.length): number => {
  let crc = -1
  let at = start
  for (; at + 8 <= end; at += 8) {
    const first = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
    crc = tables[0x700 | (first & 0xff)]! ^ tables[0x600 | ((first >>> 8) & 0xff)]! ^
      tables[0x500 | ((first >>> 16) & 0xff)]! ^ tables[0x400 | (first >>> 24)]! ^
      tables[0x300 | bytes[at + 4]!]! ^ tables[0x200 | bytes[at + 5]!]! ^ tables[0x100 | bytes[at + 6]!]! ^ tables[bytes[at + 7]!]!
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ tables[(crc ^ bytes[at]!) & 0xff]!
  return ~crc >>> 0
}
