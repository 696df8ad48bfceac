/** What the stack is made of. A new version is fetched beside the old one: the cache's folders carry these in their names. */

export const kafka = "4.3.1"
/** The binding of Kafka's logging interface (slf4j 1.7) to the log4j that Kafka brings. Without one Kafka logs nothing. */
export const log4jBinding = "2.25.4"
export const versitygw = "1.8.0"
/** MinIO has no released module versions: this names a commit. */
export const minio = "0.0.0-20260212201848-7aac2a2c5b7c"
/** Kafka's broker of this version runs on no older one. */
export const javaMajorMin = 17
