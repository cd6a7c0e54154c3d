"""Who may be whom: certificates turn over without a lost request, and nobody gets what belongs to another.

The certificates of the shop live for half a minute, and are renewed at half of that.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .load import Load, LoadWithin
from .rig import Mesh

PYTHON = sys.executable
INSIDE = Path(__file__).parent / "inside.py"

CALLER = "spiffe://cluster.local/ns/shop/sa/caller"
ECHO = "spiffe://cluster.local/ns/shop/sa/echo"


def issued(shop: Mesh) -> Counter[str]:
    """How many certificates each identity has been issued, by the authority's own record."""
    record = (shop.home / "controlplane" / "certificates.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["identity"] for line in record)


async def test_certificates_turn_over_at_half_life_without_a_request_being_lost(shop: Mesh) -> None:
    door = await shop.host_port("istio-ingress", "gateway")
    caller = await shop.host_port("shop", "caller")
    before = issued(shop)
    async with (
        Load(f"http://127.0.0.1:{door}/?delay=0.05", workers=2) as outside,
        LoadWithin(f"http://127.0.0.1:{caller}", "http://echo:8080/?delay=0.05", workers=2) as within,
        asyncio.timeout(60),
    ):
        # Both replicas of the server, and the client.
        while (now := issued(shop) - before)[ECHO] < 2 or now[CALLER] < 1:
            await outside.more(5)
        await outside.more(20)
        await within.more(20)
    assert outside.lost == []
    assert within.lost == []


def test_private_keys_are_nowhere_but_with_the_authority_and_the_api(shop: Mesh) -> None:
    in_memory = Path(f"/proc/{shop.agent().pid}/root{runtime_of(shop)}")
    looked_at = [file for root in (shop.directory, in_memory) for file in root.rglob("*") if file.is_file()]
    holding = {file for file in looked_at if b"PRIVATE KEY" in file.read_bytes()}
    assert len(looked_at) > 20
    assert shop.home / "controlplane" / "ca" / "ca-key.pem" in holding
    for file in holding:
        assert file.relative_to(shop.home).parts[0] in ("api", "controlplane", "kubeconfig"), file
        assert file.stat().st_mode & 0o077 == 0, file


def runtime_of(shop: Mesh) -> Path:
    """Where the mesh has its files in memory."""
    command = shop.find("envoy", MELTEMI_APP="echo")[0].command.split()
    return Path(command[command.index("--config-path") + 1]).parents[3]


async def token(shop: Mesh, account: str, audience: str = "istio-ca") -> str:
    """A token of a service account, as the API makes them for its pods."""
    async with shop.client() as client:
        return (await client.create_token("shop", account, [audience], 600)).token


async def attempt(shop: Mesh, what: str, *arguments: str) -> dict[str, Any]:
    """Have `inside.py` try something in the network of the mesh."""
    roots = (shop.home / "controlplane" / "ca" / "root-cert.pem").read_text()
    command: list[str | Path] = [PYTHON, INSIDE, str(shop.control_plane().pid), what, *arguments]
    done = await asyncio.to_thread(lambda: shop.run(*command, typed=roots))
    assert done.status == 0, done.text
    found: dict[str, Any] = json.loads(done.out)
    return found


async def test_a_token_gives_the_identity_of_its_own_account_whatever_is_asked_for(shop: Mesh) -> None:
    own = await attempt(shop, "sign", "15012", CALLER, await token(shop, "caller"))
    assert own == {"code": "OK", "identities": [CALLER]}
    other = await attempt(shop, "sign", "15012", ECHO, await token(shop, "caller"))
    assert other == {"code": "OK", "identities": [CALLER]} or other["code"] in ("7", "3")
    assert ECHO not in other.get("identities", ())


@pytest.mark.parametrize("kind", ["another audience", "forged", "none"])
async def test_without_a_token_for_the_authority_there_is_no_certificate(shop: Mesh, kind: str) -> None:
    good = await token(shop, "caller")
    head, _, signature = good.rpartition(".")
    tokens = {
        "another audience": await token(shop, "caller", "https://kubernetes.default.svc"),
        "forged": f"{head}.{signature[::-1]}",
        "none": "",
    }
    refused = await attempt(shop, "sign", "15012", CALLER, tokens[kind])
    assert refused["code"] == "16", refused  # UNAUTHENTICATED


def node(account: str, pod: str, namespace: str = "shop") -> str:
    """How a proxy introduces itself."""
    metadata = {"NAMESPACE": namespace, "SERVICE_ACCOUNT": account, "LABELS": {"app": account}, "CLUSTER_ID": "local"}
    return json.dumps(
        {"id": f"sidecar~10.244.9.9~{pod}.{namespace}~{namespace}.svc.cluster.local", "metadata": metadata}
    )


async def test_a_proxy_gets_its_own_configuration_and_nobody_elses(shop: Mesh) -> None:
    mine = await token(shop, "caller")
    own = await attempt(shop, "discover", "15011", CALLER, mine, node("caller", "caller-more"))
    assert own["code"] == "OK"
    assert any("echo.shop" in name for name in own["clusters"])
    for pretence in (node("echo", "echo-more"), node("caller", "caller-more", "istio-ingress"), node("gateway", "g")):
        refused = await attempt(shop, "discover", "15011", CALLER, mine, pretence)
        assert refused["code"] == "PERMISSION_DENIED", (pretence, refused)


INTRUDER = """
import ctypes, json, os, socket
from pathlib import Path

def refused(what):
    try: return f"done: {what()!r}"
    except OSError as error: return error.__class__.__name__

status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
libc = ctypes.CDLL(None, use_errno=True)

def call(result):
    if result: raise OSError(ctypes.get_errno(), "refused")

def mark():
    socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1337)

def flush():
    # NFT_MSG_DELTABLE for every table, in a batch.
    def message(kind, flags, family, body=b"", subsystem=10):
        head = (16 + 4 + len(body)).to_bytes(4, "little") + (subsystem << 8 | kind).to_bytes(2, "little")
        return head + flags.to_bytes(2, "little") + (1).to_bytes(4, "little") + bytes(4) + bytes([family, 0, 0, 10]) + body
    batch = message(0x10, 1, 0, subsystem=0) + message(2, 5, 0) + message(0x11, 1, 0, subsystem=0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.sendto(batch, (0, 0))
        while True:
            answer = netlink.recv(65536)
            code = -int.from_bytes(answer[16:20], "little", signed=True)
            if code: raise OSError(code, "refused")
            return "flushed"

others = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()]
def command(pid):
    try: return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0")[0].decode()
    except OSError: return ""
envoys = [pid for pid in others if command(pid).endswith("envoy")]
files = FILES
print(json.dumps({
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "no new privileges": status["NoNewPrivs"].strip(),
    "mark": refused(mark),
    "flush": refused(flush),
    "unmount": refused(lambda: call(libc.umount2(files[0].encode(), 2))),
    "raw": refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "envoys": len(envoys),
    "memory": [refused(lambda: open(f"/proc/{pid}/mem", "rb")) for pid in envoys],
    "root": [refused(lambda: os.listdir(f"/proc/{pid}/root")) for pid in envoys],
    "environment": [refused(lambda: open(f"/proc/{pid}/environ", "rb").read()) for pid in envoys],
    "pods seen": sorted({command(pid) for pid in others}),
    "files": {name: refused(lambda: os.listdir(name) if os.path.isdir(name) else open(name).read(9)) for name in files},
}))
"""


async def test_an_application_can_neither_undo_its_capture_nor_read_what_is_not_its_own(shop: Mesh) -> None:
    runtime = str(runtime_of(shop))
    state = shop.home / "controlplane"
    secret = [str(shop.home), runtime, str(state / "ca" / "ca-key.pem"), str(state / "kubeconfig")]
    secret += [str(shop.home / "kubeconfig"), f"{runtime}/s", f"{runtime}/pods", f"{runtime}/agent.sock"]
    caller = (await shop.pods("app=caller", 1))[0]["metadata"]["name"]
    program = INTRUDER.replace("FILES", repr(secret))
    done = shop.kubectl("exec", "-n", "shop", caller, "-c", "caller", "--", PYTHON, "-c", program)
    found: dict[str, Any] = json.loads(done.out)

    assert set(found["capabilities"]) == {"0000000000000000"}
    assert found["no new privileges"] == "1"
    assert found["mark"] == "PermissionError"
    assert found["flush"] == "PermissionError"
    assert found["unmount"] == "PermissionError"
    assert found["raw"] == "PermissionError"
    assert found["envoys"] <= 1
    for attempt in ("memory", "root", "environment"):
        assert set(found[attempt]) <= {"PermissionError"}, attempt
    assert not [name for name in found["pods seen"] if "echo" in name]
    for name, came in found["files"].items():
        assert came in ("FileNotFoundError", "PermissionError", "done: []"), (name, came)
