"""Checks a YAML for `serve deploy`, which ignores keys that it does not know.

`python -m app.catalogue.ray.check serve.yaml`
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from app.catalogue.ray.serve import UserConfig, build, mistakes, settings_of
from app.errors import LridError
from app.families.store import release_folder

OURS = f"{build.__module__}:{build.__name__}"


def problems(text: str) -> list[str]:
    """Say what is wrong by Ray's schema and by our settings, and which releases this machine's store does not have."""
    yaml, schema = importlib.import_module("yaml"), importlib.import_module("ray.serve.schema").ServeDeploySchema
    try:
        values = yaml.safe_load(text)
        schema.model_validate(values)
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    except ValidationError as error:
        return mistakes(error)
    return [*_unknown(values, schema, ""), *(line for one in values["applications"] for line in _of_application(one))]


def _unknown(values: Any, kind: Any, place: str) -> Iterator[str]:
    """Keys that a model does not have, at any depth; `kind` is an annotation."""
    if isinstance(values, list):
        for number, value in enumerate(values):
            yield from _unknown(value, kind, f"{place}{number}.")
    models = [one for one in _models(kind) if isinstance(values, Mapping)]
    for model in models[:1]:
        names = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        for key, value in values.items():
            if key in names:
                yield from _unknown(value, names[key], f"{place}{key}.")
            else:
                yield f"{place}{key}: no such key; known are {', '.join(sorted(names))}"


def _models(kind: Any) -> list[type[BaseModel]]:
    """Models within an annotation such as `Optional[Model]` or `List[Model]`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models(inner)]


def _of_application(values: Mapping[str, Any]) -> Iterator[str]:
    if values["import_path"] != OURS:
        return
    try:
        settings = settings_of(values.get("args") or {})
        given = [one["user_config"] for one in values.get("deployments") or [] if "user_config" in one]
        for model in dict.fromkeys([settings.model, *(UserConfig.model_validate(one).model for one in given)]):
            release_folder(settings.model_store, model)
    except ValidationError as error:
        yield from mistakes(error, "user_config.")
    except ValueError as error:
        yield str(error)
    except LridError as error:
        yield error.detail


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("\n".join(found) or "nothing found that is wrong")
    sys.exit(bool(found))
