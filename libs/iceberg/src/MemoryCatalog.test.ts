import { contract } from "./CatalogContract.ts"
import * as MemoryCatalog from "./MemoryCatalog.ts"

contract("MemoryCatalog", MemoryCatalog.layer)
