import asyncio
import socket
import time

import pytest
import uvicorn
import uvloop

from serving.edge import ACCEPTORS, middlewares


def passed_on(path, headers):
    (middleware,) = middlewares()
    seen = []

    async def inner(scope, receive, send):
        seen.extend(scope["headers"])

    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(middleware.cls(inner)(scope, None, None))
    return seen


@pytest.mark.parametrize(
    "header",
    [
        (b"x-request-id", b"\xff\xfe"),
        (b"\xff", b"a"),
        (b"x-request-timeout-seconds", b"inf"),
        (b"x-request-disconnect-disabled", b"?1"),
    ],
)
def test_headers_that_serve_may_fail_on_are_taken_out(header):
    kept = (b"content-type", b"application/json")
    assert passed_on("/v1/status", [header, kept]) == [kept]


def test_a_crowd_of_new_connections_is_let_in_within_a_few_turns_of_a_busy_event_loop():
    """One a turn, as libuv has it, would let the last one wait for as many turns as there are connections."""
    middlewares()
    crowd, turns = 4 * ACCEPTORS, 0

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main():
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        clients = [socket.create_connection(address) for _ in range(crowd)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        loop, busy = asyncio.get_running_loop(), True

        def turn():
            nonlocal turns
            turns += 1
            time.sleep(0.002)
            if busy:
                loop.call_soon(turn)

        turn()
        await asyncio.to_thread(lambda: [client.recv(1024) for client in clients])
        busy = False
        for client in clients:
            client.close()
        server.should_exit = True
        await serving
        with pytest.raises(ConnectionRefusedError):  # nothing listens any more
            socket.create_connection(address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert turns < crowd / 2
