/** Settings of who computes gold's batch models. */
import { Config, ConfigError, Either, Option, Redacted } from "effect"

export interface SparkSettings {
  /** The program, found by PATH where it is no path. */
  readonly submit: string
  /** Of the REST catalog of this lake, as Spark reaches it. */
  readonly catalogUri: string
  /** That writes; none where the catalog asks for none. */
  readonly catalogToken: Option.Option<Redacted.Redacted>
}

/** None where this process computes. */
export type BatchSettings = Option.Option<SparkSettings>

const isUrl = (text: string) => URL.canParse(text) && /^https?:/.test(text)

const unlessBlank = (key: string) => Config.option(Config.string(key)).pipe(Config.map(Option.filter((text) => text !== "")))

export const settingsConfig: Config.Config<BatchSettings> = Config.all({
  engine: Config.literal("duckdb", "spark")("BATCH_ENGINE").pipe(
    Config.withDefault("duckdb"),
    Config.withDescription("Who computes gold's batch models: duckdb, within the process that runs the DAGs, or spark ([DEPLOY](DEPLOY.md#spark))")
  ),
  submit: unlessBlank("SPARK_SUBMIT").pipe(
    Config.map(Option.getOrElse(() => "spark-submit")),
    Config.withDescription("With BATCH_ENGINE=spark: the program that starts a job of Spark; without it spark-submit")
  ),
  catalogUri: unlessBlank("SPARK_CATALOG_URI").pipe(
    Config.withDescription("With BATCH_ENGINE=spark: URL of this lake's REST catalog for Spark, such as http://console:4000/catalog")
  ),
  catalogToken: Config.option(Config.redacted("SPARK_CATALOG_TOKEN")).pipe(
    Config.withDescription("With BATCH_ENGINE=spark: the catalog's CATALOG_WRITE_TOKEN, where it has one")
  )
}).pipe(
  Config.mapOrFail(({ catalogToken, catalogUri, engine, submit }): Either.Either<BatchSettings, ConfigError.ConfigError> => {
    if (engine === "duckdb") return Either.right(Option.none())
    if (Option.isNone(catalogUri)) {
      return Either.left(ConfigError.MissingData(["SPARK_CATALOG_URI"], "is needed with BATCH_ENGINE=spark: the URL of this lake's REST catalog"))
    }
    if (!isUrl(catalogUri.value)) {
      return Either.left(ConfigError.InvalidData(["SPARK_CATALOG_URI"], `must be a URL such as http://console:4000/catalog, not ${catalogUri.value}`))
    }
    return Either.right(Option.some({ submit, catalogUri: catalogUri.value.replace(/\/+$/, ""), catalogToken: nonBlank(catalogToken) }))
  })
)

const nonBlank = (token: Option.Option<Redacted.Redacted>) => Option.filter(token, (one) => Redacted.value(one) !== "")
