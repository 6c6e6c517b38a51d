import asyncio
import re
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import uvicorn
import uvloop

from serving.application import Application
from serving.connection import Connection, Counts, waited_s
from serving.edge import middlewares
from serving.request import ARRIVED

BODY = b'{"query":"red shoes"}'
ANSWERED, REFUSED = 200, 503


def request(path=b"/v1/search", body=BODY, method=b"POST", headers=b""):
    head = b"%s %s HTTP/1.1\r\nhost: t\r\n%scontent-length: %d\r\n\r\n"
    return head % (method, path, headers, len(body)) + body


class Replica:
    """A service whose searches have no time left, or those that have waited for longer than `allows` seconds."""

    def __init__(self, allows=-1.0):
        self.allows = allows

    def full(self, waited_s):
        return waited_s > self.allows


class Told:
    def __init__(self):
        self.lines = []
        self.slow_s = 1.0

    def write(self, **told):
        self.lines.append(told)


class Server:
    """uvicorn as a replica runs it; the application keeps what it got and says `ok`."""

    def __init__(self, app, log):
        self.app, self.log = app, log
        self.scopes, self.bodies = [], []
        self.address = None

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.scopes.append(scope)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @contextmanager
    def connected(self):
        with socket.create_connection(self.address, 5) as client:
            yield Client(client)

    def hold(self, seconds):
        self.loop.call_soon_threadsafe(time.sleep, seconds)


class Client:
    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def ask(self, *parts):
        for number, part in enumerate(parts):
            if number:
                time.sleep(0.05)
            self.sock.sendall(part)
        return self.answer()

    def answer(self):
        """Status, headers and body of the next answer."""
        while b"\r\n\r\n" not in self.buffer:
            self._read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        while len(self.buffer) < int(headers[b"content-length"]):
            self._read()
        length = int(headers[b"content-length"])
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(first.split()[1]), headers, body

    def _read(self):
        read = self.sock.recv(65536)
        assert read, "the server has closed the connection"
        self.buffer += read

    def is_silent(self):
        self.sock.settimeout(0.2)
        try:
            return not self.buffer and not self.sock.recv(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(5)


@pytest.fixture
def server(monkeypatch):
    middlewares()
    log = Told()
    made = Server(Application([], log=log), log)
    monkeypatch.setattr(Connection, "replica", (made.app, Replica()))
    listening = socket.create_server(("127.0.0.1", 0))
    made.address = listening.getsockname()
    made.running = running = uvicorn.Server(uvicorn.Config(made, lifespan="off", log_config=None))

    async def serve():
        made.loop = asyncio.get_running_loop()
        await running.serve(sockets=[listening])

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield made
    running.should_exit = True
    thread.join(10)
    listening.close()


def allow(server, seconds, monkeypatch):
    monkeypatch.setattr(Connection, "replica", (server.app, Replica(seconds)))


@pytest.mark.parametrize("path", [b"/v1/search", b"/v1/search:batch"])
def test_a_full_replica_refuses_searches_and_keeps_the_connection(server, monkeypatch, path):
    with server.connected() as client:
        for _ in range(3):
            status, headers, body = client.ask(request(path, headers=b"X-Request-Id: r1\r\n"))
            assert (status, headers[b"retry-after"], headers[b"x-request-id"]) == (REFUSED, b"1", b"r1")
            assert headers[b"content-type"] == b"application/problem+json"
            assert b"try again" in body
        assert server.app.refusals == {503: 3}
        told = [(line["request_id"], line["path"], line["status"]) for line in server.log.lines]
        assert told == [("r1", path.decode(), 503)] * 3
        allow(server, 5, monkeypatch)
        assert client.ask(request(path))[0] == ANSWERED
    assert server.bodies == [BODY]


def test_a_refusal_has_an_id_of_its_own_where_the_callers_is_none_for_a_log(server):
    with server.connected() as client:
        for given in (b"", b"x-request-id: a b\r\n", b"x-request-id: %d\r\n"):
            _, headers, _ = client.ask(request(headers=given))
            assert re.fullmatch(rb"[0-9a-f]{32}", headers[b"x-request-id"])


@pytest.mark.parametrize("path", [b"/v1/feedback", b"/v1/status", b"/"])
def test_what_is_no_search_is_let_in(server, path):
    with server.connected() as client:
        assert client.ask(request(path))[0] == ANSWERED


def test_an_id_in_the_body_is_none(server):
    with server.connected() as client:
        _, headers, _ = client.ask(request(body=b'{"q":1}\r\nx-request-id: b\r\n'))
    assert headers[b"x-request-id"] != b"b"


@pytest.mark.parametrize("line", [b"POST /v1/search HTTP/1.0", b"POST /v1/search HTTP/1.1\r\nConnection: close"])
def test_a_caller_who_wants_the_connection_closed_is_let_in_and_it_is(server, line):
    with server.connected() as client:
        status, _, _ = client.ask(line + b"\r\nhost: t\r\ncontent-length: 2\r\n\r\n{}")
        assert status == ANSWERED
        assert client.sock.recv(1) == b""


def test_what_is_no_http_is_not_refused_as_a_search(server):
    with server.connected() as client:
        assert client.ask(b"POST /v1/search garbage\r\ncontent-length: 2\r\n\r\n{}")[0] == 400


def test_a_caller_who_does_not_read_their_answers_gets_no_more_of_them(server):
    with server.connected() as client:
        assert client.ask(request())[0] == REFUSED
        (connection,) = server.running.server_state.connections
        server.loop.call_soon_threadsafe(connection.pause_writing)  # as the transport does when much is unsent
        time.sleep(0.1)
        client.sock.sendall(request())
        assert client.is_silent()
        server.loop.call_soon_threadsafe(connection.resume_writing)
        assert client.answer()[0] == ANSWERED


def test_what_comes_in_parts_is_let_in_whole(server):
    whole = request()
    with server.connected() as client:
        for at in (5, 15, 20, len(whole) - len(BODY), len(whole) - 1):
            assert client.ask(whole[:at], whole[at:])[0] == ANSWERED
    assert server.bodies == [BODY] * 5


def test_a_body_that_looks_like_a_search_is_a_body(server):
    """Were it answered, the next caller on the connection would get that answer in place of theirs."""
    fake = request()
    whole = request(b"/v1/feedback", fake + fake)
    head = whole[: -2 * len(fake)]
    with server.connected() as client:
        assert client.ask(head, fake, fake)[0] == ANSWERED
        assert client.is_silent()
    assert server.bodies == [fake + fake]
    assert server.app.refusals == {}


def test_several_requests_in_one_go_are_each_answered_once_and_in_turn(server):
    with server.connected() as client:
        client.sock.sendall(request(b"/v1/feedback") + request() + request(b"/v1/status"))
        assert [client.answer()[0] for _ in range(3)] == [ANSWERED] * 3
        assert client.is_silent()


def test_a_search_behind_one_that_is_at_work_is_not_answered_before_it(server, monkeypatch):
    allow(server, 5, monkeypatch)
    release = threading.Event()

    async def slow(scope, receive, send):
        await asyncio.to_thread(release.wait, 5)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"slow"})

    with server.connected() as client:
        first = request()
        monkeypatch.setattr(Server, "__call__", lambda self, *arguments: slow(*arguments))
        client.sock.sendall(first)
        time.sleep(0.1)
        allow(server, -1, monkeypatch)
        client.sock.sendall(request())
        time.sleep(0.1)
        release.set()
        assert client.answer()[2] == b"slow"


