"""Serves `mixed` as the body wishes, beside a worker of another language that does the same: see other_language.rs."""

import asyncio

from agent import Failure, serve


async def mixed(request, body):
    await asyncio.sleep(body.get("seconds", 0))
    if body["do"] == "fail":
        raise Failure("as_wished", f"failed at attempt {request.attempt}", retryable=False)
    if body["do"] == "retry" and request.attempt == 1:
        raise Failure("not_yet", "once more")
    return {"by": "python", "n": body["n"], "attempt": request.attempt}


asyncio.run(serve("mixed", mixed, slots=4))
