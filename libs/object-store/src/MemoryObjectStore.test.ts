import { layer } from "./MemoryObjectStore.ts"
import { objectStoreContract } from "./ObjectStoreContract.ts"

objectStoreContract("memory", layer)
