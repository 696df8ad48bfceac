/** The dashboard as it comes from the server, kept up to date without a reload. */
import { Either, Schema } from "effect"
import { useEffect, useState } from "react"
import { Dashboard } from "@voltlake/api/LakeApi"

export interface Live {
  readonly dashboard: Dashboard | undefined
  readonly connection: "connecting" | "live" | "lost"
}

const decode = Schema.decodeUnknownEither(Schema.parseJson(Dashboard))

/** EventSource reconnects by itself; what is shown stays, marked as old, until it does. */
export const useLive = (): Live => {
  const [live, setLive] = useState<Live>({ dashboard: undefined, connection: "connecting" })
  useEffect(() => {
    const source = new EventSource("/api/live")
    source.onmessage = (message) => {
      const decoded = decode(message.data)
      if (Either.isRight(decoded)) setLive({ dashboard: decoded.right, connection: "live" })
    }
    source.onerror = () => setLive((known) => ({ ...known, connection: "lost" }))
    return () => source.close()
  }, [])
  return live
}
