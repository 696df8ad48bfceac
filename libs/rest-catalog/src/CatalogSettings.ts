/** Settings of the REST catalog: who may use it, and whether its clients get the credentials of the object store. */
import { Config, Option, Redacted } from "effect"
import type { S3Settings } from "@voltlake/object-store/S3Settings"

/** Short ones can be guessed. */
const tokenLengthMin = 16

/** Blank counts as not set, as Compose hands on what its environment has not. */
const unlessBlank = (key: string, message: string, isRight: (text: string) => boolean, description: string): Config.Config<Option.Option<string>> =>
  Config.option(
    Config.string(key).pipe(
      Config.validate({ message, validation: (text: string) => text === "" || isRight(text) }),
      Config.withDescription(description)
    )
  ).pipe(Config.map(Option.filter((text) => text !== "")))

const token = (key: string, description: string): Config.Config<Option.Option<Redacted.Redacted>> =>
  unlessBlank(key, `must have at least ${tokenLengthMin} characters`, (text) => text.length >= tokenLengthMin, description).pipe(
    Config.map(Option.map((text) => Redacted.make(text)))
  )

export const settingsConfig = Config.all({
  readToken: token("CATALOG_READ_TOKEN", "Token with which other engines read tables through the REST catalog; VOLTLAKE_TOKEN lets them read too"),
  writeToken: token("CATALOG_WRITE_TOKEN", "Token with which other engines also write and change tables through the REST catalog"),
  s3Endpoint: unlessBlank(
    "CATALOG_S3_ENDPOINT",
    "must be a URL such as http://s3.example:9000",
    (text) => URL.canParse(text) && /^https?:/.test(text),
    "URL by which clients of the REST catalog reach the S3 server, where that is not S3_ENDPOINT"
  ),
  passCredentials: Config.boolean("CATALOG_PASS_S3_CREDENTIALS").pipe(
    Config.withDefault(false),
    Config.withDescription("Whether clients of the REST catalog that bear a token get AWS_ACCESS_KEY_ID and its secret; otherwise they bring their own")
  )
})
export type CatalogSettings = Config.Config.Success<typeof settingsConfig>

/** How engines reach the tables' files, by the names that Iceberg's own clients have for it. */
export interface ClientProperties {
  readonly open: Readonly<Record<string, string>>
  /** For those who bear a token. */
  readonly secret: Readonly<Record<string, string>>
}

export const noProperties: ClientProperties = { open: {}, secret: {} }

/** None where tables lie in files: their locations say all. */
export const clientProperties = (s3: Option.Option<S3Settings>, { passCredentials, s3Endpoint }: CatalogSettings): ClientProperties =>
  Option.match(s3, {
    onNone: () => noProperties,
    onSome: ({ credentials, endpoint, pathStyle, region }) => ({
      open: {
        ...Option.match(Option.orElse(s3Endpoint, () => endpoint), { onNone: () => ({}), onSome: (url) => ({ "s3.endpoint": url }) }),
        "s3.region": region,
        "client.region": region,
        "s3.path-style-access": String(pathStyle)
      },
      secret: Option.match(passCredentials ? credentials : Option.none(), {
        onNone: () => ({}),
        onSome: ({ accessKeyId, secretAccessKey, sessionToken }) => ({
          "s3.access-key-id": accessKeyId,
          "s3.secret-access-key": Redacted.value(secretAccessKey),
          ...Option.match(sessionToken, { onNone: () => ({}), onSome: (text) => ({ "s3.session-token": Redacted.value(text) }) })
        })
      })
    })
  })
