"""Pods as processes: real namespaces, real links, real rules; as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meltemi.api.core import ConfigMap, Pod, Sealed, Secret
from meltemi.api.meta import ObjectMeta
from meltemi.kube.errors import BadRequest
from meltemi.local.backoff import Backoff
from meltemi.local.door import Door
from meltemi.testing.pods import RunnerWorld, pod_of, runner_world
from meltemi.testing.sandboxed import Scenario, run_sandboxed

pytestmark = pytest.mark.e2e

Run = Callable[[Scenario], None]
PYTHON = sys.executable


@pytest.fixture(params=["root", "ordinary user"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario in a sandbox, once as root and once as an ordinary user."""
    as_root = request.param == "root"
    if as_root and os.getuid() != 0:
        pytest.skip("needs root: the other case runs the scenario as this user")
    return lambda scenario: run_sandboxed(scenario, ordinary_user=not as_root)


def web_server(port: int = 8080) -> list[str]:
    """The command of a web server that shows the files of its working directory."""
    return [PYTHON, "-m", "http.server", str(port)]


async def fetch(address: str, port: int) -> int:
    """The status of a GET of / from the sandbox's own network."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


def test_a_pod_answers_from_its_own_address(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            probe = {"httpGet": {"port": "web", "path": "/"}}
            container = {
                "name": "app",
                "command": web_server(80),
                "workingDir": "/usr",
                "ports": [{"name": "web", "containerPort": 80}],
                "readinessProbe": probe,
            }
            server = world.add(pod_of({"containers": [container]}, name="server"))
            status = await world.ready(server)
            assert await fetch(status.pod_ip, 80) == 200
            ask = f"import urllib.request; print(urllib.request.urlopen('http://{status.pod_ip}/').status)"
            client = world.add(
                pod_of({"containers": [{"name": "app", "command": [PYTHON, "-c", ask]}], "restartPolicy": "Never"})
            )
            assert (await world.finished(client)).phase == "Succeeded"
            assert await world.log(client) == "200\n"
            assert world.statuses[client.metadata.uid].pod_ip != status.pod_ip

    run(scenario)


def shell(script: str, **more: object) -> dict[str, object]:
    """A container that runs a script."""
    return {"name": "app", "command": ["/bin/sh", "-c", script], **more}


def once(*containers: dict[str, object], **more: object) -> dict[str, object]:
    """The spec of a pod whose containers run once."""
    return {"containers": list(containers), "restartPolicy": "Never", **more}


def test_a_container_gets_its_environment_from_every_source(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            meta = ObjectMeta(name="settings", namespace="default")
            world.config_maps["default", "settings"] = ConfigMap(metadata=meta, data={"colour": "blue", "size": "7"})
            world.secrets["default", "vault"] = Secret(data={"key": Sealed(b"s3cret")})
            env = [
                {"name": "GREETING", "value": "hello"},
                {"name": "PHRASE", "value": "$(GREETING) $(POD) $$(GREETING) $(NOBODY)"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "key"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "no", "optional": True}}},
            ]
            container = shell(
                'echo "$PHRASE|$KEY|$IP|$LABEL|$S_colour|$S_size|${NONE-unset}|$(hostname)|$0"',
                env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *env],
                envFrom=[{"prefix": "S_", "configMapRef": {"name": "settings"}}],
                args=["$(GREETING)!"],
            )
            pod = world.add(pod_of(once(container), labels={"tier": "front"}))
            status = await world.finished(pod)
            expected = f"hello shop $(GREETING) $(NOBODY)|s3cret|{status.pod_ip}|front|blue|7|unset|shop|hello!\n"
            assert await world.log(pod) == expected

    run(scenario)


def test_volumes_appear_as_files_where_nothing_was_and_follow_their_objects(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            world.config_maps["default", "page"] = ConfigMap(data={"index.html": "first", "other": "x"})
            world.secrets["default", "vault"] = Secret(data={"key": Sealed(b"s3cret")})
            volumes = [
                {"name": "page", "configMap": {"name": "page"}},
                {"name": "vault", "secret": {"secretName": "vault", "items": [{"key": "key", "path": "deep/key"}]}},
                {"name": "scratch", "emptyDir": {}},
                {
                    "name": "about",
                    "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]},
                },
                {
                    "name": "all",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"path": "token", "audience": "istio-ca"}},
                            {"configMap": {"name": "page", "items": [{"key": "other", "path": "y"}]}},
                        ]
                    },
                },
            ]
            mounts = [
                {"name": "page", "mountPath": "/srv-of-mine/page"},
                {"name": "vault", "mountPath": "/etc/vault"},
                {"name": "scratch", "mountPath": "/scratch"},
                {"name": "about", "mountPath": "/etc/about"},
                {"name": "all", "mountPath": "/var/run/secrets/all"},
                {"name": "page", "mountPath": "/etc/page.html", "subPath": "index.html"},
            ]
            writer = {
                "name": "writer",
                "command": ["/bin/sh", "-c", "echo made > /scratch/file"],
                "volumeMounts": mounts,
            }
            spec = {
                "initContainers": [writer],
                "containers": [shell("exec sleep 1000", volumeMounts=mounts)],
                "volumes": volumes,
            }
            pod = world.add(pod_of(spec))
            await world.ready(pod)
            files = "/srv-of-mine/page/index.html /etc/vault/deep/key /scratch/file /etc/about/name /etc/page.html"
            text = await world.output(pod, "/bin/sh", "-c", f"cat {files}; cat /var/run/secrets/all/*")
            assert text == "firsts3cretmade\nshopfirstistio-ca/shop/1x"
            assert (await world.output(pod, "touch", "/srv-of-mine/page/new")).endswith("[1]")
            watch = "until grep -q second /srv-of-mine/page/index.html; do sleep 0.02; done; cat /srv-of-mine/page/*"
            watching = asyncio.ensure_future(world.output(pod, "/bin/sh", "-c", watch))
            world.config_maps["default", "page"] = ConfigMap(data={"index.html": "second"})
            world.runner.object_changed("default")
            with pytest.raises(ValueError, match="is not in list"):
                (await watching).split().index("x")
        assert not Path("/srv-of-mine").exists()

    run(scenario)


def test_a_pod_waits_for_what_it_refers_to_and_starts_when_it_is_there(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world(backoff=Backoff(first=30, longest=30)) as world:
            env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]
            pod = world.add(pod_of(once(shell("echo $A", env=env))))
            await world.until(lambda: reason(world, pod) == "CreateContainerConfigError")
            state = world.container(pod).state
            assert state is not None
            assert state.waiting is not None
            assert state.waiting.message == "configmap 'late' not found"
            world.config_maps["default", "late"] = ConfigMap(data={"a": "now"})
            world.runner.object_changed("default")
            await world.finished(pod)
            assert await world.log(pod) == "now\n"
            assert world.container(pod).restart_count == 0

    run(scenario)


def test_a_crash_restarts_the_container_with_back_off(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            pod = world.add(pod_of({"containers": [shell("echo run >> $HOME/runs; cat $HOME/runs; exit 3")]}))
            await world.until(lambda: world.container(pod).restart_count >= 3)
            await world.until(lambda: reason(world, pod) == "CrashLoopBackOff")
            status = world.container(pod)
            assert status.last_state is not None
            assert status.last_state.terminated is not None
            assert (status.last_state.terminated.exit_code, status.last_state.terminated.reason) == (3, "Error")
            assert not status.ready
            assert (await world.log(pod, previous=True)).startswith("run\nrun\n")
            assert any(
                event == ("shop", "BackOff", "Back-off 0.05s restarting container app") for event in world.events
            )

    run(scenario)


def test_a_command_that_does_not_exist_is_named_in_the_status(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            pod = world.add(pod_of({"containers": [{"name": "app", "command": ["bookshopp", "--port", "1"]}]}))
            await world.until(lambda: reason(world, pod) == "CommandNotFound")
            state = world.container(pod).state
            assert state is not None
            assert state.waiting is not None
            assert state.waiting.message.startswith("the command 'bookshopp' was not found: it is not in PATH=")
            no_command = world.add(pod_of({"containers": [{"name": "app", "image": "nginx"}]}, name="imaged"))
            await world.until(lambda: reason(world, no_command) == "CreateContainerConfigError")

    run(scenario)


def test_init_containers_run_in_turn_and_native_sidecars_stay(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            mounts = [{"name": "s", "mountPath": "/shared"}]

            def step(name: str, script: str, **more: object) -> dict[str, object]:
                return {"name": name, "command": ["/bin/sh", "-c", script], "volumeMounts": mounts, **more}

            helper = step("helper", "echo helper >> /shared/order; exec sleep 1000", restartPolicy="Always")
            spec = {
                "initContainers": [step("one", "echo one >> /shared/order"), helper, step("two", "cat /shared/order")],
                "containers": [step("app", "kill -0 1; cat /shared/order")],
                "volumes": [{"name": "s", "emptyDir": {}}],
                "restartPolicy": "Never",
            }
            pod = world.add(pod_of(spec))
            assert (await world.finished(pod)).phase == "Succeeded"
            assert await world.log(pod) == "one\nhelper\n"
            failing = world.add(
                pod_of(once(shell("true"), initContainers=[step("bad", "exit 4")], volumes=spec["volumes"]))
            )
            assert (await world.finished(failing)).phase == "Failed"

    run(scenario)


def test_probes_flip_readiness_and_liveness_restarts(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            check = {
                "exec": {"command": ["/bin/sh", "-c", "test -e $HOME/up"]},
                "periodSeconds": 1,
                "failureThreshold": 1,
            }
            pod = world.add(pod_of({"containers": [shell("exec sleep 1000", readinessProbe=check)]}))
            await world.until(lambda: world.container(pod).started is True)
            assert not world.is_ready(pod)
            Path("up").touch()
            await world.ready(pod)
            Path("up").unlink()
            await world.until(lambda: not world.is_ready(pod))
            assert any("Readiness probe failed" in message for _, _, message in world.events)
            live = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
            dying = world.add(pod_of({"containers": [shell("exec sleep 1000", livenessProbe=live)]}, name="dying"))
            await world.until(lambda: world.container(dying).restart_count >= 1)
            ended = world.container(dying).last_state
            assert ended is not None
            assert ended.terminated is not None
            assert ended.terminated.message == "the container was ended because it failed its liveness probe"

    run(scenario)


_HEALTH = """
import concurrent.futures, grpc
def check(request, context):
    if request not in (b"", b"\\x0a\\x04shop"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\\x08\\x01"
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
handler = grpc.unary_unary_rpc_method_handler(check)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})])
server.add_insecure_port("0.0.0.0:9000")
server.start()
server.wait_for_termination()
"""


def test_grpc_probes_ask_the_health_service(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            command = [PYTHON, "-c", _HEALTH]

            def asked(name: str, service: str) -> Pod:
                probe = {"grpc": {"port": 9000, "service": service}, "periodSeconds": 1}
                container = {"name": "app", "command": command, "readinessProbe": probe}
                return world.add(pod_of({"containers": [container]}, name=name))

            good, whole, strange = asked("good", "shop"), asked("whole", ""), asked("strange", "nobody")
            await world.ready(good)
            await world.ready(whole)
            refused = "Readiness probe failed: the health service does not say SERVING"
            await world.until(lambda: ("strange", "Unhealthy", refused) in world.events)
            assert not world.is_ready(strange)

    run(scenario)


def test_a_deleted_pod_gets_sigterm_then_its_grace_period_then_sigkill(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            kind = shell("trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.02; done")
            stubborn = shell("trap '' TERM; echo up; while :; do sleep 0.02; done")
            polite = world.add(pod_of({"containers": [kind]}, name="polite"))
            rude = world.add(pod_of({"containers": [stubborn]}, name="rude"))
            await world.ready(polite)
            await world.ready(rude)
            for pod in (polite, rude):
                ready = "until grep -q . /proc/1/comm; do :; done"
                assert await world.output(pod, "/bin/sh", "-c", ready) == ""
            world.delete(polite, grace=30)
            world.delete(rude, grace=1)
            await world.until(lambda: {polite.metadata.uid, rude.metadata.uid} <= world.removed_uids)
            codes = [world.container(pod).state for pod in (polite, rude)]
            assert [state.terminated.exit_code for state in codes if state and state.terminated] == [0, 137]
            assert not list(Path("run").iterdir())

    run(scenario)


def test_exec_runs_beside_the_container_with_input_and_with_a_terminal(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            pod = world.add(pod_of({"containers": [shell("exec sleep 1000", env=[{"name": "A", "value": "1"}])]}))
            await world.ready(pod)
            assert await world.output(pod, "/bin/sh", "-c", "echo $A; exit 5") == "1\n[5]"
            assert await world.output(pod, "cat", stdin=b"typed") == "typed"
            script = "test -t 0 && until [ \"$(stty size)\" = '31 101' ]; do :; done; echo yes"
            assert await world.output(pod, "/bin/sh", "-c", script, tty=True) == "yes\r\n"
            with pytest.raises(BadRequest):
                await world.output(pod, "true", container="nobody")

    run(scenario)


def test_a_pod_whose_namespaces_were_killed_starts_again_under_its_address(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            pod = world.add(pod_of({"containers": [shell("exec sleep 1000")]}))
            before = await world.ready(pod)
            namespaces = world.run_of(pod).namespaces
            assert namespaces is not None
            namespaces.holder.signal(signal.SIGKILL)
            await world.until(lambda: not world.is_ready(pod))
            after = await world.ready(pod)
            assert after.pod_ip == before.pod_ip

    run(scenario)


def reason(world: RunnerWorld, pod: Pod) -> str:
    """Why the container app waits."""
    state = world.container(pod).state
    return state.waiting.reason if state and state.waiting else ""


def test_the_end_of_the_runner_is_not_the_end_of_its_pods(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            pod = world.add(pod_of({"containers": [shell("exec sleep 1000")]}))
            before = await world.ready(pod)
            await world.runner.stop(grace=2)
            assert not world.runner.pods()
            assert world.statuses[pod.metadata.uid] == before
            assert not world.removed_uids

    run(scenario)
