/** Settings of `voltlake start` that its options fall back to. */
import { Config, type Option, type Redacted } from "effect"

export const portConfig: Config.Config<number> = Config.integer("VOLTLAKE_PORT").pipe(
  Config.validate({ message: "must be from 0 to 65535", validation: (n: number) => n >= 0 && n <= 65_535 }),
  Config.withDefault(4000),
  Config.withDescription("Port of the page and its API; 0 takes any free one")
)

export const sourceConfig: Config.Config<"simulator" | "none"> = Config.literal("simulator", "none")("VOLTLAKE_SOURCE").pipe(
  Config.withDefault("simulator" as const),
  Config.withDescription("Where events come from: the simulator, or nowhere (then send them by replay)")
)

export const hostConfig: Config.Config<string> = Config.nonEmptyString("VOLTLAKE_HOST").pipe(
  Config.withDefault("127.0.0.1"),
  Config.withDescription("Address that processes listen at: 127.0.0.1 for this machine alone, 0.0.0.0 for all, as in a container")
)

/** Short ones can be guessed. */
const tokenLengthMin = 16

export const tokenConfig: Config.Config<Option.Option<Redacted.Redacted>> = Config.option(
  Config.redacted(
    Config.string("VOLTLAKE_TOKEN").pipe(
      Config.validate({ message: `must have at least ${tokenLengthMin} characters`, validation: (text: string) => text.length >= tokenLengthMin }),
      Config.withDescription("Token that the page and its API ask for; needed where VOLTLAKE_HOST is not this machine alone")
    )
  )
)

export const healthPortConfig: Config.Config<Option.Option<number>> = Config.option(
  Config.integer("VOLTLAKE_HEALTH_PORT").pipe(
    Config.validate({ message: "must be from 0 to 65535", validation: (n: number) => n >= 0 && n <= 65_535 }),
    Config.withDescription("Port of /health, /ready and /metrics of a process; 0 takes any free one, and its address is logged. Without it there are none")
  )
)

/** Where a process listens, and who may use its page. */
export const listenConfig = Config.all({ host: hostConfig, token: tokenConfig, healthPort: healthPortConfig })
export type Listen = Config.Config.Success<typeof listenConfig>
