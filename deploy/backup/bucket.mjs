// Copies the tables' objects to a folder and back: `node bucket.mjs save FOLDER`, `node bucket.mjs restore FOLDER`. No object of ours ever changes under
// its name, so what is there in the same size stays, and a second run copies what is new. Nothing is deleted on either side.
// WAREHOUSE, S3_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
import { GetObjectCommand, HeadObjectCommand, paginateListObjectsV2, PutObjectCommand, S3Client } from "@aws-sdk/client-s3"
import { createReadStream, createWriteStream } from "node:fs"
import { mkdir, readdir, rename, stat } from "node:fs/promises"
import { dirname, join, relative, resolve, sep } from "node:path"
import { pipeline } from "node:stream/promises"

const atOnce = 8

const fail = (message) => {
  console.error(`bucket: ${message}`)
  process.exit(1)
}

const [what, given] = process.argv.slice(2)
if (!["save", "restore"].includes(what) || given === undefined) fail("save FOLDER or restore FOLDER")
const [, bucket, prefix = ""] = /^s3:\/\/([^/]+)\/?(.*?)\/?$/.exec(process.env.WAREHOUSE ?? "") ?? fail("WAREHOUSE is not set to s3://bucket or s3://bucket/prefix")
const folder = resolve(given)
const endpoint = process.env.S3_ENDPOINT
const client = new S3Client({ maxAttempts: 5, ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }) })
const start = prefix === "" ? "" : `${prefix}/`

/** Runs `work` on every item, some at once; answers how many it did something for. */
const forEach = async (items, work) => {
  let done = 0
  const next = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]()
  const worker = async () => {
    for (;;) {
      const { done: isEnd, value } = await next.next()
      if (isEnd) return
      if (await work(value)) done++
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return done
}

async function* objects() {
  for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: start })) yield* page.Contents ?? []
}

const save = ({ Key, Size }) => {
  const path = resolve(folder, ...Key.slice(start.length).split("/"))
  if (!path.startsWith(folder + sep)) fail(`the object ${Key} would lie outside of ${folder}`)
  return stat(path).then((found) => found.size === Size, () => false).then(async (isThere) => {
    if (isThere) return false
    await mkdir(dirname(path), { recursive: true })
    const object = await client.send(new GetObjectCommand({ Bucket: bucket, Key })).catch((error) => {
      // Deleted since it was listed: no table has named it for a long time.
      if (error.name === "NoSuchKey") return undefined
      throw error
    })
    if (object === undefined) return false
    await pipeline(object.Body, createWriteStream(`${path}.part`))
    // Under its name it is whole.
    await rename(`${path}.part`, path)
    return true
  })
}

const restore = async (path) => {
  const Key = start + relative(folder, path).split(sep).join("/")
  const { size } = await stat(path)
  const there = await client.send(new HeadObjectCommand({ Bucket: bucket, Key })).catch(() => undefined)
  if (there?.ContentLength === size) return false
  await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: createReadStream(path), ContentLength: size }))
  return true
}

const files = async () => {
  const found = await readdir(folder, { recursive: true, withFileTypes: true })
  return found.filter((entry) => entry.isFile() && !entry.name.endsWith(".part")).map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

try {
  const count = what === "save" ? await forEach(objects(), save) : await forEach(await files(), restore)
  console.log(`${count} objects copied ${what === "save" ? "from" : "to"} ${process.env.WAREHOUSE}`)
} catch (error) {
  fail(`${error.name}: ${error.message}`)
}
