"""The open-loop client against a server whose delays are known."""

import asyncio

import numpy as np

from benchmarks.over_http.open_loop import Client

ANSWER = b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}"


async def asked(handle, rate, seconds):
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        return await Client(f"http://127.0.0.1:{port}/x", [b'{"a":1}', b"{}"], rate, seconds).run()


def answering(status=200, stall_s=0.0, closes=False):
    """A server that stalls on its 50th request, all its connections waiting."""
    count, free = 0, asyncio.Event()
    free.set()

    async def handle(reader, writer):
        nonlocal count
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length:")[1].split()[0])
            await reader.readexactly(length)
            count += 1
            if stall_s and count == 50:
                free.clear()
                asyncio.get_running_loop().call_later(stall_s, free.set)
            await free.wait()
            if closes and count % 7 == 0:
                writer.close()
                return
            writer.write(ANSWER % status)

    async def guarded(reader, writer):
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return guarded


def test_all_are_asked_and_a_stall_delays_all_that_were_due_in_it():
    async def main():
        return await asked(answering(stall_s=0.4), rate=500, seconds=1)

    seen = asyncio.run(main())
    assert seen.status == [200] * 500
    ms = np.array(seen.ms)
    assert ms.max() > 370
    assert (ms > 100).sum() > 100, "those that were due meanwhile waited too"
    summary = seen.summary(1)
    assert (summary["asked a second"], summary["status"]) == (500, {"200": 500})


def test_what_is_said_to_an_idle_connection_is_no_answer():
    """As HAProxy does: 408, and the connection ends."""

    async def handle(reader, writer):
        try:
            while True:
                async with asyncio.timeout(0.03):
                    head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
                writer.write(ANSWER % 200)
        except TimeoutError:
            writer.write(b"HTTP/1.0 408 Request Time-out\r\n\r\n<html>")
            writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        return await asked(handle, rate=12, seconds=2)

    assert asyncio.run(main()).summary(2)["status"] == {"200": 24}


def test_refusals_and_broken_connections_are_counted():
    async def main(**how):
        return await asked(answering(**how), rate=200, seconds=0.5)

    assert asyncio.run(main(status=503)).summary(0.5)["status"] == {"503": 100}
    lost = asyncio.run(main(closes=True)).summary(0.5)["status"]
    assert sum(lost.values()) == 100
    assert 5 < lost["0"] < 40
