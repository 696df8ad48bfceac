import { Effect, Layer } from "effect"
import { join } from "node:path"
import * as LocalObjectStore from "@voltlake/object-store/LocalObjectStore"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import { parquetPreviewContract } from "./ParquetPreviewContract.ts"

const local = Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) => LocalObjectStore.layer(join(folder, "warehouse"))))

parquetPreviewContract("in memory", MemoryObjectStore.layer)
parquetPreviewContract("on disk", local)
