"""The equation check must notice each way in which a frame can go missing."""

import copy
from typing import Any

import pytest

from tests.kit.books import imbalance


def direction(read: int, delivered: int, drops: dict[str, int], kernel_tx: int, kernel_rx: int) -> dict[str, Any]:
    return {
        "read": read,
        "delivered": delivered,
        "merged": 0,
        "queued": 0,
        "dropped": sum(drops.values()),
        "drops": dict(drops),
        "kernel": {"tx_packets": kernel_tx, "rx_packets": kernel_rx},
    }


BALANCED = {
    "pairs": [
        {
            "uuid": "0",
            "ends": {
                "a": direction(10, 7, {"PKT_TOO_BIG": 3}, kernel_tx=10, kernel_rx=4),
                "b": direction(4, 4, {}, kernel_tx=4, kernel_rx=7),
            },
        }
    ]
}


def test_balanced_books() -> None:
    assert imbalance(BALANCED) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("read",), 11, "read 11 !="),
        (("delivered",), 8, "delivered 8"),
        (("merged",), 1, "merged 1"),
        (("queued",), 1, "queued 1"),
        (("dropped",), 2, "dropped 2"),
        (("drops", "PKT_TOO_BIG"), 4, "drop points"),
        (("kernel", "tx_packets"), 12, "the kernel transmitted 12"),
    ],
)
def test_each_wrong_number_is_noticed(path: tuple[str, ...], value: int, fault: str) -> None:
    books = copy.deepcopy(BALANCED)
    place: Any = books["pairs"][0]["ends"]["a"]  # type: ignore[index]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert any(fault in sentence for sentence in imbalance(books))


def test_a_frame_the_receiver_never_got_is_noticed() -> None:
    books: Any = copy.deepcopy(BALANCED)
    books["pairs"][0]["ends"]["b"]["kernel"]["rx_packets"] = 6
    assert imbalance(books) == ["pair 0 a->b: delivered 7, the kernel received 6"]


def test_frames_that_were_never_read_stand_outside() -> None:
    books: Any = copy.deepcopy(BALANCED)
    books["pairs"][0]["ends"]["a"]["drops"] |= {"TAP_RING": 5, "NO_CARRIER": 2}
    assert imbalance(books) == []
