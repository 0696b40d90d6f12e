"""The service as a Ray Serve application: `serve run deploy.ray_serve:application models_dir=models`.

It knows how Ray starts an app, not what is served: that is service/app.py's. An app does not travel (it holds locks
and sessions), so that each replica makes its own out of the settings, which do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from service.app import create_app
from service.errors import SettingsError
from service.settings import Settings, read_settings

AT_ONCE = 1024
"""Requests that a replica is given at a time. Ray's own limit is 5, and no batch would grow beyond it."""


def application(arguments: Mapping[str, object]) -> Application:
    """What Ray starts. The arguments are settings by the names of their fields; STILLROOM_* variables count too.

    Address, port, connections and workers are Ray's: those settings have no effect. Raises SettingsError.
    """
    names = [field.name for field in fields(Settings)]
    if unknown := sorted(arguments.keys() - set(names)):
        raise SettingsError(f"unknown argument {unknown[0]!r}; available: {', '.join(names)}")
    settings = read_settings({name: str(value) for name, value in arguments.items()}, os.environ)
    settings = replace(settings, models_dir=settings.models_dir.resolve())  # a replica may work in another folder

    def app() -> FastAPI:
        return create_app(settings)

    # Ray calls `app` in each replica and runs the app's lifespan, in which the models are loaded.
    return serve.deployment(name="stillroom", max_ongoing_requests=AT_ONCE)(serve.ingress(app)()).bind()
