/**
 * What a failed call of S3 means: whether it may have happened all the same, whether trying again can help, and words that someone can act on.
 *
 * Error codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. No message holds a header, a signature or a key's secret.
 */
import type { Outcome } from "@voltlake/domain/Failure"
import { fileFault } from "./FileFault.ts"

export interface S3Fault {
  /** HTTP status, where an answer came. */
  readonly status: number | undefined
  /** The server's, the SDK's or the network's name of the error. */
  readonly code: string
  /** For a write: whether it may have happened. */
  readonly outcome: Outcome
  readonly retryable: boolean
  readonly reason: string
}

/** A request that never left this machine, or a connection that was never made. */
const networkRefused: Readonly<Record<string, readonly [reason: string, retryable: boolean]>> = {
  ECONNREFUSED: ["nothing listens at the endpoint; check S3_ENDPOINT and that the server runs", true],
  ENOTFOUND: ["the endpoint's host name is unknown; check S3_ENDPOINT and AWS_REGION", true],
  EAI_AGAIN: ["the endpoint's host name could not be looked up", true],
  EHOSTUNREACH: ["no route to the endpoint", true],
  ENETUNREACH: ["no route to the endpoint", true],
  EADDRNOTAVAIL: ["this machine has no free local port", true],
  EMFILE: ["this process has too many open files", true],
  DEPTH_ZERO_SELF_SIGNED_CERT: ["the server's certificate is not trusted; name its authority in NODE_EXTRA_CA_CERTS", false],
  SELF_SIGNED_CERT_IN_CHAIN: ["the server's certificate is not trusted; name its authority in NODE_EXTRA_CA_CERTS", false],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ["the server's certificate is not trusted; name its authority in NODE_EXTRA_CA_CERTS", false],
  ERR_TLS_CERT_ALTNAME_INVALID: ["the server's certificate is for another host", false],
  CERT_HAS_EXPIRED: ["the server's certificate has expired", false],
  EPROTO: ["the server does not speak TLS as asked; is S3_ENDPOINT to begin with http: or https:?", false]
}

/** What to do about errors that a retry as such does not cure. */
const remedies: Readonly<Record<string, string>> = {
  AccessDenied: "check the permissions of the credentials and the bucket's policy",
  AllAccessDisabled: "check the bucket's policy",
  InvalidAccessKeyId: "check AWS_ACCESS_KEY_ID",
  SignatureDoesNotMatch: "check AWS_SECRET_ACCESS_KEY",
  ExpiredToken: "the temporary credentials have expired; renew them and AWS_SESSION_TOKEN",
  InvalidToken: "check AWS_SESSION_TOKEN",
  RequestTimeTooSkewed: "the clocks of this machine and the server differ by more than 15 minutes; set them",
  NoSuchBucket: "create the bucket, or name another in WAREHOUSE",
  PermanentRedirect: "the bucket lies in another region; set AWS_REGION",
  AuthorizationHeaderMalformed: "the bucket may lie in another region; check AWS_REGION",
  CredentialsProviderError: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
  SlowDown: "the server asks for fewer requests",
  XMinioStorageFull: "the server's disk is full",
  EntityTooLarge: "the object is larger than the server takes",
  KeyTooLongError: "the key is longer than S3's 1024 bytes"
}

/** Refused now, yet worth another attempt. */
const passing = new Set(["ConditionalRequestConflict", "OperationAborted", "RequestTimeTooSkewed", "RequestTimeout", "TooManyRequests"])

/** Of this machine's own files: a full disk under the cache, a file that is gone. */
const local = new Set(["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EIO", "ENOENT", "EISDIR", "FileChanged"])

/** A connection broke, or fell silent, while a request was under way. */
const broken = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT", "ECONNABORTED", "TimeoutError", "ERR_STREAM_PREMATURE_CLOSE", "EAI_FAIL"])

