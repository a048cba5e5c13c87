"""The ways to ask, as the wire contract tells them, each with what came of it. One JSON document on stdout."""

import asyncio, json, os, time
from datetime import datetime, timedelta, timezone

import nats

from submit import outcome, submit


def read(found):
    headers, data = found
    body = json.loads(data)
    return [headers.get("Sortie-Status"), body]


async def main():
    nc = await nats.connect(os.environ["NATS_URL"])
    js = nc.jetstream()
    told = {}

    ack = await js.publish("fleet.request.echo", b'{"n": 1}')
    told["no header"] = read(await outcome(nc, f"seq-{ack.seq}", 30))

    await submit(nc, "echo", b'{"n": 2}', id="twice")
    first = read(await outcome(nc, "twice", 30))
    again = await js.publish("fleet.request.echo", b'{"n": 2}', headers={"Sortie-Request-Id": "twice", "Nats-Msg-Id": "twice"})
    told["same id twice"] = [first, bool(again.duplicate)]

    await js.publish("fleet.bulk.echo", b'{"n": 3}', headers={"Nats-Msg-Id": "by-message-id"})
    told["message id as id"] = read(await outcome(nc, "by-message-id", 30))

    ack = await js.publish("fleet.request.echo", b"{}", headers={"Sortie-Timeout": "soon", "Sortie-Request-Id": "lies"})
    status, failure = read(await outcome(nc, f"seq-{ack.seq}", 30))
    told["invalid header"] = [status, failure["code"]]

    info = json.loads((await nc.request("$JS.API.STREAM.INFO.FLEET_REQUESTS")).data)
    due = datetime.fromisoformat(info["ts"]) + timedelta(seconds=1)
    began = time.monotonic()
    await js.publish(
        "fleet.later.delayed",
        b'{"n": 5}',
        headers={
            "Sortie-Request-Id": "delayed",
            "Nats-Msg-Id": "delayed",
            "Nats-Schedule": "@at " + due.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "Nats-Schedule-Target": "fleet.request.echo",
            "Nats-Expected-Last-Subject-Sequence": "0",
        },
    )
    told["delayed"] = read(await outcome(nc, "delayed", 30)) + [time.monotonic() - began >= 0.9]

    ack = await js.publish("fleet.unique.echo.customer-7", b'{"n": 6}')
    told["unique"] = [read(await outcome(nc, f"useq-{ack.seq}", 30)), f"useq-{ack.seq}"]

    store = await js.object_store("fleet-payloads")
    await store.put("large-by-python", json.dumps("x" * 600_000).encode())
    await submit(nc, "echo", b"", {"Sortie-Payload-Ref": "large-by-python"}, id="large")
    headers, _ = await outcome(nc, "large", 30)
    body = (await store.get(headers["Sortie-Payload-Ref"])).data
    told["large"] = [headers["Sortie-Status"], len(json.loads(body))]

    try:
        import msgpack
    except ImportError:
        told["msgpack"] = "no module"
    else:
        await submit(nc, "echo", msgpack.packb({"n": 8}), {"Content-Type": "application/msgpack"}, id="packed")
        headers, data = await outcome(nc, "packed", 30)
        told["msgpack"] = [headers["Sortie-Status"], headers["Content-Type"], msgpack.unpackb(data)]

    print(json.dumps(told))
    await nc.close()


asyncio.run(main())
