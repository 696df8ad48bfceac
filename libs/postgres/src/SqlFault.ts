/** What a failed statement may have done, and whether trying again can help. */
import type { SqlError } from "@effect/sql/SqlError"
import type { Outcome } from "@voltlake/domain/Failure"

export interface SqlFault {
  /** For a single statement outside a transaction: an `Unknown` one may have been committed. */
  readonly outcome: Outcome
  readonly retryable: boolean
  /** SQLSTATE, or a code of the operating system such as ECONNREFUSED, or empty. */
  readonly code: string
  readonly reason: string
}

const field = (value: unknown, name: string): string => {
  if (typeof value !== "object" || value === null || !(name in value)) return ""
  const found = (value as Readonly<Record<string, unknown>>)[name]
  return typeof found === "string" ? found : ""
}

/** SQLSTATE classes that pass: connection, rollback and deadlock, resources, intervention by an operator. */
const passing = ["08", "40", "53", "57"]
/** The driver's own refusals, which have no code: a password that is missing, a server without TLS. Waiting changes nothing. */
const refused = /SASL|SSL|password must be/
const unconnected = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND"]

/** Looks into the driver's error. */
export const faultOf = (error: SqlError | Error): SqlFault => {
  const cause: unknown = error.cause ?? error
  const code = field(cause, "code")
  const severity = field(cause, "severity")
  const reason = cause instanceof Error ? cause.message : error.message
  // An ERROR rolls the statement back. FATAL may strike after the commit and before the answer, and silence says
  // nothing. The code is asked too, since servers translate their severities: class 57P is a server on its way down.
  const answered = severity !== "" && severity !== "FATAL" && severity !== "PANIC" && !code.startsWith("57P")
  const neverSent = error.message.startsWith("Failed to acquire connection")
  return {
    outcome: answered || neverSent ? "NotApplied" : "Unknown",
    retryable: severity === "" ? (code === "" && !refused.test(reason)) || unconnected.includes(code) : passing.includes(code.slice(0, 2)),
    code,
    reason: code === "" ? reason : `${reason} (${code})`
  }
}
