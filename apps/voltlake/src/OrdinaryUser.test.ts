// Root has its own way to run PostgreSQL (under another account). Whoever runs the tests as root tries the ordinary way here.
import * as fs from "node:fs/promises"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { repository } from "@voltlake/testing/VoltlakeProcess"
import { TestLake } from "@voltlake/testing/TestLake"

const nobody = { uid: 65_534, gid: 65_534 }

/** The first folder on the way to the repository, or to Node, that other accounts may not enter. */
const closedFolder = async (): Promise<string | undefined> => {
  for (const end of [join(repository, "node_modules"), dirname(process.execPath)]) {
    for (let folder = end; folder !== dirname(folder); folder = dirname(folder)) {
      const { mode } = await fs.stat(folder)
      if ((mode & 0o001) === 0) return folder
    }
  }
  return undefined
}

describe.skipIf(process.getuid?.() !== 0)("as an ordinary user (tried when the tests run as root)", () => {
  let lake: TestLake
  beforeAll(async () => {
    lake = await TestLake.make({ account: nobody, env: { HOME: "/nonexistent" } })
  })
  afterAll(() => lake.close())

  it("replays, verifies and leaves nothing running, all of it that user's own", async (context) => {
    const closed = await closedFolder()
    if (closed !== undefined) context.skip(`another account cannot enter ${closed}`)
    const file = await lake.file("events.ndjson", Array.from({ length: 100 }, (_, index) =>
      JSON.stringify({ event_id: `e${index}`, vehicle_id: "v", event_time: "2025-06-01T10:00:00Z" })).join("\n"))
    expect(await lake.replay([file])).toMatchObject({ events: 100, silver: 100, rejected: 0 })
    expect(await lake.breaches()).toEqual([])
    expect(await lake.isServerLeft()).toBe(false)
    for (const name of await fs.readdir(lake.dataDir, { recursive: true })) {
      expect((await fs.lstat(join(lake.dataDir, name))).uid, name).toBe(nobody.uid)
    }
  })
})
