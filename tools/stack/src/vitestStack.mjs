// vitest's global setup of the tests against real servers: one stack for the run. It is held by a process of its own, which removes it when this
// one ends, however that happens: on Ctrl-C vitest calls no teardown.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const stack = () => `${process.env.VOLTLAKE_DIST ?? fileURLToPath(new URL("../../../dist", import.meta.url))}/stack.mjs`

/** Runs after ensureBuilt. */
export const setup = async (project) => {
  // The quick compiler alone: Kafka is up sooner and takes half the processor time, which for tests weighs more than its speed later.
  const env = { STACK_KAFKA_JVM: "-Xms256m -Xmx512m -XX:TieredStopAtLevel=1", ...process.env }
  // Detached, so that the terminal's Ctrl-C does not reach it before its work is done.
  const child = spawn(process.execPath, [stack(), "hold"], { detached: true, env, stdio: ["pipe", "pipe", "inherit"] })
  const ended = once(child, "close")
  const line = await Promise.race([
    once(createInterface({ input: child.stdout }), "line").then(([text]) => text),
    ended.then(([code]) => {
      throw new Error(`the stack for the tests did not start, see above (code ${code})`)
    })
  ])
  const { dir, env: variables, fetched } = JSON.parse(line)
  for (const { missing, server } of fetched) {
    if (missing !== null) console.log(`tests that need a real ${server} are skipped: ${missing}`)
  }
  project.provide("stack", { dir, env: variables })
  return async () => {
    child.stdin.end()
    await ended
  }
}
