"""The smallest Sortie agent: python3 small.py echo"""

import asyncio, json, os, random, sys

import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js.errors import APIError, NoStreamResponseError


async def handle(body):
    if not isinstance(body, dict):
        raise ValueError("an object is expected")
    return body


async def settle(js, subject, body, headers):
    """Stores a message that must be the first on its subject. True: it is stored. False: another one was first."""
    while True:
        try:
            headers["Nats-Expected-Last-Subject-Sequence"] = "0"
            await js.publish(subject, body, timeout=5, headers=headers)
            return True
        except APIError as error:
            if error.err_code == 10071:
                return False
        except (TimeoutError, NoStreamResponseError):
            pass
        await asyncio.sleep(random.uniform(0.01, 0.1))  # nothing else settles it: again


async def stored_outcome(nc, id):
    while True:
        try:
            found = await nc.request(f"$JS.API.DIRECT.GET.FLEET_OUTCOMES.fleet.outcome.{id}", timeout=5)
            return None if (found.headers or {}).get("Status") == "404" else found
        except (TimeoutError, NoRespondersError):
            await asyncio.sleep(0.1)


async def bury(js, capability, id, msg, failure, now):
    letter = {"id": id, "capability": capability, "failure": failure, "attempt": 1, "dead_at": now}
    headers = {"Sortie-Request-Id": id, "Sortie-Capability": capability, "Sortie-Dead-Letter": json.dumps(letter)}
    await settle(js, f"fleet.dead.{capability}.{id}", msg.data, headers)


async def extend(msg):
    while True:
        await asyncio.sleep(2)
        await msg.in_progress()  # +WPI


async def process(nc, js, capability, msg):
    headers = msg.headers or {}
    id = headers.get("Sortie-Request-Id") or headers.get("Nats-Msg-Id") or f"seq-{msg.metadata.sequence.stream}"
    now = msg.metadata.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = await stored_outcome(nc, id)
    if found is None:
        outcome = {"Sortie-Request-Id": id, "Sortie-Capability": capability, "Content-Type": "application/json"}
        try:
            status, result = "completed", await handle(json.loads(msg.data or b"null"))
        except Exception as error:
            status, result = "failed", {"code": "handler_failed", "message": str(error)}
        is_first = await settle(js, f"fleet.outcome.{id}", json.dumps(result).encode(), outcome | {"Sortie-Status": status})
        if is_first and status == "failed":
            await bury(js, capability, id, msg, result, now)
        elif not is_first:
            found = await stored_outcome(nc, id)
            if found is None:  # a replica that is behind
                return await msg.nak(delay=0.05)
    if found is not None and found.headers.get("Sortie-Status") == "failed":
        await bury(js, capability, id, msg, json.loads(found.data), now)
    await msg.ack()


async def main(capability):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)
    js = nc.jetstream()
    pull = await js.pull_subscribe_bind(consumer=capability, stream="FLEET_REQUESTS")
    while True:
        try:
            [msg] = await pull.fetch(1, timeout=10)
        except (TimeoutError, APIError):
            continue
        extending = asyncio.create_task(extend(msg))
        await process(nc, js, capability, msg)
        extending.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
