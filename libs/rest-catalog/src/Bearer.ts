/** Tokens in the header `Authorization: Bearer`. */
import { createHash, timingSafeEqual } from "node:crypto"

const digest = (text: string) => createHash("sha256").update(text).digest()

/** Takes the same time wherever the two differ. */
export const isSame = (given: string, expected: string): boolean => timingSafeEqual(digest(given), digest(expected))

export const bearerOf = (authorization: string | undefined): string | undefined => {
  const [scheme, given] = (authorization ?? "").split(" ")
  return scheme?.toLowerCase() === "bearer" && given !== "" ? given : undefined
}
