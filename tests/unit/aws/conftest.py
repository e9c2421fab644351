import asyncio

# looptime asks for the current loop before synchronous tests too, and asyncio would make one there that nobody closes.
asyncio.set_event_loop(None)
