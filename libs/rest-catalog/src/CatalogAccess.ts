/**
 * Who may do what through the catalog. Pure.
 *
 * Where no token is set at all, who can reach it may do everything: the console then listens on this machine alone. Otherwise a token is needed, and
 * only the write token allows changes.
 */
import { Either, Option, Redacted } from "effect"
import { bearerOf, isSame } from "./Bearer.ts"
import { Fault } from "./Fault.ts"

export interface Tokens {
  /** The console's own and the one for readers. */
  readonly read: ReadonlyArray<Redacted.Redacted>
  readonly write: Option.Option<Redacted.Redacted>
}

export interface Asked {
  readonly method: string
  /** Below the catalog's own path, without a query. */
  readonly path: string
  readonly authorization: string | undefined
  readonly origin: string | undefined
  readonly host: string | undefined
}

/** Whoever asks was let in; `bearsToken` where that was by a token. */
export interface Admission {
  readonly bearsToken: boolean
}

const readMethods = new Set(["GET", "HEAD"])

/** The whole path, so that nothing else ends like it. */
const metricsPath = /^\/v1\/namespaces\/[^/;?#]+\/tables\/[^/;?#]+\/metrics$/

/** Reports of a scan change nothing. */
const isRead = ({ method, path }: Asked) => readMethods.has(method) || (method === "POST" && metricsPath.test(path))

/** The router takes a path to end there, and so would see another one than is judged here. */
const isAmbiguous = ({ path }: Asked) => /[;#]/.test(path)

const ambiguous = new Fault({ status: 400, type: "BadRequestException", reason: "write ; and # in a name as %3B and %23" })

const bearsOneOf = (given: string, tokens: ReadonlyArray<Redacted.Redacted>) =>
  tokens.map((token) => isSame(given, Redacted.value(token))).includes(true)

/** Engines are no web pages. A page elsewhere can make a browser on this machine send what needs no token. */
const isFromAnotherPage = ({ host, origin }: Asked) =>
  origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host)

const unauthorized = new Fault({
  status: 401,
  type: "NotAuthorizedException",
  reason: "this catalog needs a token: set the property token of the client to CATALOG_READ_TOKEN, or to CATALOG_WRITE_TOKEN for writing"
})

const forbidden = (reason: string) => new Fault({ status: 403, type: "ForbiddenException", reason })

export const admit = (asked: Asked, { read, write }: Tokens): Either.Either<Admission, Fault> => {
  if (isAmbiguous(asked)) return Either.left(ambiguous)
  if (!isRead(asked) && isFromAnotherPage(asked)) return Either.left(forbidden(`a page of ${asked.origin} may change nothing here`))
  if (read.length === 0 && Option.isNone(write)) return Either.right({ bearsToken: false })
  const given = bearerOf(asked.authorization)
  if (given === undefined) return Either.left(unauthorized)
  if (bearsOneOf(given, Option.toArray(write))) return Either.right({ bearsToken: true })
  if (!bearsOneOf(given, read)) return Either.left(unauthorized)
  return isRead(asked)
    ? Either.right({ bearsToken: true })
    : Either.left(forbidden("this token may read only: set the property token of the client to CATALOG_WRITE_TOKEN for changes"))
}
