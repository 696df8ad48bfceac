import { eventLogContract } from "./EventLogContract.ts"
import { layer } from "./MemoryEventLog.ts"

eventLogContract("memory", layer)
