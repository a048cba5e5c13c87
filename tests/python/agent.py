"""A whole Sortie agent with nothing but nats-py and Python 3.11: deadlines, retries, dead letters, the registry.
It serves one capability: python3 agent.py echo"""

import asyncio, json, os, random, re, signal, socket, sys, time, uuid
from datetime import datetime, timedelta, timezone

import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js.errors import APIError, NoStreamResponseError

NS, REQUESTS, OUTCOMES = "fleet", "FLEET_REQUESTS", "FLEET_OUTCOMES"
INSTANCE = "ins_" + uuid.uuid4().hex
FOREVER = {10054, 10097}  # too large: refused again however often it is tried


class Failure(Exception):
    def __init__(self, code, message, retryable=True):
        super().__init__(message)
        self.code, self.retryable = code, retryable


def timestamp(moment):
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Request:
    """What the headers say. A ValueError is `invalid_header`."""

    def __init__(self, msg):
        self.msg, self.all = msg, msg.headers or {}
        self.own = {name.lower(): value for name, value in self.all.items()}
        self.id = f"seq-{msg.metadata.sequence.stream}"
        given = self.own.get("sortie-request-id")
        if given is not None:
            is_ours = given.startswith("seq-") and "nats-scheduler" in self.own
            if not is_ours and not valid_id(given):
                raise ValueError(f"Sortie-Request-Id: `{given}` is not an id")
            self.id = given
        elif valid_id(self.own.get("nats-msg-id", "")):
            self.id = self.own["nats-msg-id"]
        self.place = f"{NS}.outcome.{self.id}"
        if "sortie-reply-to" in self.own:  # a step of a run: its outcome goes into the run's log, and nowhere else
            self.place = self.own["sortie-reply-to"]
            [_, _, run, _, step, item, _] = self.place.split(".")
            self.id = f"{run}~{step}~{item}"
        self.attempt = int(self.own.get("sortie-attempt", 1))
        self.attempts_max = int(self.own.get("sortie-max-attempts", 3))
        self.timeout = self.own.get("sortie-timeout", "60s")
        self.failures = json.loads(self.own.get("sortie-failures", "[]"))
        deadline = self.own.get("sortie-deadline")
        self.deadline = datetime.fromisoformat(deadline) if deadline else None

    @classmethod
    def refused(cls, msg):
        """One whose headers lie: it has an outcome all the same, under the id of its sequence."""
        request = cls.__new__(cls)
        request.msg, request.all, request.own, request.deadline = msg, msg.headers or {}, {}, None
        request.id, request.attempt, request.failures = f"seq-{msg.metadata.sequence.stream}", 1, []
        request.place = f"{NS}.outcome.{request.id}"
        return request

    def foreign(self):
        return {n: v for n, v in self.all.items() if not n.lower().startswith(("nats-", "sortie-"))}


def valid_id(text):
    is_token = re.fullmatch(r"[!-)+-\-/-=?-}]{1,200}", text) and not text.isdigit()
    return bool(is_token) and not text.startswith(("seq-", "useq-"))


