/** Why there is no embedded server. Every message names what to do. */
import { Schema } from "effect"

const elsewhere = "set POSTGRES_URL to use a PostgreSQL of your own"

/** npm has no server for this platform, or did not install it. */
export class BinariesMissing extends Schema.TaggedError<BinariesMissing>()("BinariesMissing", {
  platform: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `no embedded PostgreSQL for ${this.platform}: ${this.reason}; ${elsewhere}`
  }
}

/** The cluster was made by another major version, which this server cannot open. It is untouched. */
export class ClusterOfOtherVersion extends Schema.TaggedError<ClusterOfOtherVersion>()("ClusterOfOtherVersion", {
  path: Schema.String,
  found: Schema.String,
  expected: Schema.String
}) {
  override get message() {
    return `the cluster at ${this.path} is of PostgreSQL ${this.found} and this server is ${this.expected}: ` +
      `run the Voltlake version that made it, or dump and restore; ${elsewhere}`
  }
}

/** The cluster cannot be made, reached or trusted. */
export class ClusterUnusable extends Schema.TaggedError<ClusterUnusable>()("ClusterUnusable", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `the PostgreSQL cluster at ${this.path} cannot be used: ${this.reason}`
  }
}

/** The server did not come up. `log` holds its last lines. */
export class ServerStartFailed extends Schema.TaggedError<ServerStartFailed>()("ServerStartFailed", {
  path: Schema.String,
  reason: Schema.String,
  log: Schema.String
}) {
  override get message() {
    return `PostgreSQL at ${this.path} did not start: ${this.reason}${this.log === "" ? "" : `\n${this.log}`}`
  }
}

/** Nothing runs for this data directory. */
export class NoServerRunning extends Schema.TaggedError<NoServerRunning>()("NoServerRunning", {
  dataDir: Schema.String
}) {
  override get message() {
    return `no embedded PostgreSQL is running for ${this.dataDir}; start Voltlake first`
  }
}

export type EmbeddedPostgresError = BinariesMissing | ClusterOfOtherVersion | ClusterUnusable | ServerStartFailed
