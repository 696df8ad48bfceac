// Makes, in PostgreSQL, what Superset needs: a database of its own, owned by `superset`, and the role `gold_reader`, which reads gold's tables in
// this one and nothing else. Run it as the owner of the tables, once they are there; again after a change of passwords.
// POSTGRES_URL, GOLD_READER_PASSWORD, SUPERSET_DB_PASSWORD.
import pg from "pg"

const readable = ["gold_vehicle_minute_metrics", "gold_fleet_minute_metrics", "vehicle_latest"]

const setting = (name) => {
  const value = process.env[name]
  if (value !== undefined && value !== "") return value
  console.error(`roles: ${name} is not set`)
  process.exit(1)
}

const url = setting("POSTGRES_URL")
const passwords = { gold_reader: setting("GOLD_READER_PASSWORD"), superset: setting("SUPERSET_DB_PASSWORD") }

const client = new pg.Client(url)
await client.connect()
const has = async (table, column, name) => (await client.query(`SELECT 1 FROM ${table} WHERE ${column} = $1`, [name])).rowCount > 0

try {
  for (const [role, password] of Object.entries(passwords)) {
    if (!(await has("pg_roles", "rolname", role))) await client.query(`CREATE ROLE ${role}`)
    await client.query(
      `ALTER ROLE ${role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS CONNECTION LIMIT 40 PASSWORD ${client.escapeLiteral(password)}`
    )
  }
  if (!(await has("pg_database", "datname", "superset"))) await client.query("CREATE DATABASE superset OWNER superset")
  const { rows: [{ name }] } = await client.query("SELECT quote_ident(current_database()) AS name")
  // By default everybody may enter a database and make temporary tables there.
  await client.query(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC; REVOKE ALL ON DATABASE superset FROM PUBLIC`)
  await client.query(`GRANT CONNECT ON DATABASE ${name} TO gold_reader; GRANT USAGE ON SCHEMA public TO gold_reader`)
  await client.query(`GRANT SELECT ON ${readable.join(", ")} TO gold_reader`)
  await client.query(`ALTER ROLE gold_reader SET default_transaction_read_only = on; ALTER ROLE gold_reader SET statement_timeout = '60s'`)
  console.log(`gold_reader may read ${readable.join(", ")}`)
} catch (error) {
  console.error(`roles: ${error.message}`)
  process.exitCode = 1
} finally {
  await client.end()
}
