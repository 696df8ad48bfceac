/** What is killed when, by the seed: processes in turn, so that none is spared, and each server once between them. */
import type { ServerName } from "@voltlake/stack/Server"
import type { SeededRandom } from "@voltlake/testing/SeededRandom"

export interface Kill {
  readonly atMs: number
  /** A process by its name, or a server. */
  readonly target: string
  /** For a server: how long it stays away before it is started again. */
  readonly awayMs?: number
}

const awayMsMax = 3_000

const shuffled = <A>(random: SeededRandom, items: ReadonlyArray<A>): ReadonlyArray<A> => {
  const out = [...items]
  for (let at = out.length - 1; at > 0; at--) {
    const other = random.below(at + 1)
    const moved = out[at]!
    out[at] = out[other]!
    out[other] = moved
  }
  return out
}

/** `kills` kills of processes, one in each slot of time, and each server's somewhere in a slot of its own. */
export const make = (
  random: SeededRandom,
  processes: ReadonlyArray<string>,
  kills: number,
  slotMs: number,
  servers: ReadonlyArray<ServerName>
): ReadonlyArray<Kill> => {
  const rounds = Array.from({ length: Math.ceil(kills / processes.length) }, () => shuffled(random, processes)).flat().slice(0, kills)
  // Not before the first processes have begun to work.
  const slots: Array<Pick<Kill, "target" | "awayMs">> = rounds.map((target) => ({ target }))
  const places = shuffled(random, servers)
  places.forEach((target, at) => {
    const place = Math.floor(((at + 0.5 + random.next() * 0.5) * slots.length) / places.length)
    slots.splice(place, 0, { target, awayMs: 500 + random.below(awayMsMax) })
  })
  return slots.map((slot, at) => ({ ...slot, atMs: Math.round((at + 0.5 + random.next() * 0.5) * slotMs) }))
}
