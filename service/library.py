"""The library of models: finds, checks and warms up every version of a model repository, and keeps up with it.

It knows folders, versions and which model answers to a name. It does not know HTTP, requests or batches.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from service.cascade import Cascade, Found, find_cascades
from service.errors import BusyError, ModelError, NotFoundError, SettingsError
from service.machine import give_back_memory
from service.model import Model, load_model
from service.session import Device
from service.shelf import Key, Refusal, Shelf, fingerprint_of
from service.words import short

log = logging.getLogger("service")

VERSION = re.compile(r"[1-9][0-9]{0,8}")
M = TypeVar("M", bound=Model)


class Library:
    """Serves the model repository `directory`; `start` looks into it at once and again every `reload_s` seconds.

    Every version is loaded, checked and warmed up before anyone can get it. A request keeps the Model that it got,
    whatever happens to the folder meanwhile.
    """

    def __init__(
        self,
        directory: Path,
        *,
        device: Device = "auto",
        threads: int = 1,
        spin: bool = False,
        reload_s: float = 2.0,
    ) -> None:
        self.directory = directory
        self._device: Device = device
        self._threads = threads
        self._spin = spin
        self._reload_s = reload_s
        self._when_ready: list[Callable[[], None]] = []
        self._shelves: Mapping[Key, Shelf] = {}  # never changed, only replaced: whoever reads it needs no lock
        self._found_cascades = Found({}, {})  # likewise
        self._found: tuple[Mapping[Key, Shelf], dict[tuple[str | None, int | None], Model]] = self._shelves, {}
        """What `get` found on these shelves: it is called for every request."""
        self._unloaded: frozenset[str] = frozenset()
        self._looked = False
        self._troubles: set[str] = set()  # of this look; those of the one before have been told
        self._told: set[str] = set()
        self._scanning = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="library", daemon=True)

    def start(self) -> None:
        """Starts looking, in a thread: loading can take a while."""
        self._thread.start()

    def when_ready(self, call: Callable[[], None]) -> None:
        """Calls it, in the thread that looks, when models can be had where there were none."""
        self._when_ready.append(call)

    def stop(self) -> None:
        """Stops looking; what is being loaded is loaded to its end."""
        self._stopping.set()
        self._thread.join()

    def get(self, name: str | None = None, version: int | None = None) -> Model:
        """The model or cascade of that name and version; by default the newest student, else the newest model, in its
        newest version. "Newest" is by the manifest's creation time.

        Raises NotFoundError, listing what exists, and BusyError while nothing is loaded.
        """
        shelves, found = self._found
        if shelves is not self._shelves:
            shelves, found = self._found = self._shelves, {}
        if (name, version) not in found:
            found[name, version] = self._find(name, version)
        return found[name, version]

    def default_for(self, kind: Literal["image", "audio"]) -> str | None:
        """The name of the newest student, else of the newest model, that takes pictures or recordings, if any does."""
        takers = {key: model for key, model in self.models().items() if getattr(model.manifest.input, kind) is not None}
        return _default(takers).manifest.name if takers else None

    def _find(self, name: str | None, version: int | None) -> Model:
        models = self.models()
        if not models:
            raise BusyError(self.waiting_for())
        if name is None:
            name = _default(models).manifest.name
        models |= self.cascades()
        versions = {key[1]: model for key, model in models.items() if key[0] == name}
        if not versions:
            raise NotFoundError(
                f"unknown model {short(name)!r}; available: {', '.join(sorted({key[0] for key in models}))}"
            )
        if version is None:
            return max(versions.values(), key=_age)
        if version not in versions:
            raise NotFoundError(
                f"unknown version {version} of {name}; available: {', '.join(map(str, sorted(versions)))}"
            )
        return versions[version]

    def models(self) -> dict[Key, Model]:
        """Every model that is served, by name and version."""
        return {key: shelf.model for key, shelf in self._shelves.items() if shelf.model}

    def cascades(self) -> dict[Key, Cascade]:
        """Every cascade of two of them, by name and version."""
        return dict(self._found_cascades.cascades)

    def newest(self) -> list[Model]:
        """The newest version of each model, by name."""
        return _newest(self.models())

    def newest_cascades(self) -> list[Cascade]:
        """The newest version of each cascade, by name."""
        return _newest(self.cascades())

    def versions(self, name: str) -> list[int]:
        """The versions of a name that are served."""
        return sorted(key[1] for key in (*self.models(), *self.cascades()) if key[0] == name)

    @property
    def refused(self) -> list[Refusal]:
        """Every version that was refused, and why."""
        reasons = {key: shelf.reason for key, shelf in self._shelves.items() if shelf.reason}
        reasons = self._found_cascades.refused | reasons
        return [Refusal(*key, reason) for key, reason in sorted(reasons.items())]

    def waiting_for(self) -> str:
        """Why nothing is loaded."""
        if not self._looked:
            return "the models are still loading"
        if self.refused:
            return f"no model can be served: {'; '.join(refusal.reason for refusal in self.refused)}"
        return "there is no model yet: waiting for the trainer to publish one"

    @property
    def unloaded(self) -> list[Key]:
        """Every version in the repository whose model was unloaded."""
        return sorted(key for key, _ in self._version_folders() if key[0] in self._unloaded)

    def load(self, name: str) -> None:
        """Looks at once, for that model too if it was unloaded. Raises NotFoundError where there is none, ModelError
        where none of its versions can be served."""
        self._unloaded -= {name}
        self.scan()
        if not self.versions(name):
            reasons = [refusal.reason for refusal in self.refused if refusal.name == name]
            if reasons:
                raise ModelError("; ".join(reasons))
            self.get(name)

    def unload(self, name: str) -> None:
        """Serves no version of it from now on, as before if it was unloaded. Raises NotFoundError where none is."""
        if name not in self._unloaded:
            self.get(name)
            self._unloaded |= {name}
            self.scan()

    def scan(self) -> None:
        """Looks once: loads what is new or changed, drops what is gone, and swaps all of it in at once."""
        with self._scanning:
            before = self._shelves
            self._told, self._troubles = self._troubles, set()
            try:
                found = dict(self._version_folders())
            except OSError as error:
                # A volume that is away for a moment must not take the models away.
                self._once(f"cannot read the model repository {self.directory}: {error.strerror}")
                self._looked = True
                return
            folders = {key: folder for key, folder in found.items() if key[0] not in self._unloaded}
            after: dict[Key, Shelf] = {}
            for key, folder in folders.items():
                if self._stopping.is_set():
                    return
                after[key] = self._look(folder, before.get(key))
            for name, version in before.keys() - after.keys():
                why = "it was unloaded" if (name, version) in found else "its folder is gone"
                log.info("dropped %s/%d: %s", name, version, why)
            self._find_cascades(after, {name for name, _ in found})
            was_empty = not self.models()
            if after != before:
                give_back_memory()  # each file was held twice while it was loaded
            self._shelves, self._looked = after, True
            if not self.models():
                self._once(f"no model in {self.directory} can be served yet: waiting for the trainer to publish one")
            elif was_empty:
                for call in self._when_ready:
                    call()

    def _find_cascades(self, shelves: Mapping[Key, Shelf], folders: set[str]) -> None:
        before = self._found_cascades
        models = {key: shelf.model for key, shelf in shelves.items() if shelf.model}
        after = self._found_cascades = find_cascades(models, folders, self._unloaded)
        for name, version in after.cascades.keys() - before.cascades.keys():
            log.info("loaded %s/%d: cascade", name, version)
        for name, version in before.cascades.keys() - after.cascades.keys():
            log.info("dropped %s/%d: cascade", name, version)
        for (name, version), reason in after.refused.items() - before.refused.items():
            log.warning("refused %s/%d: %s", name, version, reason)

    def _version_folders(self) -> Iterator[tuple[Key, Path]]:
        """Every <name>/<version>/ of the repository; one that was never there is an empty one."""
        try:
            models = sorted(self.directory.iterdir())
        except FileNotFoundError:
            if self._shelves:
                raise
            return
        for model in models:
            try:
                if model.name.startswith(".") or not model.is_dir():
                    continue
                for version in model.iterdir():
                    if VERSION.fullmatch(version.name) and version.is_dir():
                        yield (model.name, int(version.name)), version
            except OSError as error:
                self._once(f"cannot read the model {model.name}: {error.strerror}")

    def _look(self, folder: Path, before: Shelf | None) -> Shelf:
        fingerprint = fingerprint_of(folder)
        if before is not None and before.fingerprint == fingerprint:
            return before
        place = f"{folder.parent.name}/{folder.name}"
        try:
            self._check_inside(folder)
            model = load_model(folder, device=self._device, threads=self._threads, spin=self._spin)
        except (ModelError, SettingsError) as error:
            reason = str(error)
            log.warning("refused %s: %s", place, reason)
        except Exception as error:  # whatever one folder's bytes provoke must not keep the others from being served
            reason = f"{place}: cannot be loaded ({type(error).__name__}); the log has the reason"
            log.exception("refused %s", place)
        else:
            manifest = model.manifest
            log.info(
                "loaded %s: %s, %s parameters, %s", place, manifest.role, f"{manifest.parameters:,}", model.provider
            )
            return Shelf(fingerprint, model)
        return Shelf(fingerprint, before.model if before else None, reason)

    def _check_inside(self, folder: Path) -> None:
        """Raises ModelError for a link out of the repository: whoever may write to it could have any folder read."""
        if not folder.resolve().is_relative_to(self.directory.resolve()):
            raise ModelError(f"{folder.parent.name}/{folder.name}: it is a link that leaves the repository")

    def _watch(self) -> None:
        self.scan()
        while not self._stopping.wait(self._reload_s):
            self.scan()

    def _once(self, trouble: str) -> None:
        """Logs a lasting trouble once, not at every look."""
        if trouble not in self._told:
            log.warning(trouble)
        self._troubles.add(trouble)


def _age(model: Model) -> tuple[float, int]:
    return model.manifest.created.timestamp(), model.manifest.version


def _newest(models: Mapping[Key, M]) -> list[M]:
    newest = {key[0]: model for key, model in sorted(models.items(), key=lambda item: _age(item[1]))}
    return [newest[name] for name in sorted(newest)]


def _default(models: Mapping[Key, Model]) -> Model:
    """The newest student, else the newest model."""
    return max(models.values(), key=lambda model: (model.manifest.role == "student", *_age(model)))
