import { ConfigProvider, Effect, Either, Option, Redacted } from "effect"
import { describe, expect, it } from "vitest"
import * as SparkSettings from "./SparkSettings.ts"

const read = (settings: Readonly<Record<string, string>>) =>
  Effect.runSync(Effect.either(Effect.withConfigProvider(SparkSettings.settingsConfig, ConfigProvider.fromMap(new Map(Object.entries(settings))))))

const catalog = "http://console:4000/catalog"

describe("the engine of gold's batch models", () => {
  it("is this process where nothing is set, and where Compose passes nothing", () => {
    for (const settings of [{}, { BATCH_ENGINE: "duckdb", SPARK_SUBMIT: "", SPARK_CATALOG_URI: "", SPARK_CATALOG_TOKEN: "" }]) {
      expect(read(settings)).toEqual(Either.right(Option.none()))
    }
  })

  it("is Spark by a setting, with what it needs", () => {
    expect(Either.getOrThrow(read({ BATCH_ENGINE: "spark", SPARK_CATALOG_URI: `${catalog}/` }))).toEqual(
      Option.some({ submit: "spark-submit", catalogUri: catalog, catalogToken: Option.none() })
    )
    const given = read({ BATCH_ENGINE: "spark", SPARK_CATALOG_URI: catalog, SPARK_SUBMIT: "/opt/bin/spark-submit", SPARK_CATALOG_TOKEN: "a-secret-token" })
    const settings = Option.getOrThrow(Either.getOrThrow(given))
    expect(settings.submit).toBe("/opt/bin/spark-submit")
    expect(Option.map(settings.catalogToken, Redacted.value)).toEqual(Option.some("a-secret-token"))
    expect(JSON.stringify(settings)).not.toContain("a-secret-token")
  })

  it("is refused where a setting is wrong, by the setting's name", () => {
    const cases = [
      [{ BATCH_ENGINE: "flink" }, /BATCH_ENGINE/],
      [{ BATCH_ENGINE: "spark" }, /SPARK_CATALOG_URI.*is needed with BATCH_ENGINE=spark/],
      [{ BATCH_ENGINE: "spark", SPARK_CATALOG_URI: "console:4000" }, /SPARK_CATALOG_URI.*must be a URL such as .*, not console:4000/]
    ] as const
    for (const [settings, said] of cases) expect(String(Either.getOrThrow(Either.flip(read(settings))))).toMatch(said)
  })
})
