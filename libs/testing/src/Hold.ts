/**
 * Holds a process at an exact place, without a word of its own: a session of the test's locks what the process is to write next, and the process is there once
 * one of its sessions waits for that.
 */
import { Client } from "pg"
import { waitFor } from "./Condition.ts"

export class Hold {
  private isHeld = true

  private constructor(private readonly client: Client, private readonly pid: number) {}

  /** Runs the statement in a transaction that stays open. */
  static async of(url: string, statement: string, values: ReadonlyArray<unknown> = []): Promise<Hold> {
    const client = new Client({ connectionString: url, application_name: "test holds" })
    // Where a test fails the server may end first.
    client.on("error", () => undefined)
    await client.connect()
    const { rows: [session] } = await client.query<{ readonly pid: number }>("SELECT pg_backend_pid() AS pid")
    await client.query("BEGIN")
    await client.query(statement, [...values])
    return new Hold(client, session!.pid)
  }

  /** Sessions that wait for what is held. */
  async waiting(): Promise<ReadonlyArray<number>> {
    // Within a transaction the server goes on showing the activity that was first asked for.
    await this.client.query("SELECT pg_stat_clear_snapshot()")
    const { rows } = await this.client.query<{ readonly pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND $1 = ANY (pg_blocking_pids(pid))",
      [this.pid]
    )
    return rows.map(({ pid }) => pid)
  }

  /** Waits until a process is there. */
  async reached(what: string): Promise<void> {
    await waitFor(what, async () => ((await this.waiting()).length > 0 ? true : undefined))
  }

  /**
   * Ends the sessions that wait, of a process that was killed: the server itself would notice that nobody is there only once it comes to answer, and would do
   * the statement before.
   */
  async endWaiting(): Promise<void> {
    await this.client.query("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", [await this.waiting()])
    await waitFor("the end of the dead process's sessions", async () => ((await this.waiting()).length === 0 ? true : undefined))
  }

  /** Lets it go on; what the statement did is undone. */
  async release(): Promise<void> {
    if (!this.isHeld) return
    this.isHeld = false
    await this.client.query("ROLLBACK")
    await this.client.end()
  }
}
