/** Logs on standard error, so that standard output holds only what a command was asked for. */
import { Config, Effect, Layer, Logger, LogLevel } from "effect"

export const levelConfig = Config.logLevel("VOLTLAKE_LOG_LEVEL").pipe(
  Config.withDefault(LogLevel.Info),
  Config.withDescription("Least severity that is logged: debug, info, warning, error, none")
)

export const formatConfig = Config.literal("text", "json")("VOLTLAKE_LOG_FORMAT").pipe(
  Config.withDefault("text" as const),
  Config.withDescription("text for people (logfmt), json for machines")
)

const formats = { text: Logger.logfmtLogger, json: Logger.jsonLogger }

export const layer = Layer.unwrapEffect(
  Effect.gen(function*() {
    const level = yield* levelConfig
    const format = formats[yield* formatConfig]
    return Layer.merge(
      Logger.replace(Logger.defaultLogger, Logger.withConsoleError(format)),
      Logger.minimumLogLevel(level)
    )
  })
)
