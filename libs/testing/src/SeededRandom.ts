/** Randomness that a seed repeats (mulberry32), for what tests make up. */

export interface SeededRandom {
  /** From 0 up to 1. */
  readonly next: () => number
  /** From 0 up to below `n`. */
  readonly below: (n: number) => number
}

export const make = (seed: number): SeededRandom => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return { next, below: (n) => Math.floor(next() * n) }
}
