"""Several queues per end: what is seen of them, and that no frame overtakes another of its flow."""

from collections import defaultdict

from tests.kit.commands import in_netns, ip_json
from tests.kit.packets import PacketSocket
from tests.pairs.flows import FLOWS, flow_frame, number_in
from tests.parity.link import End, PairUnderTest
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

QUEUES = 4
FRAMES = 30  # of each flow


def queues_in_sysfs(end: End) -> list[str]:
    return sorted(in_netns(end.netns, "ls", f"/sys/class/net/{end.name}/queues").out.split())


@scenario
def several_queues(link: PairUnderTest, out: Outcome) -> None:
    """What tools show of them, and whether their number may change."""
    link.create(up=False, queues=QUEUES)
    wanted = sorted(f"{way}-{number}" for way in ("rx", "tx") for number in range(QUEUES))
    for letter, end in link.ends():
        out.see(f"{letter}: in sysfs", queues_in_sysfs(end), wanted)
        shown = ip_json(end.netns, "link", "show", "dev", end.name)[0]
        out.see(f"{letter}: numtxqueues, numrxqueues", (shown["num_tx_queues"], shown["num_rx_queues"]), (4, 4))
    link.up()
    out.wait("qdisc", lambda: link.a.state().qdisc, "noqueue")
    out.see("one qdisc", in_netns(link.a.netns, "tc", "qdisc", "show", "dev", link.a.name).out.count("qdisc"), 1)
    changed = in_netns(link.a.netns, "ethtool", "-L", link.a.name, "rx", "2", "tx", "2", check=False)
    out.see("ethtool -L", changed.ok, True)
    out.see("queues afterwards", len(queues_in_sysfs(link.a)), 4)


def cross(sender: PacketSocket, receiver: PacketSocket, direction: int, first: int) -> list[tuple[int, int]]:
    """Send FRAMES of each flow, in portions that no queue on the way is too short for; what arrives."""
    arrived: list[tuple[int, int]] = []
    for number in range(first, first + FRAMES):
        for flow in range(FLOWS):
            sender.send(flow_frame(flow, number, direction))
        arrived += [number_in(arrival.data) for arrival in receiver.collect(FLOWS)]
    return arrived


@scenario
def order_of_flows_over_several_queues(link: PairUnderTest, out: Outcome) -> None:
    """64 flows, IPv4 and IPv6, with tags and without, in lengths that change; answers in between."""
    link.create(queues=QUEUES)
    arrived: dict[tuple[int, int], list[int]] = defaultdict(list)
    with link.a.socket() as a, link.b.socket() as b:
        for first in (0, FRAMES):
            for direction, (sender, receiver) in enumerate(((a, b), (b, a))):
                for flow, number in cross(sender, receiver, direction, first):
                    arrived[direction, flow].append(number)
    out.see("flows that arrive", len(arrived), 2 * FLOWS)
    out.see("whole and in order", all(numbers == list(range(2 * FRAMES)) for numbers in arrived.values()), True)