class Agent:
    def __init__(self, nc, capability, handle):
        self.nc, self.js, self.capability, self.handle = nc, nc.jetstream(), capability, handle

    async def begin(self):
        """The deadline of a delivery and the broker's clock."""
        answer = await self.nc.request(f"$JS.API.CONSUMER.INFO.{REQUESTS}.{self.capability}", timeout=5)
        info = json.loads(answer.data)
        if "error" in info:
            sys.exit(f"no consumer: sortie topology apply --capability {self.capability}")
        self.ack_wait = info["config"]["ack_wait"] / 1e9
        self.offset = datetime.fromisoformat(info["ts"]) - datetime.now(timezone.utc)

    async def run(self, slots, stopping):
        consumers = [f"{self.capability}_urgent", self.capability, f"{self.capability}_bulk"]
        await asyncio.gather(*(self.loop(name, stopping) for name in consumers for _ in range(slots)))

    def now(self):
        return datetime.now(timezone.utc) + self.offset

    async def loop(self, consumer, stopping):
        pull = await self.js.pull_subscribe_bind(consumer=consumer, stream=REQUESTS)
        while not stopping.is_set():
            try:
                [msg] = await pull.fetch(1, timeout=2)  # one message, because one loop is one slot
            except (TimeoutError, APIError):
                continue
            held = [time.monotonic()]
            extending = asyncio.create_task(self.extend(msg, held))
            try:
                await self.process(msg, held)
            finally:
                extending.cancel()

    async def extend(self, msg, held):
        while True:
            await asyncio.sleep(self.ack_wait / 6)
            asked = time.monotonic()
            try:
                await self.nc.request(msg.reply, b"+WPI", timeout=self.ack_wait / 6)
                held[0] = asked
            except (TimeoutError, NoRespondersError):
                pass

    async def process(self, msg, held):
        try:
            request, refused = Request(msg), None
        except ValueError as error:
            request, refused = Request.refused(msg), Failure("invalid_header", str(error), retryable=False)
        found = await self.outcome(request.id)
        if found is not None:  # done by somebody; a failed one may lack its dead letter
            if found.headers.get("Sortie-Status") == "failed":
                await self.bury(request, json.loads(found.data))
            return await msg.ack()
        if refused:
            return await self.give_up(request, refused, held)
        if request.deadline and self.now() >= request.deadline:
            return await self.expire(request)
        try:
            body = await self.body(request)
            result = await asyncio.wait_for(self.handle(request, body), seconds(request.timeout))
        except asyncio.TimeoutError:
            failure = Failure("timeout", f"the attempt took longer than {request.timeout}")
        except Failure as known:
            failure = known
        except Exception as error:
            failure = Failure("handler_failed", str(error))
        else:
            return await self.conclude(request, "completed", json.dumps(result).encode())
        delay = timedelta(seconds=random.uniform(0, min(300, 2 ** (request.attempt - 1))))
        too_late = request.deadline and self.now() + delay >= request.deadline
        if not failure.retryable or request.attempt >= request.attempts_max or too_late:
            return await self.give_up(request, failure, held)
        await self.retry(request, failure, max(delay, timedelta(milliseconds=250)), held)

    async def body(self, request):
        msg, object_name = request.msg, request.own.get("sortie-payload-ref")
        if request.own.get("content-type", "application/json").split(";")[0].strip() != "application/json":
            raise Failure("content_type_unsupported", "send application/json", retryable=False)
        data = msg.data if not object_name else (await (await self.js.object_store(f"{NS}-payloads")).get(object_name)).data
        try:
            return json.loads(data or b"null")
        except ValueError as error:
            raise Failure("invalid_input", str(error), retryable=False)

    async def conclude(self, request, status, body):
        await self.store_outcome(request, status, body)
        await request.msg.ack()

    async def store_outcome(self, request, status, body):
        headers = {
            "Sortie-Request-Id": request.id, "Sortie-Status": status, "Sortie-Capability": self.capability,
            "Sortie-Attempt": str(request.attempt), "Sortie-Instance": INSTANCE, "Content-Type": "application/json",
        }
        return await self.settle(request.place, body, headers, expect_none=True)

    async def expire(self, request):
        failure = Failure("deadline_exceeded", "the deadline passed before the request was done", retryable=False)
        await self.conclude(request, "expired", json.dumps(as_json(failure, [])).encode())

    async def give_up(self, request, failure, held):
        if self.is_lost(held):
            return
        document = as_json(failure, request.failures + [self.record(request, failure)])
        if not await self.store_outcome(request, "failed", json.dumps(document).encode()):
            found = await self.outcome(request.id)  # another outcome was first, or an earlier try of this one
            if found is None:  # a replica that is behind: the message comes again
                return await request.msg.nak(delay=0.05)
            if found.headers.get("Sortie-Status") != "failed":
                return await request.msg.ack()
            document = json.loads(found.data)
        await self.bury(request, document)
        await request.msg.ack()

    async def bury(self, request, failure):
        if "sortie-reply-to" in request.own:
            return
        letter = {
            "id": request.id, "capability": self.capability, "failure": failure,
            "attempt": request.attempt, "instance": INSTANCE, "dead_at": timestamp(self.now()),
        }
        headers = request.foreign() | {
            "Sortie-Request-Id": request.id, "Sortie-Capability": self.capability, "Sortie-Dead-Letter": json.dumps(letter),
        }
        for name in ("Payload-Ref", "Parent", "Timeout", "Backoff", "Max-Attempts", "Replay-Of"):
            if value := request.own.get(f"sortie-{name.lower()}"):
                headers[f"Sortie-{name}"] = value
        await self.settle(f"{NS}.dead.{self.capability}.{request.id}", request.msg.data, headers, expect_none=True)

    async def retry(self, request, failure, delay, held):
        if self.is_lost(held):
            return
        resolved = {name: value for name, value in request.all.items() if name.lower().startswith("sortie-")}
        failures = (request.failures + [self.record(request, failure)])[-10:]
        snoozes = request.own.get("sortie-snoozes", "0")
        headers = request.foreign() | resolved | {
            "Sortie-Request-Id": request.id,
            "Sortie-Attempt": str(request.attempt + 1),
            "Sortie-Max-Attempts": str(request.attempts_max),
            "Sortie-Backoff": request.own.get("sortie-backoff", "exponential; first=1s; factor=2; cap=5m; jitter=full"),
            "Sortie-Timeout": request.timeout,
            "Sortie-Failures": json.dumps(failures),
            "Nats-Schedule": "@at " + timestamp(self.now() + delay),
            "Nats-Schedule-Target": request.msg.subject,
            "Nats-Msg-Id": f"{request.id}:{request.attempt + 1}.{snoozes}",
        }
        # What waits there already is this request, and maybe further.
        await self.settle(f"{NS}.later.{request.id}", request.msg.data, headers, expect_none=True)
        await request.msg.ack()

    def record(self, request, failure):
        at = timestamp(self.now())
        return {"attempt": request.attempt, "code": failure.code, "message": str(failure)[:300], "instance": INSTANCE, "at": at}

    def is_lost(self, held):
        return time.monotonic() - held[0] >= self.ack_wait

    async def outcome(self, id):
        while True:
            try:
                answer = await self.nc.request(f"$JS.API.DIRECT.GET.{OUTCOMES}.{NS}.outcome.{id}", timeout=5)
            except (TimeoutError, NoRespondersError):
                await asyncio.sleep(0.1)
                continue
            return None if (answer.headers or {}).get("Status") == "404" else answer

    async def settle(self, subject, body, headers, expect_none=False):
        """Publishes until it is settled: true if it is stored, false if another message was first."""
        if expect_none:
            headers = headers | {"Nats-Expected-Last-Subject-Sequence": "0"}
        while True:
            try:
                stored = await self.js.publish(subject, body, timeout=5, headers=headers)
                if not stored.duplicate:
                    return True
                # Stored once, which does not say that it, or what came of it, is still there.
                headers = {name: value for name, value in headers.items() if name != "Nats-Msg-Id"}
                continue
            except APIError as error:
                if error.err_code == 10071:
                    return False
                if error.err_code in FOREVER:
                    raise
            except (TimeoutError, NoStreamResponseError):
                pass  # it may be stored or not: only the next answer tells
            await asyncio.sleep(random.uniform(0.01, 0.1))

    async def register(self, kind, every=10):
        """Being seen by `sortie agents list`: an entry that expires unless it is written again."""
        started = timestamp(self.now())
        while True:
            entry = {
                "instance": INSTANCE, "kind": kind, "version": "1.0.0", "host": socket.gethostname(), "pid": os.getpid(),
                "state": "ready", "health": "healthy", "capabilities": [{"name": self.capability}], "slots": 1,
                "slots_busy": 0, "counts": {"completed": 0, "failed": 0, "retried": 0, "superseded": 0},
                "started_at": started, "seen_at": timestamp(self.now()),
            }
            await self.settle(f"$KV.{NS}-agents.{kind}.{INSTANCE}", json.dumps(entry).encode(), {"Nats-TTL": "30s"})
            await asyncio.sleep(every)


def as_json(failure, attempts):
    return {"code": failure.code, "message": str(failure)[:2048], "category": "execution", "severity": "medium",
            "retryable": failure.retryable, "attempts": attempts}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


async def serve(capability, handle, slots=4, kind="python-agent"):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), ping_interval=2, max_reconnect_attempts=-1)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    agent = Agent(nc, capability, handle)
    await agent.begin()
    registering = asyncio.create_task(agent.register(kind))
    await agent.run(slots, stopping)
    registering.cancel()
    await nc.flush()
    await nc.close()


async def echo(request, body):
    return body


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], echo))
