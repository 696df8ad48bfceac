import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import fc from "fast-check"
import { cut, findText, fromBytes } from "./Lines.ts"

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"))
const text = (line: Uint8Array) => Buffer.from(line).toString("latin1")

const linesOf = (chunks: ReadonlyArray<string>) =>
  fromBytes("f", Stream.fromIterable(chunks.map(bytes))).pipe(
    Stream.runCollect,
    Effect.map((batches) => Chunk.toReadonlyArray(batches).flat().map(text))
  )

describe("Lines", () => {
  it.effect("keeps every byte of every line, blank ones too", () =>
    Effect.gen(function*() {
      expect(yield* linesOf(["a\n\n\xff\xfe\r\n", "last"])).toEqual(["a", "", "\xff\xfe", "last"])
      expect(yield* linesOf(["a\n"])).toEqual(["a"])
      expect(yield* linesOf([])).toEqual([])
    }))

  it("gives the same lines however the bytes are cut into chunks", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.stringMatching(/^[a-z\n]{0,8}$/)), async (chunks) => {
        const whole = chunks.join("")
        const expected = whole.split("\n")
        if (expected.at(-1) === "") expected.pop()
        expect(await Effect.runPromise(linesOf(chunks))).toEqual(expected)
      })
    ))

  it.effect("names file and line where a line has no end", () =>
    Effect.gen(function*() {
      const long = new Uint8Array(9 * 1024 * 1024).fill(0x61)
      const error = yield* Effect.flip(Stream.runDrain(fromBytes("x.ndjson", Stream.make(bytes("a\nb\n"), long, long))))
      expect(error.message).toContain("line 3 of x.ndjson")
    }))

  it("cuts nothing from bytes without a newline", () => {
    const { lines, rest } = cut(bytes("ab"), bytes("cd"))
    expect(lines).toEqual([])
    expect(text(rest)).toBe("abcd")
  })
})

describe("findText", () => {
  const vehicle = (line: string) => {
    const found = findText("vehicle_id")(bytes(line))
    return found === null ? null : text(found)
  }
  it.each([
    ["{\"vehicle_id\":\"v1\"}", "v1"],
    ["{\"vehicle_id\" : \"v1\", \"x\": 1}", "v1"],
    ["{\"vehicle_id\":5}", null],
    ["{\"vehicle_id\":\"v1", null],
    ["{\"vehicle_id\":\"a\\\"b\"}", null],
    ["nothing", null],
    ["", null],
    ["\"vehicle_id\"", null]
  ])("%s → %s", (line, expected) => {
    expect(vehicle(line)).toBe(expected)
  })
})
