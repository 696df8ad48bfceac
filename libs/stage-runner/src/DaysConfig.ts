/** How long something is kept, as a setting: a number of days, or nothing (also an empty text, as Compose passes it) for ever. */
import { Config, ConfigError, Either, Option } from "effect"

export const days = (name: string, description: string): Config.Config<Option.Option<number>> =>
  Config.string(name).pipe(
    Config.option,
    Config.mapOrFail((found) => {
      const text = Option.getOrElse(found, () => "").trim()
      if (text === "") return Either.right(Option.none<number>())
      return /^[1-9]\d{0,5}$/.test(text)
        ? Either.right(Option.some(Number(text)))
        : Either.left(ConfigError.InvalidData([name], `must be a number of days, 1 at least, or empty; it is "${text}"`))
    }),
    Config.withDescription(description)
  )
