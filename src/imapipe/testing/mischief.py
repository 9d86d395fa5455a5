"""What faults do to a connection before a command is worked on."""

from __future__ import annotations

from .faults import (
    Act,
    Bandwidth,
    CutAfterBytes,
    CutInput,
    Delay,
    Drip,
    FiredFaults,
    Flood,
    Inject,
    InProgress,
    Rewrite,
    Stall,
)
from .host import Host
from .link import Disconnected, Link, OutputLimit
from .pace import CHUNK, Dripping, Pacer
from .records import CommandRecord


async def do_before(host: Host, link: Link, record: CommandRecord, fired: FiredFaults) -> None:
    """Let happen what fired for a command and does not answer it.

    Raises:
        Disconnected: The client has gone, or a fault ended the connection.
    """
    changes = [rewrite.change for rewrite in fired.of(Rewrite)]
    for act in fired.of(Act):
        if act.where == "before":
            act.action(record)
    for delay in fired.of(Delay):
        await host.sleep(delay.seconds)
    for bandwidth in fired.of(Bandwidth):
        link.pacers = [Pacer(bandwidth.bytes_per_second)]
    for drip in fired.of(Drip):
        link.dripping = Dripping(drip.count, drip.every_seconds, host.sleep)
    for cut in fired.of(CutAfterBytes):
        link.limits.append(OutputLimit(link.position + cut.choose_bytes(), cut.kind))
    for stall in fired.of(Stall):
        link.limits.append(OutputLimit(link.position + stall.after_bytes, "stall"))
    for inject in fired.of(Inject):
        if inject.where == "before":
            link.write(inject.data)
    for flood in fired.of(Flood):
        await _flood(host, link, flood)
    link.rewrite(changes)
    for progress in fired.of(InProgress):
        for step in range(progress.count):
            link.write(f'* OK [INPROGRESS ("{record.tag}" {step} {progress.count})] Working\r\n'.encode("ascii"))
            await link.flush()
            await host.sleep(progress.every_seconds)


async def _flood(host: Host, link: Link, flood: Flood) -> None:
    for _ in range(flood.count):
        link.write(flood.data)
        if flood.every_seconds:
            await link.flush()
            await host.sleep(flood.every_seconds)
        elif link.pending >= CHUNK:
            await link.flush()
    await link.flush()


def hang_up(link: Link, cut: CutInput) -> None:
    """End the connection before the command is done.

    Raises:
        Disconnected: Always.
    """
    link.cut = cut.kind
    link.close(reset=cut.kind == "reset")
    raise Disconnected
