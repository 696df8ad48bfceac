/** How Kafka is reached. The names are those of Kafka's own clients, in capitals. */
import { Config, ConfigError, Either, Option, type Redacted } from "effect"

export const saslMechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const
export const compressions = ["none", "gzip", "snappy", "lz4"] as const

export interface KafkaSettings {
  readonly bootstrapServers: ReadonlyArray<string>
  readonly protocol: "PLAINTEXT" | "SSL" | "SASL_PLAINTEXT" | "SASL_SSL"
  readonly mechanism: (typeof saslMechanisms)[number]
  readonly username: Option.Option<string>
  readonly password: Option.Option<Redacted.Redacted>
  /** PEM files. */
  readonly caFile: Option.Option<string>
  readonly certificateFile: Option.Option<string>
  readonly keyFile: Option.Option<string>
  readonly compression: (typeof compressions)[number]
}

const port = /:(\d{1,5})$/

const serversOf = (text: string): Either.Either<ReadonlyArray<string>, ConfigError.ConfigError> => {
  const servers = text.split(",").map((server) => server.trim()).filter((server) => server !== "")
  const wrong = servers.find((server) => !port.test(server) || Number(port.exec(server)![1]) > 65_535)
  if (servers.length > 0 && wrong === undefined) return Either.right(servers)
  const found = wrong === undefined ? "no address" : JSON.stringify(wrong)
  return Either.left(ConfigError.InvalidData(["KAFKA_BOOTSTRAP_SERVERS"], `must be addresses like host:9092, separated by commas, but holds ${found}`))
}

/** Present where `KAFKA_BOOTSTRAP_SERVERS` is: without it the log is the embedded one. */
export const bootstrapServersConfig = Config.option(
  Config.mapOrFail(
    Config.string("KAFKA_BOOTSTRAP_SERVERS").pipe(
      Config.withDescription("Addresses host:port of Kafka brokers, separated by commas. Without it the log is the embedded one")
    ),
    serversOf
  )
)

const file = (name: string, what: string) => Config.option(Config.nonEmptyString(name).pipe(Config.withDescription(what)))

const connection = Config.all({
  protocol: Config.literal("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")("KAFKA_SECURITY_PROTOCOL").pipe(
    Config.withDefault("PLAINTEXT" as const),
    Config.withDescription("How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
  ),
  mechanism: Config.literal(...saslMechanisms)("KAFKA_SASL_MECHANISM").pipe(
    Config.withDefault("SCRAM-SHA-512" as const),
    Config.withDescription("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, where the protocol is a SASL one")
  ),
  username: file("KAFKA_SASL_USERNAME", "Name to log in with, where the protocol is a SASL one"),
  password: Config.option(Config.redacted("KAFKA_SASL_PASSWORD").pipe(
    Config.withDescription("Password to log in with, where the protocol is a SASL one")
  )),
  caFile: file("KAFKA_SSL_CA_FILE", "PEM file of the authority that signed the brokers' certificates; without it those of the system"),
  certificateFile: file("KAFKA_SSL_CERTIFICATE_FILE", "PEM file of this client's certificate, where brokers ask for one"),
  keyFile: file("KAFKA_SSL_KEY_FILE", "PEM file of the key to that certificate"),
  compression: Config.literal(...compressions)("KAFKA_COMPRESSION").pipe(
    Config.withDefault("lz4" as const),
    Config.withDescription("How records are compressed when they are sent: none, gzip, snappy or lz4. All of them and zstd are read")
  )
})

const missing = (name: string, why: string) => ConfigError.MissingData([name], why)

/** What one setting says of another. */
const consistent = (settings: Omit<KafkaSettings, "bootstrapServers">): Either.Either<typeof settings, ConfigError.ConfigError> => {
  if (settings.protocol.startsWith("SASL")) {
    if (Option.isNone(settings.username)) return Either.left(missing("KAFKA_SASL_USERNAME", `needed by KAFKA_SECURITY_PROTOCOL=${settings.protocol}`))
    if (Option.isNone(settings.password)) return Either.left(missing("KAFKA_SASL_PASSWORD", `needed by KAFKA_SECURITY_PROTOCOL=${settings.protocol}`))
  }
  if (Option.isSome(settings.certificateFile) !== Option.isSome(settings.keyFile)) {
    const name = Option.isSome(settings.keyFile) ? "KAFKA_SSL_CERTIFICATE_FILE" : "KAFKA_SSL_KEY_FILE"
    return Either.left(missing(name, "a client's certificate and its key go together"))
  }
  return Either.right(settings)
}

/** None where the log is the embedded one. */
export const settingsConfig: Config.Config<Option.Option<KafkaSettings>> = Config.all({
  servers: bootstrapServersConfig,
  connection: Config.mapOrFail(connection, consistent)
}).pipe(
  Config.map(({ connection: others, servers }) => Option.map(servers, (bootstrapServers) => ({ ...others, bootstrapServers })))
)
