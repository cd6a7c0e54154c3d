"""A container's environment and command line, from what its author wrote.

Later definitions win over earlier ones, `env` over `envFrom`. `$(NAME)` in a value, a command or an argument stands for
a variable defined before it; `$$(NAME)` is a literal `$(NAME)`; a name that is not defined stays as it is written.
Source: Kubernetes core/v1 EnvVar. Everything here is pure: the objects referred to are handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from meltemi.api.core import ConfigMap, Container, Pod, Secret
from meltemi.api.core.volumes import EnvFromSource, EnvVarSource, KeySelector
from meltemi.local.podinfo import MissingError, Surroundings, field_value, resource_value

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")


class Objects(msgspec.Struct, frozen=True):
    """The ConfigMaps and Secrets of a namespace that a pod refers to, by name. What does not exist is not in it."""

    config_maps: Mapping[str, ConfigMap] = {}
    secrets: Mapping[str, Secret] = {}


def references(container: Container) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the ConfigMaps and of the Secrets that a container's environment refers to."""
    maps, secrets = set(), set()
    for source in container.env_from:
        if source.config_map_ref:
            maps.add(source.config_map_ref.name)
        if source.secret_ref:
            secrets.add(source.secret_ref.name)
    for variable in container.env:
        if variable.value_from and variable.value_from.config_map_key_ref:
            maps.add(variable.value_from.config_map_key_ref.name)
        if variable.value_from and variable.value_from.secret_key_ref:
            secrets.add(variable.value_from.secret_key_ref.name)
    return frozenset(maps), frozenset(secrets)


def environment(
    pod: Pod, container: Container, around: Surroundings, objects: Objects, base: Mapping[str, str]
) -> dict[str, str]:
    """The container's variables, on top of `base`. Raises MissingError, naming what is missing and is not optional."""
    result = dict(base)
    result["HOSTNAME"] = pod.metadata.name
    for source in container.env_from:
        result.update((source.prefix + key, value) for key, value in _all_keys(source, objects))
    for variable in container.env:
        if variable.value_from is None:
            result[variable.name] = expand(variable.value, result)
            continue
        value = _value_from(variable.value_from, pod, container, around, objects)
        if value is not None:
            result[variable.name] = value
    return result


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by the variable's value, and `$$` by `$`."""

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)


def command_line(container: Container, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The program and its arguments. Raises MissingError without a command: there is no image to bring one."""
    words = (*container.command, *container.args)
    if not container.command:
        raise MissingError(
            f"container {container.name} has no command; on one machine images are not used, so that spec.containers"
            "[].command must say which program to run"
        )
    return tuple(expand(word, variables) for word in words)


def _all_keys(source: EnvFromSource, objects: Objects) -> Iterator[tuple[str, str]]:
    if source.config_map_ref:
        config_map = objects.config_maps.get(source.config_map_ref.name)
        if config_map is not None:
            yield from config_map.data.items()
        elif not source.config_map_ref.optional:
            raise MissingError(f"configmap {source.config_map_ref.name!r} not found")
    if source.secret_ref:
        secret = objects.secrets.get(source.secret_ref.name)
        if secret is not None:
            yield from _texts(secret).items()
        elif not source.secret_ref.optional:
            raise MissingError(f"secret {source.secret_ref.name!r} not found")


def _value_from(
    source: EnvVarSource, pod: Pod, container: Container, around: Surroundings, objects: Objects
) -> str | None:
    if source.field_ref:
        return field_value(pod, source.field_ref.field_path, around)
    if source.resource_field_ref:
        name = source.resource_field_ref.container_name
        of = next((other for other in pod.spec.containers if other.name == name), container)
        return resource_value(of, source.resource_field_ref)
    if source.config_map_key_ref:
        selector = source.config_map_key_ref
        config_map = objects.config_maps.get(selector.name)
        return _key("configmap", selector, config_map.data if config_map else None)
    if source.secret_key_ref:
        selector = source.secret_key_ref
        secret = objects.secrets.get(selector.name)
        return _key("secret", selector, _texts(secret) if secret else None)
    return None


def _key(kind: str, selector: KeySelector, data: Mapping[str, str] | None) -> str | None:
    value = None if data is None else data.get(selector.key)
    if value is not None or selector.optional:
        return value
    if data is None:
        raise MissingError(f"{kind} {selector.name!r} not found")
    raise MissingError(f"{kind} {selector.name!r} has no key {selector.key!r}")


def _texts(secret: Secret) -> dict[str, str]:
    return {key: value.decode(errors="surrogateescape") for key, value in secret_data(secret).items()}


def secret_data(secret: Secret) -> dict[str, bytes]:
    """A Secret's bytes in clear, for the container that may read them."""
    texts = {key: value.reveal() for key, value in secret.string_data.items()}
    return {key: value.reveal() for key, value in secret.data.items()} | texts
