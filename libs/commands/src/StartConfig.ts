/** Settings of `voltlake start` that its options fall back to. */
import { Config } from "effect"

export const portConfig: Config.Config<number> = Config.integer("VOLTLAKE_PORT").pipe(
  Config.validate({ message: "must be from 0 to 65535", validation: (n: number) => n >= 0 && n <= 65_535 }),
  Config.withDefault(4000),
  Config.withDescription("Port of the page and its API, on 127.0.0.1; 0 takes any free one")
)

export const sourceConfig: Config.Config<"simulator" | "none"> = Config.literal("simulator", "none")("VOLTLAKE_SOURCE").pipe(
  Config.withDefault("simulator" as const),
  Config.withDescription("Where events come from: the simulator, or nowhere (then send them by replay)")
)