interface Facts {
  readonly name?: unknown
  readonly code?: unknown
  readonly Code?: unknown
  readonly syscall?: unknown
  readonly message?: unknown
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string }
  readonly $response?: { readonly statusCode?: number }
}

const factsOf = (cause: unknown): Facts => (typeof cause === "object" && cause !== null ? cause : { message: String(cause) })

/** The SDK puts `UnknownError` where an answer has no words. */
const text = (value: unknown): string | undefined =>
  typeof value === "string" && !["", "Error", "UnknownError"].includes(value) ? value : undefined

/** The SDK's words for an answer that it cannot read, such as a proxy's page. */
const unreadable = /\s*(@aws-sdk XML parse error|Deserialization error)/

const oneLine = (value: unknown) => (text(value) ?? "").split(unreadable)[0]!.replace(/\s+/g, " ").slice(0, 200)

/** No connection stood yet: the SDK says so in words alone where it gave up waiting for one. */
const neverConnected = (facts: Facts) =>
  facts.syscall === "connect" || (facts.name === "TimeoutError" && /did not establish a connection/.test(String(facts.message)))

/** An answer of the server. */
const answered = (status: number, code: string, facts: Facts): S3Fault => {
  // Anything on the way may answer 5xx after the request was passed on; 501 is said before anything is done.
  const unknown = status >= 500 && status !== 501
  const remedy = remedies[code] ?? (status === 403 ? remedies["AccessDenied"] : undefined)
  const request = facts.$metadata?.requestId === undefined ? "" : `, request ${facts.$metadata.requestId}`
  // Of a refused signature the server's words repeat what was signed.
  const said = code === "SignatureDoesNotMatch" ? "" : oneLine(facts.message)
  // To HEAD there is no body, and so no name.
  const named = code === String(status) || code === "Unknown" ? "" : ` ${code}`
  const words = [said === code ? "" : said, remedy ?? ""].filter((part) => part !== "").join("; ")
  return {
    status,
    code,
    outcome: unknown ? "Unknown" : "NotApplied",
    retryable: unknown || status === 429 || passing.has(code),
    reason: `the server answered ${status}${named}${request}${words === "" ? "" : `: ${words}`}`
  }
}

/** Reads an error of the SDK or of Node. */
export const s3Fault = (cause: unknown): S3Fault => {
  const facts = factsOf(cause)
  const status = facts.$metadata?.httpStatusCode ?? facts.$response?.statusCode
  const code = text(facts.Code) ?? text(facts.code) ?? text(facts.name) ?? "Unknown"
  // What cannot be read as an answer, such as a proxy's page of HTML, comes with the status it had. A body that broke off has one below 400.
  if (status !== undefined && status >= 300) return answered(status, unreadable.test(String(facts.message)) ? "but not as S3 does" : code, facts)
  if (local.has(code)) return { status, outcome: "NotApplied", ...fileFault(cause) }
  const known = networkRefused[code]
  if (known !== undefined) return { status, code, outcome: "NotApplied", retryable: known[1], reason: `${known[0]} (${code})` }
  if (neverConnected(facts)) {
    return { status, code, outcome: "NotApplied", retryable: true, reason: "no connection to the endpoint within S3_CONNECT_TIMEOUT; check S3_ENDPOINT" }
  }
  if (broken.has(code)) {
    const reason = code === "TimeoutError" ? "the server was silent for longer than S3_REQUEST_TIMEOUT" : `the connection broke during the request (${code})`
    return { status, code, outcome: "Unknown", retryable: true, reason }
  }
  const remedy = remedies[code]
  if (remedy !== undefined) return { status, code, outcome: "NotApplied", retryable: false, reason: `${code}: ${remedy}` }
  // Not known to us: an answer of 200 that holds an error, a broken stream. A write may have happened, and trying again does no harm.
  return { status, code, outcome: "Unknown", retryable: true, reason: `${code}: ${oneLine(facts.message)}` }
}
