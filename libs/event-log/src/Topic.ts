/** What a topic may be called and how large it may be. */

const namePattern = /^[A-Za-z0-9._~-]{1,249}$/
export const partitionsMax = 10_000

/** Says what is wrong, or undefined. Names are Kafka's, and `~`, after which an incarnation's number may stand. */
export const topicFault = (topic: string, partitions: number): string | undefined => {
  if (!namePattern.test(topic)) return "a topic's name has 1 to 249 of the characters A-Z a-z 0-9 . _ - ~"
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > partitionsMax) {
    return `a topic has 1 to ${partitionsMax} partitions`
  }
  return undefined
}
