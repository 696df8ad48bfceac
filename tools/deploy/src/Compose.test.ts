/** docker-compose.yml against the Compose specification, and against what we promise of it. No engine is needed. */
import { Effect, Either } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import * as ComposeProject from "./ComposeProject.ts"
import * as EnvFile from "./EnvFile.ts"

const text = (path: string) => readFileSync(join(repository, path), "utf8")

const main = "docker-compose.yml"
const overrides = ["docker-compose.minio.yml"]

const found = await Effect.runPromise(Effect.either(ComposeProject.program))
if (Either.isLeft(found)) console.log(`what needs the Compose specification is skipped: ${found.left.message}`)

describe("make-env", () => {
  const folder = mkdtempSync(join(tmpdir(), "voltlake-make-env-"))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, ".env")
  const run = () => spawnSync(process.execPath, [EnvFile.script, path], { encoding: "utf8" })

  it("makes a file for its owner alone, of other secrets each time, and overwrites none", () => {
    expect(run().status).toBe(0)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const first = EnvFile.read(path)
    const before = readFileSync(path)
    const again = run()
    expect(again.status).toBe(1)
    expect(again.stderr).toContain("stays as it is")
    expect(readFileSync(path)).toEqual(before)
    rmSync(path)
    run()
    const second = EnvFile.read(path)
    const secrets = Object.keys(first).filter((name) => /(TOKEN|PASSWORD|KEY|ID)$/.test(name))
    expect(secrets.length).toBeGreaterThan(8)
    for (const name of secrets) expect(first[name], name).not.toBe(second[name])
    expect(new Set(secrets.map((name) => first[name])).size).toBe(secrets.length)
    expect(first["VOLTLAKE_TOKEN"]).toMatch(/^[0-9a-f]{48}$/)
  })

  it("makes every variable that the Compose files name, but for those that may be empty, and no other", () => {
    run()
    const named = new Set([main, ...overrides].flatMap((file) => Array.from(text(file).matchAll(/\$\{(\w+)(?!\w|:-\})/g), ([, name]) => name!)))
    expect(Object.keys(EnvFile.read(path)).sort()).toEqual([...named].sort())
  })

  it("is a file that git and images leave out", () => {
    expect(text(".gitignore").split("\n")).toContain(".env")
    expect(text(".dockerignore").split("\n")).toContain(".env")
  })
})

