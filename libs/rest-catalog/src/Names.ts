/**
 * Names of namespaces and tables as paths and bodies have them. Namespaces have one level: a deeper one is found nowhere, and made never.
 *
 * In a path the levels of a namespace are parted by the unit separator (OpenAPI: parameter `namespace`).
 */
import { Either } from "effect"
import { NamespaceNotFound, TableNotFound } from "@voltlake/iceberg/Catalog"
import type { Json, Node } from "@voltlake/iceberg/Json"
import * as TableIdentifier from "@voltlake/iceberg/TableIdentifier"
import { badRequest, type Fault } from "./Fault.ts"

const unitSeparator = "\u001f"

export const namespaceOfPath = (text: string): Either.Either<string, NamespaceNotFound> =>
  levelOf(text.split(unitSeparator))

const levelOf = (levels: ReadonlyArray<string>): Either.Either<string, NamespaceNotFound> => {
  const [only = ""] = levels
  return levels.length === 1 && only !== ""
    ? Either.right(only)
    : Either.left(new NamespaceNotFound({ namespace: `${levels.join(".")} (namespaces of this catalog have one level)` }))
}

export const namespaceOfBody = (node: Node): Either.Either<string, NamespaceNotFound> => levelOf(node.items().map((level) => level.string()))

export const identifierOfBody = (node: Node): Either.Either<TableIdentifier.TableIdentifier, TableNotFound> => {
  const name = node.at("name").string()
  return Either.mapBoth(namespaceOfBody(node.at("namespace")), {
    onLeft: ({ namespace }) => new TableNotFound({ table: `${namespace}.${name}` }),
    onRight: (namespace) => TableIdentifier.make(namespace, name)
  })
}

export const namespaceJson = (namespace: string): Json => [namespace]

export const identifierJson = ({ name, namespace }: TableIdentifier.TableIdentifier): Json => ({ namespace: namespaceJson(namespace), name })

const nameLengthMax = 255
/** They become folders and, parted by dots, names in SQL. */
const namePattern = /^[^./\\\u0000-\u001f\u007f]+$/u

/** What may become a name. */
export const checkNew = (kind: "namespace" | "table", name: string): Either.Either<string, Fault> => {
  if (name.length <= nameLengthMax && namePattern.test(name)) return Either.right(name)
  return Either.left(badRequest(
    `${JSON.stringify(name)} cannot name a ${kind}: 1 to ${nameLengthMax} characters, without dots, slashes and control characters`
  ))
}

/** A new namespace's name: of one level. */
export const newNamespaceOfBody = (node: Node): Either.Either<string, Fault> => {
  const levels = node.items().map((level) => level.string())
  return levels.length === 1
    ? checkNew("namespace", levels[0]!)
    : Either.left(badRequest(`namespaces of this catalog have one level: ${levels.join(".")} has ${levels.length}`))
}

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  readonly next: string | undefined
}

const pageSizeMax = 1000

/**
 * One page of what is in order by name: all of it where the client does not ask for pages. The token names the last item that was shown, so that
 * what comes and goes meanwhile makes no other item appear twice or not at all.
 */
export const page = <A>(
  items: ReadonlyArray<A>,
  nameOf: (item: A) => string,
  asked: { readonly token: string | undefined; readonly size: string | undefined }
): Either.Either<Page<A>, Fault> => {
  if (asked.token === undefined) return Either.right({ items, next: undefined })
  if (asked.size !== undefined && !/^[1-9]\d{0,8}$/.test(asked.size)) return Either.left(badRequest(`pageSize is no positive integer: ${asked.size}`))
  const size = Math.min(Number(asked.size ?? pageSizeMax), pageSizeMax)
  const after = Buffer.from(asked.token, "base64url").toString()
  const sorted = [...items].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  const left = sorted.filter((item) => asked.token === "" || nameOf(item) > after)
  const shown = left.slice(0, size)
  const last = shown.at(-1)
  return Either.right({
    items: shown,
    next: last === undefined || shown.length === left.length ? undefined : Buffer.from(nameOf(last)).toString("base64url")
  })
}
