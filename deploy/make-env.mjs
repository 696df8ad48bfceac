// `npm run make-env`: writes .env, with random secrets, for docker-compose.yml. Once: it never overwrites, since the servers' data know the old secrets.
import { randomBytes } from "node:crypto"
import { closeSync, openSync, writeSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

// Letters and digits alone, which no URL and no shell reads as anything else.
const secret = (bytes = 24) => randomBytes(bytes).toString("hex")

/** As Kafka writes cluster ids; one that began with `-` would be taken for an option. */
const clusterId = () => {
  for (;;) {
    const id = randomBytes(16).toString("base64url")
    if (!id.startsWith("-")) return id
  }
}

/** Name, value, what it is for. */
const settings = () => [
  ["VOLTLAKE_TOKEN", secret(), "what the console asks for"],
  ["POSTGRES_PASSWORD", secret(), "of voltlake, who owns the tables"],
  ["GOLD_READER_PASSWORD", secret(), "of gold_reader, as whom Superset reads gold"],
  ["S3_ACCESS_KEY", secret(10), "of the S3 server"],
  ["S3_SECRET_KEY", secret(), ""],
  ["KAFKA_CLUSTER_ID", clusterId(), "no secret, but another one for every cluster"],
  ["SUPERSET_SECRET_KEY", secret(32), "signs sessions and encrypts the database's password"],
  ["SUPERSET_DB_PASSWORD", secret(), "of superset, who owns Superset's own database"],
  ["SUPERSET_ADMIN_PASSWORD", secret(12), "of admin in Superset"],
  ["GRAFANA_ADMIN_PASSWORD", secret(12), "of admin in Grafana"],
  ["CONSOLE_PORT", "4000", "ports on 127.0.0.1"],
  ["KAFKA_PORT", "9092", ""],
  ["S3_PORT", "7070", ""],
  ["POSTGRES_PORT", "5432", ""],
  ["SUPERSET_PORT", "8088", ""],
  ["PROMETHEUS_PORT", "9090", ""],
  ["GRAFANA_PORT", "3000", ""],
  ["ORCHESTRATORS", "1", "0 with the profile spark, whose orchestrator computes gold by Spark"],
  ["SIMULATOR_VEHICLES", "25", "profile demo"],
  ["SIMULATOR_EVENTS_PER_SECOND", "25", ""]
]

const text = () =>
  settings().map(([name, value, purpose]) => `${purpose === "" ? "" : `# ${purpose}\n`}${name}=${value}\n`).join("")

/** Answers whether the file was made; it is readable by its owner alone. */
const make = (path) => {
  try {
    const file = openSync(path, "wx", 0o600)
    writeSync(file, `# Made by deploy/make-env.mjs. Keep a copy where the backups are: without it they cannot be used.\n${text()}`)
    closeSync(file)
    return true
  } catch (error) {
    if (error.code === "EEXIST") return false
    throw error
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const path = process.argv[2] ?? join(fileURLToPath(new URL("..", import.meta.url)), ".env")
  if (make(path)) {
    console.log(`${path} is made; it holds the secrets`)
  } else {
    console.error(`${path} is there already and stays as it is: the servers' data know its secrets. Remove it by hand where there are no data yet.`)
    process.exit(1)
  }
}
