import { FileSystem } from "@effect/platform"
import { NodeContext } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DataDir from "./DataDir.ts"

const alive = new Set([100, 200])
const me = { pid: 100, host: "this-host", isAlive: (pid: number) => alive.has(pid) }

/** Gives the test a path for a data directory, in a folder of its own whose path holds no links. */
const within = <A, E, R>(use: (path: string, folder: string) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(temporaryFolder, (given) =>
    Effect.flatMap(Effect.promise(() => fs.realpath(given)), (folder) => use(join(folder, "a", "lake"), folder))).pipe(
      Effect.scoped,
      Effect.provide(NodeContext.layer)
    )

const opened = (path: string) => Effect.scoped(DataDir.open(path, me))
const description = (path: string) => join(path, "voltlake.json")
const write = (file: string, text: string) => Effect.promise(() => fs.writeFile(file, text))
const isThere = (path: string) => Effect.flatMap(FileSystem.FileSystem, (files) => files.exists(path))

const refused = (path: string, contained: string) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(opened(path))
    expect(error._tag).toBe("DataDirUnusable")
    expect(error.message).toContain(contained)
    return error
  })

describe("DataDir", () => {
  it.live("is made with all folders above it, and says of what format it is and where", () =>
    within((path) => Effect.gen(function*() {
      const dir = yield* opened(path)
      expect(dir).toMatchObject({ path, warehouse: join(path, "warehouse"), keyIndexes: expect.arrayContaining([join(path, "cache", "silver-keys.duckdb"), join(path, "cache", "silver-keys-1.duckdb")]) })
      const text = yield* Effect.promise(() => fs.readFile(description(path), "utf8"))
      expect(JSON.parse(text)).toEqual({ format: DataDir.formatVersion, path })
      expect(yield* isThere(join(path, "cache"))).toBe(true)
    })))

  it.live("is opened again, by the same path or a link to it", () =>
    within((path, folder) => Effect.gen(function*() {
      yield* opened(path)
      yield* opened(path)
      yield* Effect.promise(() => fs.symlink(path, join(folder, "link")))
      expect((yield* opened(join(folder, "link"))).path).toBe(path)
    })))

  it.live("of a newer format is left alone", () =>
    within((path) => Effect.gen(function*() {
      yield* opened(path)
      const newer = JSON.stringify({ format: DataDir.formatVersion + 1, path })
      yield* write(description(path), newer)
      yield* refused(path, `it has format ${DataDir.formatVersion + 1}, and this version of Voltlake knows formats up to`)
      expect(yield* Effect.promise(() => fs.readFile(description(path), "utf8"))).toBe(newer)
    })))

  it.live("that was moved is refused with the path where it was made", () =>
    within((path, folder) => Effect.gen(function*() {
      yield* opened(path)
      const moved = join(folder, "moved")
      yield* Effect.promise(() => fs.rename(path, moved))
      yield* refused(moved, `it was made at ${path}`)
    })))

  for (const text of ["", "{", "null", "{\"format\":1}", "{\"format\":\"1\",\"path\":\"/\"}", "{\"format\":1.5,\"path\":\"/\"}"]) {
    it.live(`whose voltlake.json reads ${text === "" ? "nothing" : text} is refused with what it should read`, () =>
      within((path) => Effect.gen(function*() {
        yield* opened(path)
        yield* write(description(path), text)
        const error = yield* refused(path, "its voltlake.json is damaged")
        expect(error.message).toContain(`{"format": ${DataDir.formatVersion}, "path": "${path}"}`)
      })))
  }

  it.live("where a file stands in the way is refused, with the path and what to do", () =>
    within((path, folder) => Effect.gen(function*() {
      yield* write(join(folder, "a"), "a file")
      const error = yield* refused(path, path)
      expect(error.message).toContain("--data-dir")
    })))

  it.live("where a folder stands in place of voltlake.json is refused", () =>
    within((path) => Effect.gen(function*() {
      yield* opened(path)
      yield* Effect.promise(() => fs.rm(description(path)))
      yield* Effect.promise(() => fs.mkdir(description(path)))
      yield* refused(path, "cannot be used")
    })))

  it.live("gives each process a scratch folder of its own, which goes with it", () =>
    within((path) => Effect.gen(function*() {
      const scratch = yield* Effect.scoped(Effect.gen(function*() {
        const one = yield* DataDir.open(path, me)
        const two = yield* DataDir.open(path, { ...me, pid: 200 })
        expect(one.scratch).not.toBe(two.scratch)
        expect(one.scratch.startsWith(join(path, "scratch", "this-host-100-"))).toBe(true)
        for (const dir of [one, two]) {
          expect(yield* isThere(dir.scratch)).toBe(true)
          yield* write(join(dir.scratch, "file"), "x")
        }
        return one.scratch
      }))
      expect(yield* isThere(scratch)).toBe(false)
      expect(yield* Effect.promise(() => fs.readdir(join(path, "scratch")))).toEqual([])
    })))

  it.live("removes scratch folders of processes that no longer live, and no others", () =>
    within((path) => Effect.gen(function*() {
      yield* opened(path)
      for (const name of ["this-host-200-1", "this-host-300-1", "other-host-300-1", "no process at all"]) {
        yield* Effect.promise(() => fs.mkdir(join(path, "scratch", name, "deep"), { recursive: true }))
        yield* write(join(path, "scratch", name, "deep", "file"), "x")
      }
      yield* opened(path)
      expect(yield* Effect.promise(() => fs.readdir(join(path, "scratch")))).toEqual(["other-host-300-1", "this-host-200-1"])
    })))
})
