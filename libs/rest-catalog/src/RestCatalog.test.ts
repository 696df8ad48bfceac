import { Layer } from "effect"
import * as MemoryCatalog from "@voltlake/iceberg/MemoryCatalog"
import * as MemoryObjectStore from "@voltlake/object-store/MemoryObjectStore"
import { contract } from "./RestCatalogContract.ts"

contract("memory", Layer.merge(MemoryCatalog.layer, MemoryObjectStore.layer))
