/** What a key may look like: relative, `/`-separated, and unable to leave the store. */

/** Segment limit of the common file systems, in bytes of UTF-8. */
const segmentBytesMax = 255

/** Says what is wrong with a key, or undefined where it is right. A prefix (for `list`) may be empty or end in `/`. */
export const keyFault = (key: string): string | undefined => {
  if (key.length === 0) return "the key is empty"
  for (const segment of key.split("/")) {
    if (segment.length === 0) return "the key has an empty segment"
    if (segment === "." || segment === "..") return "the key has a . or .. segment"
    if (Buffer.byteLength(segment) > segmentBytesMax) return `a segment of the key is over ${segmentBytesMax} bytes`
    for (let at = 0; at < segment.length; at++) {
      const code = segment.charCodeAt(at)
      if (code < 0x20 || code === 0x7f || code === 0x5c) return "the key has a control character or a backslash"
    }
  }
  return undefined
}

/** As {@link keyFault}, for a prefix. */
export const prefixFault = (prefix: string): string | undefined =>
  prefix === "" ? undefined : keyFault(prefix.endsWith("/") ? prefix.slice(0, -1) : prefix)
