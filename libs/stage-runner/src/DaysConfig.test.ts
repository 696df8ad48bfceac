import { expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Exit, Option } from "effect"
import { days } from "./DaysConfig.ts"

const read = (value: string | undefined) =>
  Effect.runSyncExit(ConfigProvider.fromMap(new Map(value === undefined ? [] : [["DAYS", value]])).load(days("DAYS", "a time")))

it.each([
  [undefined, Option.none()],
  ["", Option.none()],
  ["30", Option.some(30)]
])("takes %s", (value, expected) => expect(read(value)).toEqual(Exit.succeed(expected)))

it.each(["0", "-1", "1.5", "a week"])("refuses %s, and names it", (value) => {
  expect(String(read(value))).toContain(value)
  expect(Config.isConfig(days("DAYS", "a time"))).toBe(true)
})
