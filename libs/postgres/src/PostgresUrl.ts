/** Which PostgreSQL is in use: for what needs a connection of its own (locks, notifications) beside the pool. */
import { Context, type Redacted } from "effect"

/**
 * `postgres://user:password@host:port/database`. Carries the password: never put it into a log, a label or an error.
 */
export class PostgresUrl extends Context.Tag("@voltlake/postgres/PostgresUrl")<PostgresUrl, Redacted.Redacted>() {}
