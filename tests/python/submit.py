"""Asks for work with nothing but nats-py, and waits for the outcome: python3 submit.py echo '{"hi": 1}'"""

import asyncio, json, os, sys, uuid

import nats
from nats.errors import TimeoutError
from nats.js.errors import APIError, NoStreamResponseError


async def submit(nc, capability, body, headers=None, id=None):
    """Returns the id. Under one id it is one request, however often it is published."""
    id = id or "req_" + uuid.uuid4().hex
    headers = {"Sortie-Request-Id": id, "Nats-Msg-Id": id} | (headers or {})
    for _ in range(100):
        try:
            await nc.jetstream().publish(f"fleet.request.{capability}", body, timeout=5, headers=headers)
            return id
        except (APIError, TimeoutError, NoStreamResponseError) as error:
            last = error
            await asyncio.sleep(0.1)
    raise last


async def outcome(nc, id, within):
    """Listens first, then looks: so nothing is missed in between. A core message may be lost, so it looks again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    told = await nc.subscribe(f"fleet.told.{id}")
    try:
        while loop.time() < until:
            found = await nc.request(f"$JS.API.DIRECT.GET.FLEET_OUTCOMES.fleet.outcome.{id}", timeout=5)
            if (found.headers or {}).get("Status") != "404":
                return found.headers, found.data
            try:
                heard = await told.next_msg(timeout=min(2, max(0.1, until - loop.time())))
                return heard.headers, heard.data
            except TimeoutError:
                pass
    finally:
        await told.unsubscribe()
    raise TimeoutError


async def main(capability, body):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    id = await submit(nc, capability, body.encode())
    headers, data = await outcome(nc, id, within=60)
    print(id, headers.get("Sortie-Status", "completed"), json.dumps(json.loads(data)))
    await nc.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
