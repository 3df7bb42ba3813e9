"""A server that answers on one thread: each request takes half a second and says so before it answers."""
import asyncio


async def serve(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)
    print("handling", head.split()[1].decode(), flush=True)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
