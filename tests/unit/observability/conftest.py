"""One loop less."""

import asyncio

# Asked about a synchronous test while no loop was ever set, looptime makes one (policy.get_event_loop()) that nobody
# closes; its ResourceWarning would then fail some later test.
asyncio.set_event_loop(None)
