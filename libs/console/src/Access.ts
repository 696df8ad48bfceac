/**
 * Who may use the console. With a token: who bears it, in the header `Authorization: Bearer`, or in a cookie that `/login` gives for it. Without one:
 * whoever can reach it, which must then be this machine alone. `/health` and `/ready` are open to all, and tell nothing of the data. What lies below
 * `/catalog` has tokens of its own.
 */
import { type HttpApp, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Option, Redacted, Schema } from "effect"
import { createHash } from "node:crypto"
import { bearerOf, isSame } from "@voltlake/rest-catalog/Bearer"
import { mountPath } from "@voltlake/rest-catalog/RestCatalog"

export class TokenMissing extends Schema.TaggedError<TokenMissing>()("TokenMissing", { host: Schema.String }) {
  override get message() {
    return `the console is to listen at ${this.host}, where others than this machine can reach it, and has no token: ` +
      "set VOLTLAKE_TOKEN to a long random text, or VOLTLAKE_HOST to 127.0.0.1"
  }
}

const localHosts = new Set(["127.0.0.1", "localhost", "[::1]", "::1"])

/** Whether only this machine can reach what listens there. */
export const isLoopback = (host: string): boolean => localHosts.has(host.toLowerCase())

const headerHosts = new Set(["127.0.0.1", "localhost", "[::1]"])

/** Whether a Host header names this machine. */
export const isLocalHost = (host: string | undefined): boolean =>
  host !== undefined && headerHosts.has(host.replace(/:\d+$/, "").toLowerCase())

const cookieName = "voltlake-session"

/** The cookie proves the token and does not hold it. */
export const sessionOf = (token: string): string => createHash("sha256").update(`${cookieName}:${token}`).digest("base64url")

const openPaths = new Set(["/health", "/ready"])

/** As the router tells them, so that nothing else passes for one. */
const isOfCatalog = (path: string) => path === mountPath || path.startsWith(`${mountPath}/`)

type Request = HttpServerRequest.HttpServerRequest

const pathOf = (request: Request) => request.url.split("?")[0] ?? "/"

const mayEnter = (request: Request, token: string): boolean => {
  const given = bearerOf(request.headers["authorization"])
  if (given !== undefined && isSame(given, token)) return true
  return isSame(request.cookies[cookieName] ?? "", sessionOf(token))
}

const form = (fault: string) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Voltlake</title></head>
<body style="font-family: system-ui; max-width: 24rem; margin: 20vh auto; padding: 0 1rem">
<h1>Voltlake</h1>
<form method="post" action="/login"><label>Token<br><input name="token" type="password" autocomplete="current-password" autofocus required style="width: 100%">
</label><p><button>Log in</button></p></form><p role="alert">${fault}</p></body></html>`

const page = (fault: string, status: number) => HttpServerResponse.text(form(fault), { status, contentType: "text/html; charset=utf-8" })

const tokenOf = (request: Request) =>
  request.method === "POST"
    ? Effect.map(request.urlParamsBody, (params) => params.find(([name]) => name === "token")?.[1])
    : Effect.succeed(new URLSearchParams(request.url.split("?")[1] ?? "").get("token") ?? undefined)

const login = (request: Request, token: string) =>
  Effect.flatMap(Effect.option(tokenOf(request)), (found) => {
    const given = Option.getOrUndefined(found)
    if (given === undefined) return page("", 200)
    if (!isSame(given, token)) return page("That is not the token.", 401)
    return HttpServerResponse.empty({ status: 303, headers: { location: "/" } }).pipe(
      HttpServerResponse.unsafeSetCookie(cookieName, sessionOf(token), { httpOnly: true, sameSite: "strict", path: "/" })
    )
  })

const refused = (request: Request) =>
  (request.headers["accept"] ?? "").includes("text/html")
    ? HttpServerResponse.empty({ status: 303, headers: { location: "/login" } })
    : HttpServerResponse.text("This console needs its token: Authorization: Bearer <VOLTLAKE_TOKEN>, or log in at /login.\n", {
      status: 401,
      headers: { "www-authenticate": "Bearer" }
    })

/** Lets those through who may enter. On loopback also a Host header that names another machine is refused: a page elsewhere may point its name here. */
export const guard = (host: string, token: Option.Option<Redacted.Redacted>) =>
<E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    if (isLoopback(host) && !isLocalHost(request.headers["host"])) {
      return HttpServerResponse.text("This server answers to 127.0.0.1 and localhost only.\n", { status: 421 })
    }
    const path = pathOf(request)
    if (Option.isNone(token) || openPaths.has(path) || isOfCatalog(path)) return app
    const secret = Redacted.value(token.value)
    if (path === "/login") return login(request, secret)
    return mayEnter(request, secret) ? app : refused(request)
  })

/** What listens where others can reach it must have a token. */
export const check = (host: string, token: Option.Option<Redacted.Redacted>): Effect.Effect<void, TokenMissing> =>
  isLoopback(host) || Option.isSome(token) ? Effect.void : new TokenMissing({ host })
