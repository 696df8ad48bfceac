/** Waiting for a condition, with a limit: what tests do in place of sleeping for luck. */
import { setTimeout as sleep } from "node:timers/promises"

const pollMs = 50
const limitMs = 45_000

/** Asks until the answer is not undefined. Gives up with what was wanted, and the last error where asking failed. */
export const waitFor = async <A>(what: string, ask: () => Promise<A | undefined> | A | undefined): Promise<A> => {
  const until = performance.now() + limitMs
  let failure: unknown
  while (performance.now() < until) {
    try {
      const answer = await ask()
      if (answer !== undefined) return answer
      failure = undefined
    } catch (error) {
      failure = error
    }
    await sleep(pollMs)
  }
  throw new Error(`waited ${limitMs} ms in vain: ${what}`, { cause: failure })
}
