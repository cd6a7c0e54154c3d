"""Pod and the template of pods. Source: Kubernetes core/v1.

Modelled is what a mesh reads (labels, ports, addresses, readiness) and what the runner of pods on one machine honours:
commands, environment, probes, volumes of configuration, hooks and restart policy.
"""

from __future__ import annotations

from msgspec import field

from meltemi.api.core.volumes import EnvFromSource, EnvVar, Volume, VolumeMount
from meltemi.api.meta import Condition, CorePart, ObjectMeta, Resource
from meltemi.api.scalars import IntOrString, Port, PortOrZero


class ContainerPort(CorePart, frozen=True, kw_only=True):
    """A port on which a container listens."""

    container_port: Port
    name: str = ""
    protocol: str = "TCP"
    host_port: PortOrZero = 0


class HttpHeader(CorePart, frozen=True, kw_only=True):
    """A header that a probe sends."""

    name: str
    value: str = ""


class HttpGetAction(CorePart, frozen=True, kw_only=True):
    """A GET request; a status from 200 to 399 is success."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocketAction(CorePart, frozen=True, kw_only=True):
    """A TCP connection; that it opens is success."""

    port: IntOrString
    host: str = ""


class ExecAction(CorePart, frozen=True, kw_only=True):
    """A command in the container; exit code 0 is success."""

    command: tuple[str, ...] = ()


class GrpcAction(CorePart, frozen=True, kw_only=True):
    """A gRPC health check (`grpc.health.v1`)."""

    port: Port
    service: str = ""


class SleepAction(CorePart, frozen=True, kw_only=True):
    """A pause, in seconds."""

    seconds: int = 0


class Probe(CorePart, frozen=True, kw_only=True):
    """One way to ask a container how it is, and how often. All times in seconds."""

    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(CorePart, frozen=True, kw_only=True):
    """What is done after a start or before a stop."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(CorePart, frozen=True, kw_only=True):
    """Hooks in a container's life."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str = ""


class ResourceRequirements(CorePart, frozen=True, kw_only=True):
    """What a container asks for and may use; quantities such as `100m` or `64Mi`, or plain numbers."""

    requests: dict[str, int | float | str] = {}
    limits: dict[str, int | float | str] = {}


class SecurityContext(CorePart, frozen=True, kw_only=True):
    """The rights of a container's processes."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    privileged: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None


class PodSecurityContext(CorePart, frozen=True, kw_only=True):
    """The rights of a pod's processes, where a container says nothing."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()


class Container(CorePart, frozen=True, kw_only=True):
    """A process with its environment. On one machine `image` is ignored: `command` and `args` say what runs."""

    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: tuple[VolumeMount, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str = ""
    security_context: SecurityContext | None = None
    termination_message_path: str = ""


class HostAlias(CorePart, frozen=True, kw_only=True):
    """A line of `/etc/hosts`."""

    ip: str = ""
    hostnames: tuple[str, ...] = ()


class DnsOption(CorePart, frozen=True, kw_only=True):
    """An option of `/etc/resolv.conf`."""

    name: str = ""
    value: str = ""


class PodDnsConfig(CorePart, frozen=True, kw_only=True):
    """What stands in a pod's `/etc/resolv.conf` besides what the policy puts there."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()


class ReadinessGate(CorePart, frozen=True, kw_only=True):
    """A condition that must hold, besides the containers', for the pod to be ready."""

    condition_type: str = ""


class PodSpec(CorePart, frozen=True, kw_only=True):
    """The containers of a pod and what they share."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    host_aliases: tuple[HostAlias, ...] = ()
    dns_policy: str = "ClusterFirst"
    dns_config: PodDnsConfig | None = None
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    security_context: PodSecurityContext | None = None
    node_name: str = ""
    readiness_gates: tuple[ReadinessGate, ...] = ()
    share_process_namespace: bool = False
    enable_service_links: bool = True


class ContainerStateRunning(CorePart, frozen=True, kw_only=True):
    """Since when a container runs."""

    started_at: str = ""


class ContainerStateWaiting(CorePart, frozen=True, kw_only=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class ContainerStateTerminated(CorePart, frozen=True, kw_only=True):
    """How a container ended."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""


class ContainerState(CorePart, frozen=True, kw_only=True):
    """One of three states."""

    running: ContainerStateRunning | None = None
    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(CorePart, frozen=True, kw_only=True):
    """How a container is."""

    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodIp(CorePart, frozen=True, kw_only=True):
    """One of a pod's addresses."""

    ip: str = ""


class PodStatus(CorePart, frozen=True, kw_only=True):
    """How a pod is, and its addresses."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[PodIp, ...] = field(name="podIPs", default=())
    host_ip: str = field(name="hostIP", default="")
    start_time: str = ""
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the pod takes traffic."""
        return any(condition.type == "Ready" and condition.status == "True" for condition in self.conditions)


class Pod(Resource, frozen=True, kw_only=True):
    """Processes that share an address."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodTemplate(CorePart, frozen=True, kw_only=True):
    """What pods are made of (Kubernetes `PodTemplateSpec`)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
