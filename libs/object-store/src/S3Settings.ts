/** What S3ObjectStore is told: where the warehouse lies, how to reach it, and its limits. */
import { Config, ConfigError, Duration, Either, Option, type Redacted } from "effect"
import { prefixFault } from "./ObjectKey.ts"

/** A bucket and the prefix, without slashes at its ends, below which all keys lie; the prefix may be empty. */
export interface S3Warehouse {
  readonly bucket: string
  readonly prefix: string
}

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: Redacted.Redacted
  readonly sessionToken: Option.Option<Redacted.Redacted>
}

export interface S3Settings {
  /** None: AWS. */
  readonly endpoint: Option.Option<string>
  readonly region: string
  /** None: what the SDK finds by itself (profile files, container or instance roles). */
  readonly credentials: Option.Option<S3Credentials>
  readonly pathStyle: boolean
  readonly connectTimeout: Duration.Duration
  /** Of silence on the connection, not of the whole request. */
  readonly requestTimeout: Duration.Duration
  /** No attempt begins later than this after the first failure. Zero: no retry. */
  readonly retryBudget: Duration.Duration
  /** Size of a part, and of the largest file or download that is not split. */
  readonly partBytes: number
  readonly cacheBytesMax: number
}

const mebibyte = 1024 * 1024
/** S3's least size of a part that is not the last. */
const partBytesMin = 5 * mebibyte
const partBytesMax = 512 * mebibyte

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html */
const bucketPattern = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/

/** `s3://bucket/prefix` in its parts, or what is wrong with it. `s3a` and `s3n` are Hadoop's names for the scheme. */
export const parseWarehouse = (location: string): Either.Either<S3Warehouse, string> => {
  if (!/^s3[an]?:\/\//.test(location)) return Either.left(`${location} is not of the form s3://bucket/prefix`)
  const [bucket, ...segments] = location.slice(location.indexOf("//") + 2).replace(/\/$/, "").split("/")
  if (bucket === undefined || !bucketPattern.test(bucket)) return Either.left(`${location} names no valid bucket: 3 to 63 of a-z, 0-9, . and -`)
  const prefix = segments.join("/")
  const fault = segments.length === 0 ? undefined : prefixFault(prefix === "" ? "/" : prefix)
  return fault === undefined ? Either.right({ bucket, prefix }) : Either.left(`${location} has a prefix that keys cannot have: ${fault}`)
}

const endpoint = Config.string("S3_ENDPOINT").pipe(
  Config.validate({
    message: "must be a URL such as http://localhost:9000, without a path, user or password",
    validation: (text) => {
      const url = URL.canParse(text) ? new URL(text) : undefined
      return url !== undefined && /^https?:$/.test(url.protocol) && url.pathname === "/" && url.username === "" && url.password === "" && url.search === ""
    }
  }),
  Config.withDescription("URL of the S3 server; AWS where absent"),
  Config.option
)

const credentials = Config.all({
  accessKeyId: Config.option(Config.nonEmptyString("AWS_ACCESS_KEY_ID").pipe(
    Config.withDescription("Access key; where absent the SDK looks for profile files and for roles of the container or machine")
  )),
  secretAccessKey: Config.option(Config.redacted(Config.nonEmptyString("AWS_SECRET_ACCESS_KEY")).pipe(
    Config.withDescription("Secret of the access key")
  )),
  sessionToken: Config.option(Config.redacted(Config.nonEmptyString("AWS_SESSION_TOKEN")).pipe(
    Config.withDescription("Token of temporary credentials")
  ))
}).pipe(
  Config.mapOrFail(({ accessKeyId, secretAccessKey, sessionToken }): Either.Either<Option.Option<S3Credentials>, ConfigError.ConfigError> => {
    if (Option.isNone(accessKeyId) && Option.isNone(secretAccessKey)) return Either.right(Option.none())
    if (Option.isNone(accessKeyId)) return Either.left(ConfigError.MissingData(["AWS_ACCESS_KEY_ID"], "is needed beside AWS_SECRET_ACCESS_KEY"))
    if (Option.isNone(secretAccessKey)) return Either.left(ConfigError.MissingData(["AWS_SECRET_ACCESS_KEY"], "is needed beside AWS_ACCESS_KEY_ID"))
    return Either.right(Option.some({ accessKeyId: accessKeyId.value, secretAccessKey: secretAccessKey.value, sessionToken }))
  })
)

const timeout = (name: string, byDefault: Duration.Duration, description: string) =>
  Config.duration(name).pipe(
    Config.validate({
      message: "must be from 100 ms to 1 hour",
      validation: (time: Duration.Duration) => Duration.between(time, { minimum: Duration.millis(100), maximum: Duration.hours(1) })
    }),
    Config.withDefault(byDefault),
    Config.withDescription(description)
  )

export const settingsConfig: Config.Config<S3Settings> = Config.all({
  endpoint,
  region: Config.nonEmptyString("AWS_REGION").pipe(
    Config.withDefault("us-east-1"),
    Config.withDescription("Region of the bucket; most servers other than AWS take any")
  ),
  credentials,
  pathStyle: Config.option(Config.boolean("S3_PATH_STYLE").pipe(
    Config.withDescription("Whether the bucket stands in the path, not in the host name; by default true where S3_ENDPOINT is given")
  )),
  connectTimeout: timeout("S3_CONNECT_TIMEOUT", Duration.seconds(3), "How long a connection may take to be made"),
  requestTimeout: timeout("S3_REQUEST_TIMEOUT", Duration.seconds(30), "How long a connection may be silent during a request"),
  retryBudget: Config.duration("S3_RETRY_BUDGET").pipe(
    Config.withDefault(Duration.seconds(10)),
    Config.withDescription("How long a failing request is tried again, with growing waits, before its stage hears of it; 0 for one attempt")
  ),
  partBytes: Config.integer("S3_MULTIPART_BYTES").pipe(
    Config.validate({
      message: `must be from ${partBytesMin} (5 MiB) to ${partBytesMax} (512 MiB)`,
      validation: (bytes) => bytes >= partBytesMin && bytes <= partBytesMax
    }),
    Config.withDefault(8 * mebibyte),
    Config.withDescription("Size of the parts in which larger files go up and down; four at once are held in memory on the way up")
  ),
  cacheBytesMax: Config.integer("S3_CACHE_BYTES_MAX").pipe(
    Config.validate({ message: "must not be negative", validation: (bytes) => bytes >= 0 }),
    Config.withDefault(2048 * mebibyte),
    Config.withDescription("Bytes of data files that a process keeps on its disk after use, so that the next stage need not fetch them")
  )
}).pipe(
  Config.map(({ pathStyle, ...settings }) => ({ ...settings, pathStyle: Option.getOrElse(pathStyle, () => Option.isSome(settings.endpoint)) }))
)
