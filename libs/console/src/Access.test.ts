import { HttpApp, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import * as Access from "./Access.ts"

const { isLocalHost } = Access

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

describe("guard", () => {
  const token = "a-long-enough-token"
  const handler = HttpApp.toWebHandler(Access.guard("0.0.0.0", Option.some(Redacted.make(token)))(HttpServerResponse.text("the data")))
  const ask = (path: string, init: RequestInit = {}) => handler(new Request(`http://voltlake.example${path}`, init))

  it("lets nobody in without the token, and says how to get in", async () => {
    for (const headers of [{}, { authorization: "Bearer a-long-enough-tokem" }, { authorization: `Basic ${token}` }, { cookie: `voltlake-session=${token}` }]) {
      const response = await ask("/api/status", { headers })
      expect(response.status).toBe(401)
      expect(await response.text()).not.toContain(token)
    }
    const page = await ask("/", { headers: { accept: "text/html" } })
    expect([page.status, page.headers.get("location")]).toEqual([303, "/login"])
  })

  it("lets those in who bear it", async () => {
    const response = await ask("/api/status", { headers: { authorization: `Bearer ${token}` } })
    expect([response.status, await response.text()]).toEqual([200, "the data"])
  })

  it.each([
    ["a form", "/login", { method: "POST", body: new URLSearchParams({ token }) }],
    ["an address", `/login?token=${token}`, {}]
  ])("lets those in who log in by %s, with a cookie that scripts cannot read and that does not hold the token", async (_, path, init) => {
    const login = await ask(path, init)
    expect([login.status, login.headers.get("location")]).toEqual([303, "/"])
    const cookie = login.headers.get("set-cookie") ?? ""
    expect(cookie).toMatch(/HttpOnly/)
    expect(cookie).toMatch(/SameSite=Strict/)
    expect(cookie).not.toContain(token)
    const response = await ask("/", { headers: { cookie: cookie.split(";")[0]! } })
    expect(await response.text()).toBe("the data")
  })

  it("gives no cookie for another token", async () => {
    for (const [path, init] of [["/login", { method: "POST", body: new URLSearchParams({ token: "x" }) }], ["/login?token=x", {}]] as const) {
      const response = await ask(path, init)
      expect(response.status).toBe(401)
      expect(response.headers.get("set-cookie")).toBeNull()
    }
  })

  it("leaves health and readiness open, and nothing that only looks like them", async () => {
    expect(await (await ask("/health")).text()).toBe("the data")
    expect(await (await ask("/ready?x=1")).text()).toBe("the data")
    for (const path of ["/health/../api/status", "//health", "/healthy", "/api/status?/health"]) expect((await ask(path)).status).toBe(401)
  })

  it("leaves the catalog to its own tokens, and nothing that only looks like it", async () => {
    for (const path of ["/catalog", "/catalog/v1/config", "/catalog?x=1"]) expect((await ask(path)).status).toBe(200)
    for (const path of ["/catalogue", "/Catalog/v1/config", "//catalog/v1", "/api/status?/catalog/", "/api/catalog/"]) expect((await ask(path)).status).toBe(401)
  })

  it("on this machine alone asks for no token where there is none, and refuses a Host that names another", async () => {
    const local = HttpApp.toWebHandler(Access.guard("127.0.0.1", Option.none())(HttpServerResponse.text("the data")))
    const at = (host: string) => local(new Request("http://127.0.0.1/", { headers: { host } }))
    expect((await at("127.0.0.1:4000")).status).toBe(200)
    expect((await at("evil.example")).status).toBe(421)
  })
})

it.effect("what others can reach must have a token", () =>
  Effect.gen(function*() {
    expect(yield* Effect.flip(Access.check("0.0.0.0", Option.none()))).toMatchObject({ _tag: "TokenMissing" })
    yield* Access.check("0.0.0.0", Option.some(Redacted.make("t")))
    yield* Access.check("127.0.0.1", Option.none())
  }))