describe.skipIf(Either.isLeft(found))("docker-compose.yml", () => {
  const env = EnvFile.make()
  const load = (...files: ReadonlyArray<string>) => Effect.runPromise(ComposeProject.load(files, env))
  const refused = (files: ReadonlyArray<string>, variables: Readonly<Record<string, string>>) =>
    Effect.runPromise(Effect.flip(ComposeProject.load(files, variables))).then((error) => error.message)
  let project: ComposeProject.Project
  let services: ReadonlyArray<readonly [string, ComposeProject.Service]>
  beforeAll(async () => {
    project = await load(main)
    services = Object.entries(project.services)
  })
  const ours = () => services.filter(([, service]) => service.image?.startsWith("voltlake:"))
  const processes = () => ours().filter(([, { command }]) => command?.[1]?.startsWith("dist/"))

  it("is a project by the Compose specification, with each override too", async () => {
    for (const override of overrides) {
      const changed = await load(main, override)
      expect(Object.keys(changed.services)).toEqual(Object.keys(project.services))
      expect(changed.services["s3"]?.image).toMatch(/minio/)
      expect(Object.keys(changed.services["s3"]?.environment ?? {}).filter((name) => /^(VGW|ROOT)_/.test(name))).toEqual([])
      expect(changed.services["s3"]?.volumes).toHaveLength(1)
      expect(changed.services["s3"]).toMatchObject({ read_only: true, user: "10001:10001", ports: project.services["s3"]?.ports })
    }
  })

  it("is read by something that refuses what is wrong", async () => {
    const folder = mkdtempSync(join(tmpdir(), "voltlake-compose-"))
    const wrong = async (from: string, to: string) => {
      const path = join(folder, main)
      expect(text(main)).toContain(from)
      writeFileSync(path, text(main).replace(from, to))
      return refused([path], env)
    }
    expect(await wrong("    read_only: true", "    readonly: true")).toContain("readonly")
    expect(await wrong("condition: service_healthy", "condition: service_well")).toContain("condition")
    expect(await wrong("      gold: { condition", "      golden: { condition")).toContain("golden")
    expect(await wrong("volumes: [\"s3:/data\"]", "volumes: [\"s4:/data\"]")).toContain("s4")
    rmSync(folder, { recursive: true })
  })

  it("starts nothing without its secrets, and says how to make them", async () => {
    for (const name of Object.keys(env).filter((one) => /(TOKEN|PASSWORD|KEY|ID)$/.test(one))) {
      expect(await refused([main], { ...env, [name]: "" })).toContain(`required variable ${name} is missing a value: run npm run make-env first`)
    }
  })

  it("gives the console the tokens of other engines where there are any", async () => {
    const tokens = { CATALOG_READ_TOKEN: "reads-0123456789", CATALOG_WRITE_TOKEN: "writes-0123456789" }
    const without = { CATALOG_READ_TOKEN: "", CATALOG_WRITE_TOKEN: "" }
    expect(project.services["console"]?.environment).toMatchObject(without)
    const given = await Effect.runPromise(ComposeProject.load([main], { ...env, ...tokens }))
    expect(given.services["console"]?.environment).toMatchObject(tokens)
  })

  it("holds no secret: every setting that is one comes from .env", () => {
    for (const [name, service] of services) {
      for (const [key, value] of Object.entries(service.environment ?? {})) {
        if (!/PASSWORD|SECRET|TOKEN|ACCESS_KEY|(^|_)URL$/.test(key) || value === "") continue
        const secret = Object.entries(env).find(([made, content]) => /(TOKEN|PASSWORD|KEY)$/.test(made) && value.includes(content))
        expect(secret, `${key} of ${name}`).toBeDefined()
      }
    }
    for (const file of [main, ...overrides]) expect(text(file)).not.toMatch(/:\/\/[^:/\s]+:[^$@\s]+@/)
  })

  it("publishes ports on loopback alone", () => {
    const ports = services.flatMap(([, service]) => service.ports ?? [])
    expect(ports.length).toBeGreaterThan(4)
    for (const port of ports) expect(port).toMatchObject({ host_ip: "127.0.0.1" })
    expect(new Set(ports.map(({ published }) => published)).size).toBe(ports.length)
  })

  it("gives no service rights that it does not need, and each a limit", () => {
    for (const [name, service] of services) {
      expect(service, name).toMatchObject({ cap_drop: ["ALL"], security_opt: ["no-new-privileges:true"] })
      expect(service.privileged ?? false, name).toBe(false)
      expect(service.cap_add ?? [], name).toEqual([])
      expect(Number(service.deploy?.resources?.limits?.memory), name).toBeGreaterThan(0)
      expect(service.restart, name).toMatch(/^(unless-stopped|on-failure:\d)$/)
      expect(service.volumes?.map(({ source }) => source).filter((source) => source.endsWith("docker.sock")) ?? [], name).toEqual([])
      // The broker's image writes its configuration into itself at the start, as an account of its own.
      if (name !== "kafka") {
        expect(service.read_only, name).toBe(true)
        expect(service.user, name).toMatch(/^[1-9]\d*:\d+$/)
      }
      expect(service.image, name).toMatch(/:[\w.-]*\d[\w.-]*$/)
    }
  })

  it("has a service for every app that is a process, which runs its bundle under one's own account on a file system that is read only", () => {
    const apps = readdirSync(join(repository, "apps")).filter((app) => existsSync(join(repository, "apps", app, "src/main.ts")) && app !== "voltlake")
    expect(processes().map(([name, { command }]) => [name, command])).toEqual(apps.sort().map((app) => [app, ["node", `dist/${app}.mjs`]]))
    for (const [name, service] of processes()) {
      expect(service, name).toMatchObject({ user: "10001:10001", read_only: true, stop_grace_period: "15s" })
      expect(service.healthcheck?.test?.at(-1), name).toContain("/ready")
      expect(Object.values(service.depends_on ?? {}).map(({ condition }) => condition), name).toEqual(Array(3).fill("service_healthy"))
      const writable = service.volumes?.filter((volume) => volume.read_only !== true).map(({ target }) => target)
      expect(writable, name).toEqual([service.environment?.["VOLTLAKE_DATA_DIR"]])
    }
  })

  it("has an orchestrator with Spark by a profile, and lets the other one be left out", async () => {
    const [plain, spark] = ["orchestrator", "orchestrator-spark"].map((name) => project.services[name]!) as [ComposeProject.Service, ComposeProject.Service]
    expect(spark).toMatchObject({ profiles: ["spark"], command: plain.command!, user: plain.user!, read_only: true })
    const { BATCH_ENGINE, SPARK_CATALOG_TOKEN, SPARK_CATALOG_URI, ...alike } = spark.environment!
    expect(alike).toEqual(plain.environment)
    expect({ BATCH_ENGINE, SPARK_CATALOG_TOKEN }).toEqual({ BATCH_ENGINE: "spark", SPARK_CATALOG_TOKEN: "" })
    expect(SPARK_CATALOG_URI).toBe(`http://console:${project.services["console"]!.environment!["VOLTLAKE_PORT"]}/catalog`)
    const known = text("docs/CONFIG.md")
    for (const key of ["BATCH_ENGINE", "SPARK_CATALOG_TOKEN", "SPARK_CATALOG_URI"]) expect(known).toContain(`| \`${key}\` |`)
    const token = "writes-0123456789"
    const alone = await Effect.runPromise(ComposeProject.load([main], { ...env, ORCHESTRATORS: "0", CATALOG_WRITE_TOKEN: token }))
    expect(alone.services["orchestrator"]?.deploy?.replicas).toBe(0)
    expect(alone.services["orchestrator-spark"]?.environment?.["SPARK_CATALOG_TOKEN"]).toBe(token)
    expect(plain.deploy?.replicas).toBe(1)
  })

  it("gives Spark and its jars the versions that the tests run against", () => {
    const [image, jars, settings] = ["deploy/spark/Dockerfile", "deploy/spark/pom.xml", "deploy/spark/spark-defaults.conf"].map(text)
    const installed = text("tools/interop/src/Installed.ts")
    expect(image).toContain(`pyspark==${/pysparkVersion = "(.*)"/.exec(installed)?.[1]}`)
    const [, runtime, version] = /"org\.apache\.iceberg", "(.*)", "(.*)"/.exec(installed)!
    expect(Array.from(jars!.matchAll(/<version>(.*)<\/version>/g), ([, one]) => one).slice(1)).toEqual([version, version])
    expect(jars).toContain(`<artifactId>${runtime}</artifactId>`)
    for (const jar of [runtime, "iceberg-aws-bundle"]) expect(settings).toContain(`/opt/spark/iceberg/${jar}-${version}.jar`)
  })

  it("can be scaled where stages can", () => {
    for (const name of ["bronze", "silver", "gold"]) {
      expect(project.services[name]?.container_name).toBeUndefined()
      expect(project.services[name]?.ports).toBeUndefined()
    }
  })

  it("gives our processes settings that there are", () => {
    const known = new Set(Array.from(text("docs/CONFIG.md").matchAll(/^\| `(\w+)` \|/gm), ([, name]) => name!))
    expect(known.size).toBeGreaterThan(30)
    for (const [name, service] of processes()) {
      expect(Object.keys(service.environment ?? {}).filter((key) => !known.has(key)), name).toEqual([])
    }
  })

  it("keeps Kafka's records longer than any outage that is to lose nothing", () => {
    expect(Number(project.services["kafka"]?.environment?.["KAFKA_LOG_RETENTION_HOURS"])).toBeGreaterThanOrEqual(168)
  })

  it("builds its images from files that are there, with versions named", () => {
    const built = services.flatMap(([, { build }]) => (build === undefined ? [] : [join(build.context, build.dockerfile ?? "Dockerfile")]))
    for (const path of new Set([...built, "deploy/minio/Dockerfile"])) {
      const file = text(path.replace(`${repository}`, ""))
      for (const [, image] of file.matchAll(/^FROM (\S+)/gm)) expect(image, path).toMatch(/^[\w./-]+:[\w.-]+$/)
    }
    expect(text("deploy/Dockerfile")).toContain("USER 10001:10001")
  })

  it("names S3 servers of the versions that the tests run against", () => {
    const versions = text("tools/stack/src/Versions.ts")
    const version = (name: string) => new RegExp(`export const ${name} = "(.*)"`).exec(versions)?.[1]
    expect(text("deploy/s3/Dockerfile")).toContain(`:v${version("versitygw")}\n`)
    expect(text("deploy/minio/Dockerfile")).toContain(`@v${version("minio")}\n`)
    expect(project.services["kafka"]?.image).toBe(`apache/kafka:${version("kafka")}`)
  })
})
