import { describe, expect, it } from "@effect/vitest"
import { isLocalHost } from "./ConsoleServer.ts"

describe("isLocalHost", () => {
  it.each([
    "127.0.0.1",
    "127.0.0.1:8080",
    "localhost",
    "localhost:1",
    "LocalHost:8080",
    "[::1]",
    "[::1]:8080"
  ])("takes %s", (host) => {
    expect(isLocalHost(host)).toBe(true)
  })

  it.each([
    undefined,
    "",
    ":8080",
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "evil.example:127.0.0.1",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example@127.0.0.1",
    "localhost:80:80",
    "localhost ",
    "localhost, evil.example",
    "127.0.0.2",
    "0.0.0.0",
    "::1",
    "[::]"
  ])("refuses %s", (host) => {
    expect(isLocalHost(host)).toBe(false)
  })
})
