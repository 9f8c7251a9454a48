"""asyncio: tasks share one connection and do not wait for each other."""

import asyncio

import inmem


async def work(run: inmem.aio.AsyncRun, name: str) -> None:
    for _ in range(5):
        await run.kv.incr("steps")
    await run.kv.put(f"done/{name}", True)


async def main() -> None:
    async with inmem.AsyncClient() as client:
        run = await client.run((await client.runs.begin()).info.id)
        await asyncio.gather(*(work(run, name) for name in ["ada", "bob", "cy"]))
        print(await run.kv.get("steps"))
        print([entry.key async for entry in run.kv.scan_all("done/")])


asyncio.run(main())

#> 15
#> ['done/ada', 'done/bob', 'done/cy']
