"""Picard plugin: the language songs are sung in, into the tag `language`. Installed as this folder; see MANIFEST.toml."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from picard.plugin3.api import BaseAction, File, OptionsPage, PluginApi
from picard.util import thread
from PyQt6.QtWidgets import QFormLayout, QLineEdit

from .asking import NAMES, Server, identify, tag_of

OPTIONS = {"server": "http://127.0.0.1:8000", "key": ""}


class IdentifyLanguage(BaseAction):  # type: ignore[misc]
    """Context menu entry."""

    TITLE = "Identify the sung language"
    api: PluginApi

    def callback(self, objs: list[Any]) -> None:
        """Asks for each file once, one after the other in Picard's threads."""
        config = self.api.plugin_config
        server = Server(config["server"], config["key"])
        for file in {file.filename: file for chosen in objs for file in chosen.iterfiles()}.values():
            names = {name: file.metadata[name] for name in NAMES}
            ask = partial(identify, server, Path(file.filename), names)
            thread.run_task(ask, partial(self._answered, file), traceback=False)

    def _answered(self, file: File, result: dict[str, Any] | None = None, error: BaseException | None = None) -> None:
        """On the main thread."""
        if result is None:
            self.api.logger.error("%s: %s", file.filename, error)
            return
        if (tag := tag_of(result)) is not None:
            file.metadata["language"] = tag
        file.metadata["~lrid_probability"] = f"{result['probability']:.2f}"
        file.update()


class ServerPage(OptionsPage):  # type: ignore[misc]
    """Address and key of the server."""

    NAME = "lrid"
    TITLE = "LRID: sung language"
    PARENT = "plugins"
    api: PluginApi

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._fields = {name: QLineEdit(self) for name in OPTIONS}
        layout = QFormLayout(self)
        for name, field in self._fields.items():
            layout.addRow(name.capitalize(), field)

    def load(self) -> None:
        for name, field in self._fields.items():
            field.setText(self.api.plugin_config[name])

    def save(self) -> None:
        for name, field in self._fields.items():
            self.api.plugin_config[name] = field.text().strip()


def enable(api: PluginApi) -> None:
    """Picard calls this once the plugin is switched on."""
    for name, default in OPTIONS.items():
        api.plugin_config.register_option(name, default)
    for kind in ("file", "track", "album", "cluster"):
        getattr(api, f"register_{kind}_action")(IdentifyLanguage)
    api.register_options_page(ServerPage)
