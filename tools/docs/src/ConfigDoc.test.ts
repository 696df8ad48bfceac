import { Config } from "effect"
import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { render, settingsOf } from "./ConfigDoc.ts"
import { sections } from "./Sections.ts"

describe("docs/CONFIG.md", () => {
  it("is what the code says: run `npm run docs` where this fails", () => {
    const text = readFileSync(new URL("../../../docs/CONFIG.md", import.meta.url), "utf8")
    expect(text).toBe(render(sections))
  })

  it("has a key, a type, a default and a description for every setting", () => {
    const settings = sections.flatMap((section) => section.configs).flatMap(settingsOf)
    expect(settings.length).toBeGreaterThan(15)
    for (const setting of settings) {
      expect(setting.key).toMatch(/^[A-Z][A-Z0-9_]+$/)
      expect(setting.description, setting.key).toMatch(/\w{3}/)
    }
  })

  it("reads key, default and description of a setting", () => {
    const config = Config.integer("A_LIMIT").pipe(Config.withDefault(7), Config.withDescription("limits"))
    expect(settingsOf(config)).toMatchObject([{ key: "A_LIMIT", byDefault: "7", description: "limits" }])
  })
})