def test_what_waits_in_its_socket_waits(server, monkeypatch):
    """The event loop is held up; who comes at its end has not waited, and the others have for too long."""
    allow(server, 0.3, monkeypatch)
    with server.connected() as early, server.connected() as late:
        assert early.ask(request())[0] == late.ask(request())[0] == ANSWERED
        server.hold(0.6)
        time.sleep(0.1)
        early.sock.sendall(request())
        time.sleep(0.4)
        late.sock.sendall(request())
        assert (early.answer()[0], late.answer()[0]) == (REFUSED, ANSWERED)
    waited = server.log.lines[0]["took_ms"]
    assert 400 <= waited <= 1500


def test_the_application_learns_when_a_search_came(server, monkeypatch):
    allow(server, 5, monkeypatch)
    with server.connected() as client:
        server.hold(0.4)
        time.sleep(0.1)
        sent = time.perf_counter()
        assert client.ask(request())[0] == ANSWERED
    assert sent - 0.05 <= server.scopes[0][ARRIVED] <= sent + 0.1


class Counted:
    """In place of Ray Serve's counts."""

    def __init__(self):
        self.at_work, self.ended = 0, []

    def begin(self):
        self.at_work += 1

    def end(self, path, took_s):
        self.at_work -= 1
        self.ended.append((path, took_s < 5))


def test_searches_alone_go_past_serve_and_are_counted(server, monkeypatch):
    allow(server, 5, monkeypatch)
    counts = Counted()
    monkeypatch.setattr(Connection, "counts", counts)
    paths = [b"/v1/search", b"/v1/search:batch", b"/v1/searches", b"/v1/status"]
    with server.connected() as client:
        told = [client.ask(request(path, headers=b"x-request-id: r1\r\n")) for path in paths]
    # This application has no endpoints; what came to it says so in its own words, and names the request.
    assert [status for status, _, _ in told] == [404, 404, ANSWERED, ANSWERED]
    assert all(headers[b"x-request-id"] == b"r1" for _, headers, _ in told[:2])
    assert [scope["path"] for scope in server.scopes] == ["/v1/searches", "/v1/status"]
    assert (counts.at_work, counts.ended) == (0, [("/v1/search", True), ("/v1/search:batch", True)])


def test_a_refusal_is_not_counted_as_at_work(server, monkeypatch):
    counts = Counted()
    monkeypatch.setattr(Connection, "counts", counts)
    with server.connected() as client:
        assert client.ask(request())[0] == REFUSED
    assert (counts.at_work, counts.ended) == (0, [])


def test_without_a_replica_of_serve_there_are_no_counts():
    assert Counts.of(SimpleNamespace(app=SimpleNamespace(_app=Server(None, None)))) is None


def test_a_system_that_does_not_tell_how_long_is_no_wait():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert waited_s(ours) == 0
    assert waited_s(None) == 0
