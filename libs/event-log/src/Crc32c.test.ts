import { describe, expect, it } from "@effect/vitest"
import { crc32c } from "./Crc32c.ts"

const bytes = (byteAt: (at: number) => number) => Uint8Array.from({ length: 32 }, (_, at) => byteAt(at))

describe("Crc32c", () => {
  it.each([
    ["nothing", new Uint8Array(0), 0],
    ["the digits", Buffer.from("123456789"), 0xe3069283],
    // RFC 3720, appendix B.4.
    ["zeros", bytes(() => 0), 0x8a9136aa],
    ["ones", bytes(() => 0xff), 0x62a8ab43],
    ["ascending bytes", bytes((at) => at), 0x46dd794e],
    ["descending bytes", bytes((at) => 31 - at), 0x113fdb5c]
  ])("of %s", (_, given, expected) => expect(crc32c(given)).toBe(expected))

  it("of a part, wherever it begins and ends", () => {
    const given = Uint8Array.from({ length: 40 }, (_, at) => (at * 37) & 0xff)
    for (let start = 0; start < 12; start++) {
      for (let end = start; end <= 40; end++) expect(crc32c(given, start, end)).toBe(crc32c(given.slice(start, end)))
    }
  })
})
