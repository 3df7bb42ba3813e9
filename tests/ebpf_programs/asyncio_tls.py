"""A TLS server and client that move the encrypted bytes themselves (asyncio). Argument: a PEM file."""
import asyncio
import ssl
import sys


async def serve(reader, writer):
    try:
        while (await reader.readuntil(b"\r\n\r\n")):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(sys.argv[1])
    client_context = ssl._create_unverified_context()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    sys.stdin.readline()
    for n in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        writer.write(b"GET /asyncio/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
        await reader.readuntil(b"ok")
        writer.close()
        await writer.wait_closed()
    print("done", flush=True)
    sys.stdin.readline()


asyncio.run(main())
