/** What an error of the file system means, in words that someone can act on. */

export interface FileFault {
  readonly code: string
  readonly reason: string
  readonly retryable: boolean
}

const faults: Readonly<Record<string, readonly [reason: string, retryable: boolean]>> = {
  ENOSPC: ["the disk is full", true],
  EDQUOT: ["the disk quota is used up", true],
  EACCES: ["permission denied", false],
  EPERM: ["the file system does not permit it (hard links are needed)", false],
  EROFS: ["the file system is read-only", false],
  EMFILE: ["this process has too many open files", true],
  ENFILE: ["the system has too many open files", true],
  EIO: ["the disk reported an input/output error", false],
  EXDEV: ["the store's folder spans more than one file system", false],
  ENOTDIR: ["a file stands where a folder is needed", false],
  EISDIR: ["a folder stands where a file is needed", false],
  ENAMETOOLONG: ["the path is too long", false],
  ENOENT: ["the file or a folder above it is gone", false],
  EMLINK: ["the file has too many links", false],
  EBUSY: ["the file is busy", true],
  ESTALE: ["the network file system lost the file", true],
  ETIMEDOUT: ["the network file system does not answer", true],
  ERR_FS_FILE_TOO_LARGE: ["the object is too large to hold in memory (2 GiB)", false]
}

/** The error code of a Node error, or an empty string. */
export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

export const fileFault = (cause: unknown): FileFault => {
  const code = codeOf(cause)
  const known = faults[code]
  if (known !== undefined) return { code, reason: `${known[0]} (${code})`, retryable: known[1] }
  return { code, reason: cause instanceof Error ? cause.message : String(cause), retryable: false }
}
