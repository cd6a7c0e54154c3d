"""Where a container's environment and files come from. Source: Kubernetes core/v1."""

from __future__ import annotations

from msgspec import field

from meltemi.api.meta import CorePart


class KeySelector(CorePart, frozen=True, kw_only=True):
    """A key of a ConfigMap or Secret of the same namespace."""

    name: str = ""
    key: str
    optional: bool = False


class FieldSelector(CorePart, frozen=True, kw_only=True):
    """A field of the pod, such as `metadata.name` or `status.podIP`."""

    field_path: str
    api_version: str = "v1"


class ResourceFieldSelector(CorePart, frozen=True, kw_only=True):
    """A request or limit of a container, such as `limits.cpu`."""

    resource: str
    container_name: str = ""
    divisor: int | str = ""


class EnvVarSource(CorePart, frozen=True, kw_only=True):
    """Where the value of a variable comes from: exactly one of these."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None


class EnvVar(CorePart, frozen=True, kw_only=True):
    """A variable of the environment. `$(NAME)` in `value` stands for an earlier variable."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ObjectSource(CorePart, frozen=True, kw_only=True):
    """A ConfigMap or Secret, all of whose keys become variables."""

    name: str = ""
    optional: bool = False


class EnvFromSource(CorePart, frozen=True, kw_only=True):
    """All keys of an object as variables, with a prefix."""

    prefix: str = ""
    config_map_ref: ObjectSource | None = None
    secret_ref: ObjectSource | None = None


class KeyToPath(CorePart, frozen=True, kw_only=True):
    """A key and the file, relative to the volume, that holds its value."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapVolume(CorePart, frozen=True, kw_only=True):
    """The keys of a ConfigMap as files. No items: all keys, under their own names."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(CorePart, frozen=True, kw_only=True):
    """The keys of a Secret as files. No items: all keys, under their own names."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class EmptyDirVolume(CorePart, frozen=True, kw_only=True):
    """A directory that lives as long as the pod."""

    medium: str = ""
    size_limit: int | str = ""


class HostPathVolume(CorePart, frozen=True, kw_only=True):
    """A directory or file of the machine."""

    path: str
    type: str = ""


class DownwardFile(CorePart, frozen=True, kw_only=True):
    """A file that holds a field of the pod."""

    path: str
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardVolume(CorePart, frozen=True, kw_only=True):
    """Fields of the pod as files (Kubernetes `DownwardAPIVolumeSource`)."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class ObjectProjection(CorePart, frozen=True, kw_only=True):
    """Keys of a ConfigMap or Secret within a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class DownwardProjection(CorePart, frozen=True, kw_only=True):
    """Fields of the pod within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


class TokenProjection(CorePart, frozen=True, kw_only=True):
    """A service account token for an audience, renewed before it expires."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class VolumeProjection(CorePart, frozen=True, kw_only=True):
    """One source of a projected volume."""

    config_map: ObjectProjection | None = None
    secret: ObjectProjection | None = None
    downward_api: DownwardProjection | None = field(name="downwardAPI", default=None)
    service_account_token: TokenProjection | None = None


class ProjectedVolume(CorePart, frozen=True, kw_only=True):
    """Several sources in one directory."""

    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int = 0o644


class Volume(CorePart, frozen=True, kw_only=True):
    """A directory that containers mount: exactly one source."""

    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    downward_api: DownwardVolume | None = field(name="downwardAPI", default=None)
    projected: ProjectedVolume | None = None


class VolumeMount(CorePart, frozen=True, kw_only=True):
    """Where a container sees a volume, or one path within it."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False
