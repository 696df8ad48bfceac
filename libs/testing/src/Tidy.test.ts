/** What the tree looks like, as far as no compiler or linter says so. */
import { describe, expect, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, statSync } from "node:fs"
import { basename, dirname, extname, join } from "node:path"
import { repository } from "./VoltlakeProcess.ts"

const linesMax = 450

/** A tree without its history, from an archive say, is nobody's work in progress. */
const isCheckout = existsSync(join(repository, ".git"))

const tracked = () => execFileSync("git", ["ls-files", "-z"], { cwd: repository, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 }).split("\0")

const files = (isCheckout ? tracked() : [])
  // Others may be at work in the tree: what is deleted and not committed yet is no file.
  .filter((path) => path !== "" && existsSync(join(repository, path)) && statSync(join(repository, path)).isFile())

const texts = new Set([".ts", ".tsx", ".mjs", ".js", ".json", ".md", ".css", ".html", ".yml", ".yaml", ".sh", ".sql", ".toml", ""])
const generated = new Set(["package-lock.json"])
const written = files.filter((path) => texts.has(extname(path)) && !generated.has(path))
const read = (path: string) => readFileSync(join(repository, path), "utf8")

const isCode = (path: string) => /\.(ts|tsx|mjs)$/.test(path)
const isTest = (path: string) => /(\.test\.tsx?|Contract\.ts)$/.test(path)
/** This file, which has to name what it looks for. */
const self = "libs/testing/src/Tidy.test.ts"

/** `path:line: text` of every line that matches. */
const matching = (paths: ReadonlyArray<string>, pattern: RegExp) =>
  paths.filter((path) => path !== self).flatMap((path) =>
    read(path).split("\n").flatMap((text, at) => (pattern.test(text) ? [`${path}:${at + 1}: ${text.trim().slice(0, 120)}`] : [])))

const projects = Array.from(new Set(
  files.filter((path) => /^(apps|libs|tools)\/(stages\/)?[^/]+\/package\.json$/.test(path)).map(dirname)
)).sort()

describe.skipIf(!isCheckout)("The tree", () => {
  it("has no file whose name says nothing", () => {
    expect(files.filter((path) => /^(utils?|common|helpers?|misc|shared|index)$/i.test(basename(path).split(".")[0]!) && isCode(path))).toEqual([])
  })

  it("has no folder whose name says nothing", () => {
    expect(files.filter((path) => /(^|\/)(utils?|common|helpers?|misc)\//i.test(path))).toEqual([])
  })

  it("keeps nothing for later in comments", () => {
    expect(matching(written.filter(isCode), /\b(TODO|FIXME|XXX|HACK)\b/)).toEqual([])
  })

  it("runs every test that is there", () => {
    expect(matching(files.filter(isTest), /\b(it|test|describe|live|effect|scoped)\.(only|skip|todo)\b|\b(xit|xdescribe|fdescribe|fit)\(/)).toEqual([])
  })

  it("has files of a length that one reads", () => {
    expect(written.filter((path) => isCode(path) && read(path).split("\n").length - 1 > linesMax)).toEqual([])
  })

  it("ends every line cleanly", () => {
    const source = written.filter(isCode)
    expect(matching(source, /[ \t]+$/)).toEqual([])
    expect(matching(source, /\t/)).toEqual([])
    expect(source.filter((path) => !/[^\n]\n$/.test(read(path)))).toEqual([])
  })

  it("names no machine, account or registry of those who wrote it", () => {
    expect(matching(written, /registry\.npmjs|(^|[\s"'`(=])\/(work|root|home\/[a-z]+)\//)).toEqual([])
  })

  it("locks no package to a registry's host but the public one", () => {
    const hosts = new Set(Array.from(read("package-lock.json").matchAll(/"resolved": "https?:\/\/([^/"]+)/g), ([, host]) => host))
    hosts.delete("registry.npmjs.org")
    expect(Array.from(hosts)).toEqual([])
  })

  it("declares every dependency once, at the root, at one version", () => {
    for (const project of projects) {
      const { dependencies, devDependencies } = JSON.parse(read(`${project}/package.json`)) as Record<string, unknown>
      expect([project, dependencies ?? {}, devDependencies ?? {}]).toEqual([project, {}, {}])
    }
    const root = JSON.parse(read("package.json")) as Record<"dependencies" | "devDependencies", Record<string, string>>
    for (const [name, version] of Object.entries({ ...root.dependencies, ...root.devDependencies })) {
      expect(`${name}@${version}`).toMatch(/@\d+\.\d+\.\d+(-[\w.]+)?$/)
    }
  })

  it("has every project typed, linted and tested, under its own name", () => {
    for (const project of projects.filter((one) => one !== "tools/workspace")) {
      const { name, scripts } = JSON.parse(read(`${project}/package.json`)) as { readonly name: string; readonly scripts?: Record<string, string> }
      expect(name, project).toMatch(/^@voltlake\//)
      expect(Object.keys(scripts ?? {}), project).toEqual(expect.arrayContaining(["typecheck", "lint", "test"]))
    }
  })

  it("has every project in the code map of docs/ARCHITECTURE.md", () => {
    const map = read("docs/ARCHITECTURE.md")
    expect(projects.filter((project) => !map.includes(project))).toEqual([])
  })

  it("names no file or folder in docs/ARCHITECTURE.md that is not there", () => {
    const named = Array.from(read("docs/ARCHITECTURE.md").matchAll(/`((?:apps|libs|tools|docs)\/[\w./-]+)`/g), ([, path]) => path!)
    const folders = new Set(files.flatMap((path) => path.split("/").map((_, at, all) => all.slice(0, at).join("/"))))
    expect(named.filter((path) => !files.includes(path) && !folders.has(path.replace(/\/$/, "")))).toEqual([])
  })
})
