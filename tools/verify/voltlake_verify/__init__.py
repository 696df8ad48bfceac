"""The independent verifier: recomputes what bronze, silver and gold must hold from the log's raw bytes, and shares no code with the product."""
