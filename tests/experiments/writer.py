"""A process that keeps events until it is killed: `python writer.py FOLDER NUMBER SEED`.

Prints the id of each event after it is on the disk. Now and then tells an event again that it, or a writer before it,
has told; rotates and compacts all the time, so that a kill may come anywhere.
"""

import random
import sys
from pathlib import Path

import orjson

from twinspire.experiments.compact import Compactor
from twinspire.experiments.journal import Journal


def row(event_id: str) -> bytes:
    return orjson.dumps(
        {
            "timestamp": 1_760_000_000_000_000, "query": "red mug", "item_id": "i1", "user_id": "u1",
            "event": "purchase", "position": 1, "event_id": event_id, "value": 1.0,
        }
    )  # fmt: skip


def main(folder: str, number: int, seed: int) -> None:
    chance = random.Random(seed)
    journal, compactor = Journal(Path(folder), "interactions"), Compactor(Path(folder))
    told: list[str] = []
    while True:
        group = [f"{number}-{len(told) + place}" for place in range(chance.randint(1, 20))]
        if told and chance.random() < 0.3:
            group.append(chance.choice(told))
        if number and chance.random() < 0.3:
            group.append(f"{chance.randrange(number)}-{chance.randrange(20)}")
        journal.append([row(event_id) for event_id in group], sync=True)
        print("\n".join(group), flush=True)
        told += [event_id for event_id in group if event_id.startswith(f"{number}-") and event_id not in told[-40:]]
        if chance.random() < 0.2:
            journal.rotate()
        if chance.random() < 0.2:
            compactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
