/**
 * Which data files of a partition to merge. Pure.
 *
 * Files are sorted into classes by size, each {@link classRatio} times the one below. Files of a class are merged once there are enough of them, into
 * one of a class above: so a row is written anew once a class, whatever the rate of commits, and a partition that grows for a day holds a few dozen
 * files at any time. A partition that has come to rest is merged as far as the target size allows.
 */

const classRatio = 8
/** Files up to this share of the target size are of the classes that are merged; what is larger is done. */
const doneShare = 0.75

export interface MergeLimits {
  readonly targetBytes: number
  /** Files of one class that are worth merging. */
  readonly filesMin: number
  /** Most files of one merge. */
  readonly filesMax: number
}

interface Sized {
  readonly sizeBytes: number
  /** Others deleted rows of it: it is written anew even alone. */
  readonly hasDeletes: boolean
}

/** 0 for files that are done, 1 for the largest that are not, and so on. */
const classOf = (sizeBytes: number, { targetBytes }: MergeLimits): number => {
  const done = targetBytes * doneShare
  return sizeBytes >= done ? 0 : Math.ceil(Math.log(done / Math.max(sizeBytes, 1)) / Math.log(classRatio))
}

/** Files in their order, parted so that each part makes a file of at most the target size. */
const packed = <A extends Sized>(files: ReadonlyArray<A>, { filesMax, targetBytes }: MergeLimits): ReadonlyArray<ReadonlyArray<A>> => {
  const groups: Array<Array<A>> = []
  let bytes = Infinity
  for (const file of files) {
    const last = groups.at(-1)
    if (last === undefined || bytes + file.sizeBytes > targetBytes || last.length >= filesMax) {
      groups.push([file])
      bytes = file.sizeBytes
    } else {
      last.push(file)
      bytes += file.sizeBytes
    }
  }
  return groups
}

/** Groups of files to be merged into one each. `files` in the order in which their rows came; groups keep it. */
export const merges = <A extends Sized>(
  files: ReadonlyArray<A>,
  isAtRest: boolean,
  limits: MergeLimits
): ReadonlyArray<ReadonlyArray<A>> => {
  const open = files.filter((file) => file.hasDeletes || classOf(file.sizeBytes, limits) > 0)
  const isWorthIt = (group: ReadonlyArray<A>) => group.length > 1 || group.some((file) => file.hasDeletes)
  if (isAtRest) return packed(open, limits).filter(isWorthIt)
  const classes = new Map<number, Array<A>>()
  for (const file of open) {
    const of = classOf(file.sizeBytes, limits)
    classes.set(of, [...classes.get(of) ?? [], file])
  }
  return Array.from(classes.values()).flatMap((of) =>
    of.length >= limits.filesMin ? packed(of, limits).filter(isWorthIt) : of.filter((file) => file.hasDeletes).map((file) => [file]))
}
