"""Answers requests until there are no more: `python -m voltlake_interop ENGINE`, a line of JSON each way."""
import importlib
import json
import os
import sys
import traceback

# What engines print is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

engine = importlib.import_module(f"voltlake_interop.{sys.argv[1]}_engine")
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"result": getattr(engine, request["name"])(**request["args"])}
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr)
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers, flush=True)
